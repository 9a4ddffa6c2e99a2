"""Perplexity of a small language model in many schemes.

python examples/stories.py --out stories.safetensors
python -m benchmarks.language_model stories.safetensors [--text FILE]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_model

from benchmarks.workload import record
from quant_lens_engine.evaluation import FloatOutputs, evaluate, float_outputs
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from stories import StoryTeller, corpus, split, windows

RECIPES = (
    "int8", "int6", "int4", "int4-g32", "int4-g32-asym", "int3-g32", "int2-g32", "fp8-e4m3", "fp8-e5m2", "mxfp8-e4m3",
    "mxfp6-e2m3", "mxfp4", "mxint8", "nvfp4", "nf4-g64", "w8a8", "w8a8-dynamic", "w8a8-fp8-dynamic", "w4a8-dynamic",
    "w4a4-dynamic", "w4a4-nvfp4", "w8a8-dynamic-kv8", "w8a8-dynamic-kv4", "w8a8-dynamic-attn",
    "int3-g32+clip", "int3-g32+awq", "int3-g32+gptq", "int3-g32+gptq:act_order=true", "int3-g32+adaround",
    "int3-g32+bias-correction", "w4a4-dynamic+smoothquant", "w4a4-dynamic+gptq", "int3-g32+skip:head",
)  # fmt: skip


def measured(objective: Objective, calibration: Objective, reference: FloatOutputs, recipe: str) -> dict[str, Any]:
    """One row of the table."""
    started = time.perf_counter()
    variant = quantize(objective.model, recipe, calibration)
    made = time.perf_counter() - started
    found = evaluate(variant.live(objective), reference=reference)
    assert found.loss is not None
    return {
        "recipe": variant.name,
        "bits": variant.effective_bits,
        "perplexity a byte": math.exp(found.loss),
        "ΔL": found.delta_loss,
        "± (paired)": found.delta_loss_standard_error,
        "KL to FP32": found.kl_to_float,
        "top-1 agreement, %": 100 * (found.top1_agreement or 0.0),
        "made in, s": made,
    }


def main() -> None:
    """Measure every recipe on held-out text, calibrated on training text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--calibration-rows", type=int, default=64)
    parser.add_argument("--name", default="stories")
    given = parser.parse_args()
    training, held_out = split(given.text.read_text(encoding="utf-8") if given.text else corpus())
    model = StoryTeller().eval()
    load_model(model, str(given.model))
    rows, seen = windows(held_out, given.rows), windows(training, given.calibration_rows)
    objective = Objective(model, [{"tokens": rows, "labels": rows}], task="causal-lm", micro_batch=32)
    calibration = objective.over([{"tokens": seen, "labels": seen}], 32)
    reference = float_outputs(objective)
    plain = evaluate(objective)
    assert plain.loss is not None
    table: list[dict[str, Any]] = [{
        "recipe": "FP32", "bits": 32.0, "perplexity a byte": math.exp(plain.loss), "ΔL": 0.0, "± (paired)": 0.0,
        "KL to FP32": 0.0, "top-1 agreement, %": 100.0, "made in, s": 0.0,
    }]  # fmt: skip
    for recipe in RECIPES:
        table.append(measured(objective, calibration, reference, recipe))
        print(table[-1], flush=True)
    record(f"language-model-{given.name}", table, samples=len(rows), calibration_samples=len(seen))


if __name__ == "__main__":
    main()
