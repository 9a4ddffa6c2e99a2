"""What a stage depends on, as one hash: two stages with equal fingerprints have equal results."""

from __future__ import annotations

from typing import Any

from quant_lens_engine.schema.planes import PlanePart, planned_planes
from quant_lens_engine.schema.run_result import FLOAT_VARIANT
from quant_lens_engine.schema.run_spec import RunSpec, digest
from quant_lens_engine.schema.stages import InspectPayload, StageKey
from quant_lens_engine.version import __version__, source_hash


def stage_fingerprint(spec: RunSpec, inspect: InspectPayload, key: StageKey) -> str:
    """The fingerprint of one stage of a run whose ``inspect`` stage is finished.

    Only what the stage reads is hashed: another preset of lines leaves a stored curvature valid, and the float
    model's stages serve every run on the same model and data.
    """
    analyses = spec.analyses
    options = {
        "curvature": analyses.curvature,
        "line": analyses.line,
        "activations": analyses.activations,
        "batchnorm": analyses.batchnorm,
    }
    read = ("curvature",) if key.kind == "verdict" else (key.kind,)
    recipe = next((recipe for recipe in spec.schemes if recipe.name == key.variant), None)
    return digest(
        _piece(spec, key)
        | {
            "stage": key.kind,
            "scheme": None if recipe is None or key.variant == FLOAT_VARIANT else recipe.name,
            "options": {kind: options[kind].model_dump(mode="json") for kind in read if kind in options},
            "model": inspect.model.model_dump(mode="json", include={"sha256", "architecture"}),
            "path": spec.model.path,  # of a path only the engine process tells the hash
            "part": spec.model.part,
            "adapter": spec.model.adapter,
            "checkpoints": list(spec.model.checkpoints) if key.kind in ("line", "plane") else [],
            "architecture": {"source": inspect.architecture_source, "options": spec.model.options}
            | ({"libraries": inspect.libraries} if inspect.libraries else {}),
            "data": inspect.data.model_dump(
                mode="json", include={"sha256", "samples", "batch_size", "calibration_sha256", "calibration_samples"}
            ),
            "limit": spec.data.limit,
            "transform": spec.data.transform.model_dump(mode="json"),
            "text": spec.data.text.model_dump(mode="json"),
            "calibration": spec.data.calibration.model_dump(mode="json"),
            "task": spec.task,
            "seed": spec.seed,
            "execution": inspect.execution,
            "engine": {"version": __version__, "source": source_hash()},
        }
    )


def _piece(spec: RunSpec, key: StageKey) -> dict[str, Any]:
    """Of a piece of a plane: which one, and the variants that are marked on it."""
    if key.part is None:
        return {}
    options, part = spec.analyses.plane, PlanePart.parse(key.part)
    schemes = [recipe.name for recipe in spec.schemes]
    plane = planned_planes(options, schemes)[part.plane]
    return {
        "plane": {"landscape": plane.landscape, "directions": plane.directions, "rows": part.rows(options.points)},
        "grid": {"points": options.points, "distance": options.distance},
        "sampling": {"kind": options.sampling, "tolerance": options.tolerance},
        "schemes": schemes,
        "curvature": spec.analyses.curvature.model_dump(mode="json"),  # eigenvectors are its
    }
