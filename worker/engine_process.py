"""The child that does the science. Requests and answers are JSON lines; the only module here that loads torch.

==================  =========================================================  ==================================
request ``op``      fields                                                     answers
==================  =========================================================  ==================================
``capabilities``    plugins, trusted                                           ``capabilities``
``ahead``                                                                      (none; it ends when another one waits)
``open``            spec, files, plugins, trusted, execution                   (the next ``unit`` says how it went)
``unit``            stages, known, checkpoints                                 ``progress``, ``result`` or
                                                                               ``failed`` a stage, ``unit_done``
``inspect_file``    path, filename, plugins, trusted                           ``answer`` or ``failed``
``check``           spec, files, plugins, trusted                              ``answer`` or ``failed``
==================  =========================================================  ==================================

``trusted``: a model file that is code (TorchScript, a pickled module) may be run to read it.

The end of the input ends the process at once: whoever asked is gone. It is started by ``worker/sandbox/inside.py``,
which raises the walls around it.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from quant_lens_engine.errors import InternalFault, NumericalError, QuantLensError, is_out_of_memory
from quant_lens_engine.schema import PAYLOADS, Record, RunSpec, StageKey
from worker.sandbox.plan import Plan

_REPORT_EVERY_S = 0.1
_waiting: queue.Queue[dict[str, Any]] = queue.Queue()


class Answers:
    """The way back to the worker. Also the engine's ``Progress``."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._last: tuple[str, float] = ("", 0.0)

    def say(self, kind: str, **fields: Any) -> None:
        """One message."""
        line = json.dumps({"type": kind, **fields}, allow_nan=False).encode() + b"\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Progress of a stage; said ten times a second at most."""
        last_stage, last_time = self._last
        now = time.monotonic()
        if stage != last_stage or done >= total or now - last_time >= _REPORT_EVERY_S:
            self._last = stage, now
            self.say("progress", stage=stage, done=done, total=total, note=note)

    def check_cancelled(self) -> None:
        """A cancel comes as a signal that nothing survives."""


class Session:
    """One job: its requests in order."""

    def __init__(self, answers: Answers, waiting: queue.Queue[dict[str, Any]]) -> None:
        self._answers = answers
        self._waiting = waiting
        self._workbench: Any = None
        self._cause: QuantLensError | None = None

    def handle(self, request: Mapping[str, Any]) -> None:
        """Do what one request asks for; what fails is answered, typed."""
        getattr(self, f"_on_{request['op']}")(request)

    def _on_capabilities(self, request: Mapping[str, Any]) -> None:
        from quant_lens_engine.capabilities import capabilities, devices

        facts, problems = capabilities(_folder(request), trusted=_is_trusted(request))
        self._answers.say(
            "capabilities", facts=facts.model_dump(mode="json"), devices=devices(), problems=problems
        )  # fmt: skip

    def _on_ahead(self, _: Mapping[str, Any]) -> None:
        """Use the time until the job comes; within all walls, like everything that is imported later."""
        from quant_lens_engine.intake.ahead import steps

        for step in steps():
            if not self._waiting.empty():
                return
            step()

    def _on_open(self, request: Mapping[str, Any]) -> None:
        from quant_lens_engine.analysis import Workbench

        try:
            self._workbench = Workbench.open(
                RunSpec.model_validate(request["spec"]),
                files={name: Path(path) for name, path in request["files"].items()},
                plugins=_folder(request),
                trusted=_is_trusted(request),
                execution=request["execution"],
                progress=self._answers,
            )
        except Exception as error:
            self._cause = _typed(error)

    def _on_unit(self, request: Mapping[str, Any]) -> None:
        known = {
            key: PAYLOADS[key.kind].model_validate(payload)
            for key, payload in ((StageKey.parse(name), value) for name, value in request["known"].items())
        }
        for key in map(StageKey.parse, request["stages"]):
            try:
                payload = self._compute(key, known, request["checkpoints"].get(str(key)))
            except Exception as error:
                self._answers.say("failed", stage=str(key), error=_typed(error).as_dict())
            else:
                known[key] = payload
                self._answers.say("result", stage=str(key), payload=payload.model_dump(mode="json"))
        self._answers.say("unit_done")

    def _compute(self, key: StageKey, known: Mapping[StageKey, Record], checkpoint: str | None) -> Record:
        if self._cause is not None:
            raise self._cause
        self._answers.report(str(key), 0, 1)
        started = time.monotonic()
        payload: Record = self._workbench.run(key, known, None if checkpoint is None else Path(checkpoint))
        return payload.model_copy(update={"elapsed_s": time.monotonic() - started})

    def _on_inspect_file(self, request: Mapping[str, Any]) -> None:
        from quant_lens_engine.intake import inspect_file

        try:
            found = inspect_file(
                Path(request["path"]), filename=request["filename"], plugins=_folder(request),
                trusted=_is_trusted(request),
            )  # fmt: skip
        except Exception as error:
            self._answers.say("failed", error=_typed(error).as_dict())
        else:
            self._answers.say("answer", result=found.model_dump(mode="json"))

    def _on_check(self, request: Mapping[str, Any]) -> None:
        from quant_lens_engine.analysis import check_baseline

        files = {name: Path(path) for name, path in request["files"].items()}
        try:
            spec = RunSpec.model_validate(request["spec"])
            found = check_baseline(spec, files, _folder(request), trusted=_is_trusted(request))
        except Exception as error:
            self._answers.say("failed", error=_typed(error).as_dict())
        else:
            self._answers.say("answer", result=found.model_dump(mode="json"))


def prepare(plan: Plan) -> None:
    """Listen, so that an end of the input is noticed from now on, and import torch before the first request asks."""
    del plan
    threading.Thread(target=_read_requests, daemon=True, name="requests").start()
    importlib.import_module("quant_lens_engine.analysis")


def main(plan: Plan) -> None:
    """Serve the requests on standard input until it ends."""
    session = Session(Answers(os.fdopen(plan.answers_fd, "wb", closefd=False)), _waiting)
    while True:
        session.handle(_waiting.get())


def _read_requests() -> None:
    """Beside the work, so that the end of the input is noticed at once."""
    for line in sys.stdin.buffer:
        _waiting.put(json.loads(line))
    os._exit(0)


def _folder(request: Mapping[str, Any]) -> Path | None:
    return None if request["plugins"] is None else Path(request["plugins"])


def _is_trusted(request: Mapping[str, Any]) -> bool:
    return request["trusted"] is True


def _typed(error: Exception) -> QuantLensError:
    """Any exception as one of ours. What is not ours is logged in full and told without its text (paths)."""
    if isinstance(error, QuantLensError):
        return error
    traceback.print_exception(error)
    if is_out_of_memory(error):
        return NumericalError(
            "not enough memory for this model and batch size",
            hint="use a smaller batch_size or micro_batch, or fewer rows",
            code="out_of_memory",
        )
    return InternalFault(f"{type(error).__name__} in the engine", hint="the worker's log says more")
