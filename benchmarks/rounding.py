"""What rounding to nearest costs over a plain copy, in time and memory, and a rounded network over a float one.

python -m benchmarks.rounding
"""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from benchmarks.workload import cpu_ms, record, workloads
from quant_lens_engine.filters import ROWS
from quant_lens_engine.quantization import FakeQuantize, quantize
from quant_lens_engine.quantization.rounding import ToNearest
from quant_lens_engine.schema import parse_scheme

SCHEMES = (
    "int8", "int4", "int4-tensor", "int4-g128", "int4-g32", "int4-g128-asym", "fp8-e4m3", "fp8-e4m3-b128", "mxfp4",
    "mxint8", "nvfp4", "nf4-g64",
)  # fmt: skip
TENSORS, EDGE = 16, 4096
"""A state dict of 1 GiB: sixteen matrices of 64 MiB in float32."""

RATIO = "over a copy, or over the float forward"
MEMORY = "memory beside the answer, in largest tensors"
MOST_COPIES, MOST_FORWARDS, MOST_TENSORS = 8.0, 1.05, 1.5
"""What is promised."""


def state_dict() -> dict[str, torch.Tensor]:
    """The weights that are rounded."""
    source = torch.Generator().manual_seed(0)
    return {f"layers.{index}.weight": torch.randn(EDGE, EDGE, generator=source) for index in range(TENSORS)}


def over_a_copy(weights: dict[str, torch.Tensor], scheme: str) -> dict[str, Any]:
    """CPU time of RTN into fresh memory over that of a copy into fresh memory, and what it takes besides."""
    rounding = ToNearest(parse_scheme(scheme), ROWS)
    copy = cpu_ms(lambda: {name: tensor.clone() for name, tensor in weights.items()}, repeats=2)
    rounded = cpu_ms(lambda: {name: rounding(tensor) for name, tensor in weights.items()}, repeats=2)
    return {
        "what": f"RTN {scheme}",
        RATIO: rounded / copy,
        MEMORY: _extra_memory(scheme),
    }


def forward_ratio(name: str) -> dict[str, Any]:
    """CPU time of a weights-only variant's passes over that of the float model's."""
    objective = workloads()[name]
    variant = quantize(objective.model, "int4")
    floating = cpu_ms(objective.loss, repeats=20)
    rounded = cpu_ms(variant.live(objective).loss, repeats=20)
    return {
        "what": f"forward of {name} in int4",
        RATIO: rounded / floating,
        MEMORY: None,
    }


def parametrized_ratio() -> dict[str, Any]:
    """The same for a layer that rounds its weight itself, and keeps what it has rounded."""
    layer, x = nn.Linear(1024, 1024), torch.randn(256, 1024)
    with torch.no_grad():
        floating = cpu_ms(lambda: layer(x), repeats=50)
        parametrize.register_parametrization(layer, "weight", FakeQuantize("int4-g128"))
        rounded = cpu_ms(lambda: layer(x), repeats=50)
    return {
        "what": "forward of a FakeQuantize Linear, 256 rows",
        RATIO: rounded / floating,
        MEMORY: None,
    }


def _extra_memory(scheme: str) -> float:
    """Largest memory of a process that rounds into a copy, beyond one that only copies, in largest tensors."""
    command = [sys.executable, "-m", "benchmarks.rounding", "--peak"]
    plain, rounding = (
        int(subprocess.run([*command, what], capture_output=True, check=True).stdout) for what in ("copy", scheme)
    )
    return (rounding - plain) / (EDGE * EDGE * 4)


def _peak(what: str) -> int:
    """Bytes of this process at its largest, after copying the weights, or rounding them into the copy."""
    weights = state_dict()
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    if what != "copy":
        rounding = ToNearest(parse_scheme(what), ROWS)
        for name, tensor in weights.items():
            rounding(tensor, out=copies[name])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure every scheme, then the forward passes."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--peak"]:
        print(_peak(sys.argv[2]))
        return
    weights = state_dict()
    rows = [over_a_copy(weights, scheme) for scheme in SCHEMES]
    del weights
    rows += [forward_ratio(name) for name in ("digits-mlp", "digits-cnn", "digits-transformer")]
    rows.append(parametrized_ratio())
    record("rounding", rows, state_dict_gib=1)
    _hold(rows)


def _hold(rows: list[dict[str, Any]]) -> None:
    """End with 1 where a limit is passed."""
    beyond = []
    for row in rows:
        limit = MOST_COPIES if row["what"].startswith("RTN") else MOST_FORWARDS
        if row[RATIO] > limit:
            beyond.append(f"{row['what']} takes {row[RATIO]:.3g}, more than {limit}")
        if (row[MEMORY] or 0.0) > MOST_TENSORS:
            beyond.append(f"{row['what']} takes the memory of {row[MEMORY]:.3g} tensors, more than {MOST_TENSORS}")
    if beyond:
        sys.exit("\n".join(beyond))


if __name__ == "__main__":
    main()
