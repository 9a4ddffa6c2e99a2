"""What is measured, and how hard: the options of each analysis, and the presets that choose them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from quant_lens_engine.schema.base import Request

PresetName = Literal["quick", "standard", "thorough"]


class CurvatureOptions(Request):
    """λmax, λmin and the trace of the loss Hessian.

    Attributes:
        top: how many of the largest eigenvalues.
        tolerance: relative accuracy aimed at for λmax and λmin.
        max_products: cap on Lanczos' Hessian-vector products.
        trace_probes: Rademacher probes of the trace.
        confidence: of the interval ``lower`` to ``upper``.
    """

    top: int = Field(default=1, ge=1, le=64)
    tolerance: float = Field(default=1e-4, gt=0, le=0.1)
    max_products: int = Field(default=100, ge=2, le=5000)
    trace_probes: int = Field(default=64, ge=2, le=4096)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class LineOptions(Request):
    """The loss along shared, filter-normalised random directions.

    Attributes:
        directions: how many; several give a mean and a band.
        steps: points on the grid; an even number becomes one more, so that α = 0 is always sampled.
        distance: the grid spans −distance to +distance, in units of ‖θ‖ per filter.
    """

    directions: int = Field(default=3, ge=1, le=64)
    steps: int = Field(default=31, ge=3, le=1001)
    distance: float = Field(default=1.0, gt=0, le=100)

    @property
    def points(self) -> int:
        """The odd number of grid points."""
        return self.steps + 1 - self.steps % 2


_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {"curvature": {"trace_probes": 24, "tolerance": 1e-3}, "line": {"directions": 1, "steps": 21}},
    "standard": {"curvature": {}, "line": {}},
    "thorough": {
        "curvature": {"top": 5, "tolerance": 1e-5, "max_products": 300, "trace_probes": 256},
        "line": {"directions": 7, "steps": 51},
    },
}

PRESET_DESCRIPTIONS: dict[str, str] = {
    "quick": "loss and accuracy, λmax, λmin, a rough trace, one direction",
    "standard": "trace with 64 probes, three directions, 31 points each",
    "thorough": "five eigenvalues, trace with 256 probes, seven directions, 51 points each",
}


class Analyses(Request):
    """A preset, with any option of it changed.

    Example:
        >>> Analyses(preset="quick", line={"steps": 5}).line.directions
        1
    """

    preset: PresetName = "standard"
    curvature: CurvatureOptions = CurvatureOptions()
    line: LineOptions = LineOptions()

    @model_validator(mode="before")
    @classmethod
    def _complete_from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        preset = _PRESETS.get(value.get("preset", "standard"), {})
        changed = {key: value.get(key, {}) for key in preset}
        merged = {key: preset[key] | item for key, item in changed.items() if isinstance(item, dict)}
        return {**value, **merged}
