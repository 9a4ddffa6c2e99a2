"""How long work tells where it is, and learns that it should stop."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """What a long computation calls while it works.

    An implementation may raise :class:`quant_lens_engine.errors.Cancelled` from ``check_cancelled``;
    the computation lets it through after putting back whatever it touched.
    """

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` units of ``stage`` are finished; ``note`` says one thing about the current one.

        ``stage`` is a stage's key such as ``"curvature/int8"`` (see :class:`quant_lens_engine.schema.StageKey`).
        """

    def check_cancelled(self) -> None:
        """Raise ``Cancelled`` if the work should stop."""


class Silent:
    """Progress that nobody watches.

    Example:
        >>> Silent().report("line/int8", 1, 3)
    """

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Say nothing."""

    def check_cancelled(self) -> None:
        """Never stop."""


SILENT: Progress = Silent()
"""The default of every ``progress`` argument."""
