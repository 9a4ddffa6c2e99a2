"""What is measured, and how hard: the options of each analysis, and the presets that choose them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from quant_lens_engine.schema.base import Request
from quant_lens_engine.schema.direction_name import DRAWN, OWN, DirectionField, DirectionName
from quant_lens_engine.schema.landscape import Landscape

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
    """The loss along shared directions.

    Attributes:
        kinds: of directions: ``random`` (filter-normalised), ``random-layer``, ``random-raw``, ``error`` (of the
            variant's quantization), ``eigenvector:N``, ``gradient``, ``to:VARIANT``, ``checkpoint:N``, ``pca:N``.
        path: whether the line from FP32 to each variant is measured too.
        directions: how many random ones; several give a mean and a band.
        steps: points on the grid; an even number becomes one more, so that α = 0 is always sampled.
        distance: the grid spans −distance to +distance, in units of the direction (‖θ‖ per filter for random ones);
            null: as far as the float loss needs to double, the same for every variant.
    """

    kinds: tuple[DirectionField, ...] = Field(default=("random",), min_length=1, max_length=16)
    path: bool = True
    directions: int = Field(default=3, ge=1, le=64)
    steps: int = Field(default=31, ge=3, le=1001)
    distance: float | None = Field(default=None, gt=0, le=1e6)

    @field_validator("kinds")
    @classmethod
    def _stand_around_the_variant(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        """A path starts elsewhere: as one of these lines its points would be neither."""
        if any(DirectionName.parse(kind).kind == "path" for kind in kinds):
            raise ValueError("the path from FP32 is no kind of line around a variant: ask for it by path=true")
        return kinds

    @property
    def points(self) -> int:
        """The odd number of grid points."""
        return self.steps + 1 - self.steps % 2


def line_points(options: LineOptions) -> int:
    """Points of one landscape along every direction of every kind; all share the one at α = 0.

    Example:
        >>> line_points(LineOptions(kinds=["random", "gradient"], directions=3, steps=11))
        41
    """
    directions = sum(options.directions if DirectionName.parse(kind).kind in DRAWN else 1 for kind in options.kinds)
    return directions * (options.points - 1) + 1


class PlaneOptions(Request):
    """The loss over pairs of directions.

    Attributes:
        pairs: of directions, by the names that ``line.kinds`` has, but for ``error``; empty: the plane through FP32
            and the first two variants (or the only one, and a random direction).
        variants: whose network is measured on each; empty: every variant's. The float model's by default.
        landscapes: ``smooth``, ``deployed`` or both; the float model's two are one.
        steps: points along each direction; an even number becomes one more; 0: no plane.
        distance: both axes span −distance to +distance, in units of the directions; null: far enough for the points it
            is laid through, and for the float loss to double.
        sampling: ``full`` measures every point. ``adaptive`` halves each row of a smooth plane until what is left is
            foretold by what was measured; those points are marked as estimated, with their error.
        tolerance: of adaptive sampling: the largest error of an estimated loss, as a share of the loss there (of the
            rise that ends a basin where the loss is below it).
    """

    pairs: tuple[tuple[DirectionField, DirectionField], ...] = Field(default=(), max_length=8)
    variants: tuple[str, ...] = Field(default=("FP32",), max_length=65)
    landscapes: tuple[Landscape, ...] = Field(default=("smooth",), min_length=1, max_length=2)
    steps: int = Field(default=41, ge=0, le=201)
    distance: float | None = Field(default=None, gt=0, le=1e6)
    sampling: Literal["full", "adaptive"] = "full"
    tolerance: float = Field(default=0.15, gt=0, le=0.5)

    @field_validator("pairs")
    @classmethod
    def _two_of_a_kind_differ(cls, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """A kind named twice means its first and its second."""
        named = [(one, f"{two}:2") if one == two and ":" not in one else (one, two) for one, two in pairs]
        for one, two in named:
            for name in (one, two):
                if DirectionName.parse(name).kind in OWN:
                    raise ValueError(f"{name!r} is another direction for each variant: lead a plane along to:VARIANT")
            if one == two:
                raise ValueError(f"a plane needs two different directions, not {one!r} twice")
        return tuple(named)

    @property
    def points(self) -> int:
        """The odd number of grid points along each direction; 0: no plane."""
        return self.steps + 1 - self.steps % 2 if self.steps else 0


class ActivationOptions(Request):
    """What each layer gives: ranges, outliers, SQNR, histograms.

    Attributes:
        enabled: whether it is measured at all.
        bins: of each histogram; a divisor of 2048.
    """

    enabled: bool = True
    bins: Literal[16, 32, 64, 128, 256] = 64


class BatchNormOptions(Request):
    """Running statistics against the data's.

    Attributes:
        enabled: whether it is measured at all.
        reestimate: whether the loss with the data's statistics is measured too: half a forward pass over the rows that
            they come from for each normalisation, and two over the sample.
        rows: how many rows new statistics come from, at most.
    """

    enabled: bool = True
    reestimate: bool = True
    rows: int = Field(default=512, ge=2, le=100_000)


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
        "plane": {"steps": 21},
        "activations": {"bins": 32},
        "batchnorm": {},
    },
    "standard": {"curvature": {}, "line": {}, "plane": {}, "activations": {}, "batchnorm": {}},
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
        "plane": {},
        "activations": {"bins": 128},
        "batchnorm": {},
    },
}

PRESET_DESCRIPTIONS: dict[str, str] = {
    "quick": "loss and accuracy, λmax, λmin, a rough trace and density, one direction, a plane of 21\u00a0×\u00a021",
    "standard": "five eigenvalues of each end, trace to 2 %, density, layers, sharpness, three directions, "
    "a plane of 41\u00a0×\u00a041",
    "thorough": "ten eigenvalues of each end, trace to 1 %, a finer density, layers of every variant, "
    "seven directions, a plane of 41\u00a0×\u00a041",
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
    plane: PlaneOptions = PlaneOptions()
    activations: ActivationOptions = ActivationOptions()
    batchnorm: BatchNormOptions = BatchNormOptions()

    @property
    def left_out(self) -> frozenset[str]:
        """The stages that are switched off."""
        switches = {"activations": self.activations.enabled, "batchnorm": self.batchnorm.enabled}
        return frozenset(kind for kind, enabled in switches.items() if not enabled)

    @model_validator(mode="before")
    @classmethod
    def _complete_from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        preset = _PRESETS.get(value.get("preset", "standard"), {})
        changed = {key: value.get(key, {}) for key in preset}
        merged = {key: preset[key] | item for key, item in changed.items() if isinstance(item, dict)}
        return {**value, **merged}
