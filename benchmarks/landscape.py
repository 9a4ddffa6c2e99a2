"""What a point of a landscape costs over a pure forward pass. ``python -m benchmarks.landscape``."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.workload import cpu_ms, record, workloads
from quant_lens_engine.landscape import measure_lines
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema.analyses import LineOptions


def forward_alone(objective: Objective) -> None:
    """The floor: the model's own forward under ``inference_mode``, no loss, no accuracy, no change of weights."""
    with torch.inference_mode():
        for batch in objective.batches():
            objective.model(batch.content[0])


def figures_of(name: str, objective: Objective) -> dict[str, Any]:
    """CPU time of one model's points, in forward passes."""
    variant = quantize(objective.model, "int4")
    options = LineOptions(directions=1, steps=31)
    floor = cpu_ms(lambda: forward_alone(objective), repeats=20)
    smooth, both = (
        cpu_ms(
            lambda redeploy=redeploy: measure_lines(
                objective,
                base_point=objective.point,
                variant=variant.live(objective),
                redeploy=redeploy,
                options=options,
            ),
            repeats=3,
        )
        for redeploy in (None, variant.redeploy)
    )
    return {
        "model": name,
        "forward, ms": floor,
        "a smooth point, in forwards": smooth / options.points / floor,
        "a deployed point, in forwards": (both - smooth) / options.points / floor,
        "points a second": 2e3 * options.points / both,
    }


def main() -> None:
    """Measure every example."""
    torch.set_num_threads(1)
    record("landscape", [figures_of(name, objective) for name, objective in workloads().items()])


if __name__ == "__main__":
    main()
