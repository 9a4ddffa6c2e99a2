"""The stages of a run: what each one yields, and which must be finished before it.

A *stage* is what is committed, shown and reused: ``inspect``, ``evaluate/int8``, ``curvature/FP32`` … A *unit* is
what one worker claims at a time: the stages of one variant share a quantized model and are computed together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from quant_lens_engine.schema.activations import Activations
from quant_lens_engine.schema.base import MaybeFloat, Record
from quant_lens_engine.schema.batchnorm import BatchNormDrift
from quant_lens_engine.schema.curvature import Curvature
from quant_lens_engine.schema.landscape import Line, Plane
from quant_lens_engine.schema.planes import plane_parts, planned_planes
from quant_lens_engine.schema.run_result import (
    FLOAT_VARIANT,
    Activation,
    DataFacts,
    Evaluation,
    Layer,
    ModelFacts,
    SkippedLayer,
    Verdict,
)
from quant_lens_engine.schema.run_spec import RunSpec

PARTED_STAGES: frozenset[str] = frozenset({"plane"})
"""Stages that are computed in pieces, by whoever is free."""


class StageKey(NamedTuple):
    """A stage's name; ``variant`` is None for a stage of the whole run, ``part`` for one that comes in one piece.

    Example:
        >>> str(StageKey("evaluate", "int8")), StageKey.parse("inspect")
        ('evaluate/int8', StageKey(kind='inspect', variant=None, part=None))
        >>> StageKey.parse("plane/FP32#0.07")
        StageKey(kind='plane', variant='FP32', part='0.07')
    """

    kind: str
    variant: str | None = None
    part: str | None = None

    def __str__(self) -> str:
        name = self.kind if self.variant is None else f"{self.kind}/{self.variant}"
        return name if self.part is None else f"{name}#{self.part}"

    @classmethod
    def parse(cls, text: str) -> StageKey:
        """The inverse of ``str``."""
        kind, _, variant = text.partition("/")
        if kind not in PARTED_STAGES:
            return cls(kind, variant or None)
        variant, _, part = variant.rpartition("#")
        return cls(kind, variant, part)


class InspectPayload(Record):
    """``inspect``: what was loaded, and the execution block that every worker of the run uses from here on.

    ``architecture_source`` is the hash of the plug-in file that supplied the architecture, if one did; ``libraries``
    are those whose code the network is, with their versions.
    """

    model: ModelFacts
    data: DataFacts
    execution: dict[str, Any]
    architecture_source: str | None = None
    libraries: dict[str, str] = {}
    notes: list[str] = []
    elapsed_s: float = 0.0


class EvaluatePayload(Record):
    """``evaluate``: what the variant is, and what it measures; its fields are those of a ``Variant``."""

    effective_bits: MaybeFloat = None
    size_bytes: int | None = None
    quantized_layers: int | None = None
    skipped_layers: list[SkippedLayer] = []
    layers: list[Layer] = []
    activations: list[Activation] = []
    calibrated_by: list[str] = []
    notes: list[str] = []
    unmapped: str | None = None
    evaluation: Evaluation
    elapsed_s: float = 0.0


class CurvaturePayload(Record):
    """``curvature``: the ends of the spectrum and the trace."""

    curvature: Curvature
    elapsed_s: float = 0.0


class LinePayload(Record):
    """``line``: the deployed and the smooth landscape along the shared directions, and the path from FP32."""

    lines: list[Line]
    path: Line | None = None
    elapsed_s: float = 0.0


class PlanePayload(Record):
    """``plane``: some rows of a plane; the rest of its record is the same in every piece."""

    plane: Plane
    elapsed_s: float = 0.0


class ActivationsPayload(Record):
    """``activations``: ranges, outliers, histograms and SQNR of each layer."""

    activations: Activations
    elapsed_s: float = 0.0


class BatchNormPayload(Record):
    """``batchnorm``: running statistics against the data's, and the effect of re-estimating them."""

    batchnorm: BatchNormDrift
    elapsed_s: float = 0.0


class VerdictPayload(Record):
    """``verdict``: the level of one variant, with its reasons."""

    verdict: Verdict
    elapsed_s: float = 0.0


PAYLOADS: dict[str, type[Record]] = {
    "inspect": InspectPayload,
    "evaluate": EvaluatePayload,
    "curvature": CurvaturePayload,
    "line": LinePayload,
    "plane": PlanePayload,
    "activations": ActivationsPayload,
    "batchnorm": BatchNormPayload,
    "verdict": VerdictPayload,
}
"""What each kind of stage yields; a worker validates an engine process's answer against it."""

VARIANT_STAGES: tuple[str, ...] = ("evaluate", "curvature", "line", "activations", "batchnorm")
"""What is computed for every variant, in this order; the last two only where the run asks for them."""

ESSENTIAL_STAGES: frozenset[str] = frozenset({"inspect", "evaluate"})
"""Without these a run has failed; any other stage that fails is listed and the run goes on."""


class Unit(NamedTuple):
    """What one worker claims: some stages, once every unit of ``after`` is finished."""

    id: str
    stages: tuple[StageKey, ...]
    after: tuple[str, ...]


def plan_units(spec: RunSpec) -> list[Unit]:
    """Every unit of a run, in the order in which a single worker takes them.

    Example:
        >>> spec = RunSpec(model={"example": "digits-mlp"}, data={"example": "digits"}, schemes=["int8"],
        ...                analyses={"plane": {"steps": 5}})
        >>> [unit.id for unit in plan_units(spec)]
        ['inspect', 'FP32', 'int8', 'verdict:int8', 'plane/FP32#0.00', 'plane/FP32#0.01']
    """
    units = [Unit("inspect", (StageKey("inspect"),), ()), _variant_unit(FLOAT_VARIANT, spec)]
    for scheme in spec.schemes:
        units.append(_variant_unit(scheme.name, spec))
        verdict = StageKey("verdict", scheme.name)
        units.append(Unit(f"verdict:{scheme.name}", (verdict,), (FLOAT_VARIANT, scheme.name)))
    return [*units, *_plane_units(spec)]


def _plane_units(spec: RunSpec) -> Iterator[Unit]:
    """A unit a piece: every worker that is free takes the next one, once the models that it needs could be made."""
    options = spec.analyses.plane
    for plane in planned_planes(options, [scheme.name for scheme in spec.schemes]):
        for part in plane_parts(plane, options):
            key = StageKey("plane", plane.variant, str(part))
            yield Unit(str(key), (key,), ("inspect", *plane.models))


def plan_stages(spec: RunSpec) -> Iterator[StageKey]:
    """Every stage of a run, in order."""
    for unit in plan_units(spec):
        yield from unit.stages


def _variant_unit(variant: str, spec: RunSpec) -> Unit:
    left_out = spec.analyses.left_out
    return Unit(
        variant, tuple(StageKey(kind, variant) for kind in VARIANT_STAGES if kind not in left_out), ("inspect",)
    )
