"""What is measured, and how hard: the options of each analysis, and the presets that choose them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from quant_lens_engine.schema.base import Request

PresetName = Literal["quick", "standard", "thorough"]
LayerEigenvalues = Literal["none", "float", "all"]


class CurvatureOptions(Request):
    """The spectrum of the loss Hessian, its trace, its layers, and sharpness in norms of filters.

    Attributes:
        top: how many of the largest eigenvalues.
        bottom: how many of the smallest.
        tolerance: relative accuracy aimed at for each of them.
        max_products: cap on Lanczos' Hessian-vector products.
        trace_error: standard error of the trace to stop at, relative to it; ``trace_probes`` is the cap.
        trace_probes: random probes of the trace, at most.
        density_runs: random start vectors of the spectral density; 0: none apart from the first Lanczos process, so
            no band, which the notes of the curvature say.
        density_steps: products of each.
        layer_eigenvalues: whose layers get a largest eigenvalue of their own: of the float model, of every variant.
        sharpness: whether the forms in norms of filters, and SAM's, are measured.
        radius: ρ of the worst-case rise, within ‖ε‖ ≤ ρ (ten times that within ‖D⁻¹ε‖, as in the papers).
        confidence: of the interval ``lower`` to ``upper``, of every estimate.
    """

    top: int = Field(default=5, ge=1, le=64)
    bottom: int = Field(default=5, ge=1, le=64)
    tolerance: float = Field(default=1e-4, gt=0, le=0.1)
    max_products: int = Field(default=150, ge=2, le=5000)
    trace_error: float = Field(default=0.02, gt=0, le=1)
    trace_probes: int = Field(default=64, ge=2, le=4096)
    density_runs: int = Field(default=4, ge=0, le=64)
    density_steps: int = Field(default=12, ge=2, le=500)
    layer_eigenvalues: LayerEigenvalues = "float"
    sharpness: bool = True
    radius: float = Field(default=0.05, gt=0, le=10)
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
    "quick": {
        "curvature": {
            "top": 1,
            "bottom": 1,
            "tolerance": 1e-3,
            "trace_error": 0.05,
            "trace_probes": 24,
            "density_runs": 2,
            "density_steps": 8,
            "layer_eigenvalues": "none",
            "sharpness": False,
        },
        "line": {"directions": 1, "steps": 21},
    },
    "standard": {"curvature": {}, "line": {}},
    "thorough": {
        "curvature": {
            "top": 10,
            "bottom": 10,
            "tolerance": 1e-5,
            "max_products": 400,
            "trace_error": 0.01,
            "trace_probes": 256,
            "density_runs": 8,
            "density_steps": 20,
            "layer_eigenvalues": "all",
        },
        "line": {"directions": 7, "steps": 51},
    },
}

PRESET_DESCRIPTIONS: dict[str, str] = {
    "quick": "loss and accuracy, λmax, λmin, a rough trace and density, one direction",
    "standard": "five eigenvalues of each end, trace to 2 %, density, layers, sharpness, three directions",
    "thorough": "ten eigenvalues of each end, trace to 1 %, a finer density, layers of every variant, seven directions",
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
