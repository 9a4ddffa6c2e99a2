"""The examples as workloads, CPU time in one thread, and where figures go."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from quant_lens_engine.intake import EXAMPLE_MODELS, build_model, choose_architecture, example_path, open_checkpoint
from quant_lens_engine.intake.datasets.digits import digits_split
from quant_lens_engine.objective import Objective

RESULTS = Path(__file__).parent / "results"
ROWS, MICRO_BATCH = 1024, 128


def workloads() -> dict[str, Objective]:
    """Each example model on 1024 rows of its training data, by 128."""
    training, _ = digits_split()
    x, y = torch.from_numpy(training.x[:ROWS]), torch.from_numpy(training.y[:ROWS])
    objectives = {}
    for name in EXAMPLE_MODELS:
        checkpoint = open_checkpoint(example_path(name))
        model = build_model(checkpoint, choose_architecture(checkpoint, name, {}), {}).eval()
        objectives[name] = Objective(model, [(x, y)], micro_batch=MICRO_BATCH)
    return objectives


def cpu_ms(action: Callable[[], Any], repeats: int = 5) -> float:
    """The least CPU time of ``action`` in milliseconds, after one run to warm up."""
    action()
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        action()
        best = min(best, time.process_time() - started)
    return 1e3 * best


def gradient(objective: Objective) -> None:
    """One gradient over the whole sample, by ordinary torch: the unit in which products are counted."""
    for batch in objective.batches():
        leaves = {name: objective.point[name].detach().requires_grad_() for name in objective.free}
        torch.autograd.grad(objective.terms(batch, leaves).losses.sum(), list(leaves.values()))


def record(name: str, rows: list[dict[str, Any]], **facts: Any) -> None:
    """Print ``rows`` as a table, and keep them in ``benchmarks/results``, with the ``facts`` that they depend on."""
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    figures = {"machine": machine, **(facts or {"rows": ROWS, "micro_batch": MICRO_BATCH}), "figures": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    headings = list(rows[0])
    table = [headings, ["---"] * len(headings), *[[_text(row[heading]) for heading in headings] for row in rows]]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    (RESULTS / f"{name}.md").write_text(text + "\n")
    print(text)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
