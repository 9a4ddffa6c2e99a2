"""The record and its tables."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.claims import Claim
from benchmarks.peers.library import Library
from benchmarks.peers.parts import Row
from benchmarks.peers.warm import Warm
from benchmarks.workload import RESULTS


def write(
    rows: Sequence[Row],
    warm: Sequence[Warm],
    products: Sequence[dict[str, Any]],
    claims: Sequence[Claim],
    libraries: Sequence[Library],
    missing: dict[str, str],
    cpu_s: float,
) -> None:
    """``peers.json`` and ``peers.md``."""
    machine = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "libraries": {library.name: library.version for library in libraries},
        "not installed": missing,
        "cpu_s": round(cpu_s),
    }
    record = {
        "machine": machine,
        "claims": [claim.plain() for claim in claims],
        "products": list(products),
        "parts": [row.plain() for row in rows],
        "warm": [row.plain() for row in warm],
    }
    (RESULTS / "peers.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    text = "\n".join(_sections(machine, rows, warm, products, claims))
    (RESULTS / "peers.md").write_text(text)
    print(text)


def _sections(
    machine: dict[str, Any],
    rows: Sequence[Row],
    warm: Sequence[Warm],
    products: Sequence[dict[str, Any]],
    claims: Sequence[Claim],
) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    lines = [
        "# Against the peers",
        "",
        f"{machine['date']}, {machine['cpu']}, one thread, one process, {machine['cpu_s']} CPU s in all. "
        f"Python {machine['python']}, torch {machine['torch']}, numpy {machine['numpy']}, {versions}.",
        *[f"Not installed: {name} ({why})." for name, why in machine["not installed"].items()],
        "",
        _table(["claim", "required", "measured", ""], [list(claim) for claim in claims]),
        "## A product, in gradients",
        "",
        _table(list(products[0]), [[_text(value) for value in figures.values()] for figures in products]),
    ]
    for workload in dict.fromkeys(row.workload for row in rows):
        for part in dict.fromkeys(row.part for row in rows if row.workload == workload):
            chosen = [row for row in rows if (row.workload, row.part) == (workload, part)]
            lines += [f"## {workload}: {part}", "", _table(HEADINGS, [_cells(row) for row in chosen])]
    if warm:
        lines += ["## Variants that start from the float model", ""]
        lines.append(_table(list(warm[0].plain()), [[_text(value) for value in row.plain().values()] for row in warm]))
    return lines


HEADINGS = [
    "library",
    "setting",
    "CPU s",
    "HVPs",
    "error",
    "outside of products",
    "memory beyond what was held, MiB",
    "",
    "note",
]


def _cells(row: Row) -> list[str]:
    outside = "–" if row.overhead is None else f"{row.overhead:.0%}"
    figures = [_text(row.cpu_s), _text(row.products), _text(row.error), outside, _text(row.memory_mib)]
    return [row.library, row.setting, *figures, row.status, row.note]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    names = [line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
