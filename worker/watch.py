"""Listening to an engine process while an eye is kept on its time, its memory, its disk and the order to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import ErrorBody
from worker.engine import Engine

_LISTEN_S = 0.1
_LOOK_EVERY_S = 0.5


class Stopped(Exception):  # noqa: N818  (not an error)
    """The worker is to end, or its claim is over: leave the engine and the work."""


class OverLimit(QuantLensError):  # noqa: N818  (says what happened)
    """The engine process has used up its time, its memory or its disk; what it is at fails with this."""

    default_code = "over_limit"


def answers(engine: Engine, *, until: float, is_stopped: Callable[[], bool]) -> Iterator[dict[str, Any] | None]:
    """What the engine says, as it says it; None about ten times a second when it says nothing.

    Args:
        engine: the process.
        until: ``time.monotonic()`` at which its time is over.
        is_stopped: asked each time.

    Raises:
        Stopped: ``is_stopped`` said so.
        OverLimit: ``time_limit``, ``memory_limit`` or ``disk_limit``.
        EngineDied: the process has ended.
    """
    looked_at = time.monotonic()
    while True:
        message = engine.receive(_LISTEN_S)
        if is_stopped():
            raise Stopped
        now = time.monotonic()
        if now >= until:
            raise OverLimit(
                "the work took longer than this server allows", hint="use fewer rows or a quicker preset",
                code="time_limit",
            )  # fmt: skip
        if now - looked_at >= _LOOK_EVERY_S:
            looked_at = now
            _look(engine)
        yield message


def _look(engine: Engine) -> None:
    if engine.memory_bytes() > engine.limits.memory_bytes:
        raise OverLimit(
            f"the work needs more than the {engine.limits.memory_bytes / 2**30:.1f} GiB that this worker allows",
            hint="use a smaller batch_size or micro_batch, or fewer rows",
            code="memory_limit",
        )
    if engine.disk_bytes() > engine.limits.folder_bytes:
        raise OverLimit(
            f"the work writes more than the {engine.limits.folder_bytes / 2**30:.1f} GiB that this worker allows",
            hint="no computation needs so much: look at the model file, or tell us of it",
            code="disk_limit",
        )


def error_body(error: QuantLensError) -> ErrorBody:
    """An error as records keep it."""
    return ErrorBody.model_validate(error.as_dict())
