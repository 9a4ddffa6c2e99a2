"""Accuracy, loss and KL of many schemes and algorithms on one network, side by side.

    python -m benchmarks.schemes --model FILE --data FILE [--plugins DIR] [--transform JSON] [--limit N] [--name NAME]

The figures in ``results/schemes-resnet20.md`` are those of a CIFAR-10 ResNet-20 (plug-in ``examples/plugins``) on the
first 1000 test images: 744 are measured, the other 256 calibrate.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.workload import record
from quant_lens_engine.evaluation import FloatOutputs, evaluate, float_outputs
from quant_lens_engine.execution import computing, resolve_execution
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema import Recipe, parse_recipe, parse_run_spec
from quant_lens_engine.subject import Subject, file_sha256

SCHEMES = (
    "int8", "int8-tensor", "int6", "int5", "int4", "int4-tensor", "int4-g32", "int4-g32-asym", "int3", "int3-g32",
    "int2-g32", "fp8-e4m3", "fp8-e5m2", "mxfp8-e4m3", "mxfp6-e2m3", "mxfp6-e3m2", "mxfp4", "mxint8", "nvfp4", "nf4-g64",
    "w8a8", "w8a8-percentile", "w8a8-mse", "w8a8-entropy", "w8a8-histogram", "w8a8-dynamic", "w8a8-fp8",
    "w8a8-fp8-dynamic", "w4a8", "w4a8-dynamic", "w4a4", "w4a4-mse", "w4a4-nvfp4", "w4a4-mxfp4", "w16a4",
)  # fmt: skip
ALGORITHMS = ("clip", "equalize", "bias-correction", "awq", "gptq", "gptq:act_order=true", "adaround", "qat", "qat-sam")
AT = ("int4", "int3", "int3-g32")
WITH_ACTIVATIONS = ("w4a4+smoothquant", "w4a4-mse+gptq", "w4a4-mse+gptq+bias-correction")


def recipes() -> list[str]:
    """Every scheme, then every algorithm at 4 bits and below."""
    low = [f"{scheme}+{algorithm}" for scheme in AT for algorithm in ALGORITHMS]
    return [*SCHEMES, *low, *WITH_ACTIVATIONS, "float+qat", "float+qat-sam"]


def measured(objective: Objective, calibration: Objective, reference: FloatOutputs, recipe: Recipe) -> dict[str, Any]:
    """One row of the table."""
    started = time.perf_counter()
    variant = quantize(objective.model, recipe, calibration)
    made = time.perf_counter() - started
    found = evaluate(variant.live(objective), reference=reference)
    return {
        "recipe": recipe.name,
        "bits": variant.effective_bits,
        "accuracy, %": 100 * (found.accuracy or 0.0),
        "loss": found.loss,
        "ΔL": found.delta_loss,
        "± (paired)": found.delta_loss_standard_error,
        "KL to FP32": found.kl_to_float,
        "made in, s": made,
    }


def main() -> None:
    """Measure the float model and every recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--plugins", type=Path)
    parser.add_argument("--transform", default="{}")
    parser.add_argument("--limit", type=int, default=744)
    parser.add_argument("--calibration-limit", type=int, default=256)
    parser.add_argument("--name", default="resnet20")
    given = parser.parse_args()
    files = {file_sha256(path): path for path in (given.model, given.data)}
    model, data = files
    spec = parse_run_spec({
        "model": {"file": model},
        "data": {"file": data, "limit": given.limit, "transform": json.loads(given.transform),
                 "calibration": {"limit": given.calibration_limit}},
        "schemes": ["w8a8"],  # one that calibrates; a run holds 64 at most
    })  # fmt: skip
    subject = Subject.read(spec, files, given.plugins)
    block = resolve_execution(spec.execution, subject.objective, batch_size=spec.data.batch_size)
    with computing(block):
        objective = subject.objective(block)
        calibration = subject.calibration_objective(objective, block)
        assert calibration is not None
        reference = float_outputs(objective)
        plain = evaluate(objective)
        rows: list[dict[str, Any]] = [{
            "recipe": "FP32", "bits": 32.0, "accuracy, %": 100 * (plain.accuracy or 0.0), "loss": plain.loss, "ΔL": 0.0,
            "± (paired)": 0.0, "KL to FP32": 0.0, "made in, s": 0.0,
        }]  # fmt: skip
        for recipe in map(parse_recipe, recipes()):
            rows.append(measured(objective, calibration, reference, recipe))
            print(rows[-1], flush=True)
    record(f"schemes-{given.name}", rows, samples=objective.samples, calibration_samples=calibration.samples)


if __name__ == "__main__":
    main()
