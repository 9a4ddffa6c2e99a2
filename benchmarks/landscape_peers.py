"""A plane's points by each library, in one process and one thread; figures go to ``benchmarks/results``.

``python -m benchmarks.landscape_peers [pixels]``. Peers that do not import are left out; the peers are installed
without their declared dependencies (``pip install --no-deps loss-landscapes loss-landscape-3d landscaper``).

Each peer computes the loss in the chunks of rows in which a forward is quickest here; this project has the micro-batch
that it finds by itself. loss-landscapes' own metric takes one batch, so it stands twice: with that, and with a metric
in chunks.

Every library gets the same network, the same 512 samples and the same two filter-normalised directions, and measures
a plane of 5 × 5 points. loss-landscapes and landscaper scale the directions that they are given in their own ways, so
each answer is compared with the loss that plain torch has, in float64, at the very parameters that the library had set
when it measured the point.
"""

from __future__ import annotations

import contextlib
import copy
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmarks.peers.workloads import Workload, resnet
from benchmarks.workload import record
from quant_lens_engine.execution import resolve_execution
from quant_lens_engine.landscape import Surroundings
from quant_lens_engine.landscape.plane_frame import PlaneFrame, plane_frame
from quant_lens_engine.landscape.planes import measure_rows, quick_places, smooth_places
from quant_lens_engine.landscape.quick_network import quick_network
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT
from quant_lens_engine.schema import DataSource, Execution, PlaneOptions

STEPS, DISTANCE, ROUNDS = 5, 0.5, 3
CHUNKS = (16, 32, 64, 128, 256)

Visited = list[dict[str, Tensor]]
Measured = Callable[[Visited | None], np.ndarray]
"""Losses ``[alpha][beta]``. Where a list is given, the parameters of each point are put there, row by row."""


class Setting:
    """The network, its sample and a plane."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.model = workload.model
        self.x, self.y = workload.whole[0]
        whole = Objective(self.model, [(self.x, self.y)])
        self.chunk = len(self.x)  # the quickest one, once it is known
        self.block = resolve_execution(
            Execution(),
            lambda block: whole.regrouped(block["micro_batch"]),
            batch_size=DataSource.model_fields["batch_size"].default,
        )
        self.objective = whole.regrouped(self.block["micro_batch"])
        options = PlaneOptions(steps=STEPS, distance=DISTANCE)
        names = ("random:1", "random:2")
        self.frame: PlaneFrame = plane_frame(Surroundings(self.objective), names, options, Reader(SILENT, "", 0))

    def place(self, alpha: float, beta: float) -> dict[str, Tensor]:
        """The parameters at a place of the plane, in their own precision."""
        return self.frame.place({name: tensor.detach() for name, tensor in self.model.named_parameters()}, alpha, beta)

    def exact(self, points: Visited) -> np.ndarray:
        """The loss at some parameters, in float64, by plain torch."""
        model = copy.deepcopy(self.model).double().eval()
        losses = []
        for point in points:
            precise = {name: tensor.double() for name, tensor in point.items()}
            with torch.no_grad():
                scores = torch.cat([functional_call(model, precise, (x,)) for x in self.x.double().split(64)])
            losses.append(float(F.cross_entropy(scores, self.y)))
        return np.array(losses).reshape(STEPS, STEPS)

    def axes(self) -> list[dict[str, Tensor]]:
        """Copies of the directions."""
        return [{name: step.clone() for name, step in axis.items()} for axis in self.frame.axes]


def ours(setting: Setting, *, folded: bool) -> Measured:
    """This project, with the micro-batch that it finds by itself."""
    reader = Reader(SILENT, "", STEPS**2)
    network = setting.objective
    at = smooth_places(setting.frame, network, network.point)
    if folded:  # once a plane, for two points' time
        quick = quick_network(network, network.point, setting.frame.axes, STEPS**2)
        assert quick is not None
        at = quick_places(setting.frame, quick)

    def run(visited: Visited | None = None) -> np.ndarray:
        if visited is not None:
            visited.extend(setting.place(a, b) for a in setting.frame.grid for b in setting.frame.grid)
        rows = measure_rows(setting.frame, at, range(STEPS), landscape="smooth", reader=reader)
        return np.array(rows.loss, dtype=float)

    return run


def chunked_loss(setting: Setting, forward: Callable[[Tensor], Tensor]) -> float:
    """The loss of the sample, so many rows at a time."""
    parts = zip(setting.x.split(setting.chunk), setting.y.split(setting.chunk), strict=True)
    return sum(float(F.cross_entropy(forward(x), y, reduction="sum")) for x, y in parts) / len(setting.y)


def loss_landscapes(setting: Setting, *, chunked: bool) -> Measured:
    """``random_plane`` with the library's own metric, on the whole sample in one batch, or with one in chunks."""
    import loss_landscapes
    from loss_landscapes.metrics.sl_metrics import Loss
    from loss_landscapes.model_interface.model_parameters import ModelParameters

    def run(visited: Visited | None = None) -> np.ndarray:
        model = copy.deepcopy(setting.model)
        drawn = [ModelParameters(list(axis.values())) for axis in setting.axes()]
        with (
            mock.patch("loss_landscapes.main.rand_u_like", return_value=drawn[0]),
            mock.patch("loss_landscapes.main.orthogonal_to", return_value=drawn[1]),
        ):
            metric: Any = Loss(F.cross_entropy, setting.x, setting.y)
            if chunked:
                metric = _InChunks(setting)
            if visited is not None:
                metric = _noting(metric, model, visited)
            found = loss_landscapes.random_plane(model, metric, distance=1, steps=STEPS, normalization=None)
        if visited is not None:  # every other row is walked backwards
            for row in range(1, STEPS, 2):
                visited[row * STEPS : (row + 1) * STEPS] = visited[row * STEPS : (row + 1) * STEPS][::-1]
        return np.asarray(found)

    return run


class _InChunks:
    """A metric for loss-landscapes."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def __call__(self, wrapper: Any) -> float:
        return chunked_loss(self.setting, wrapper.forward)


def landscaper(setting: Setting) -> Measured:
    """``compute_loss_landscape``, its loss over chunks."""
    from landscaper.compute import compute_loss_landscape

    def loss(model: nn.Module, _data: Any) -> float:
        return chunked_loss(setting, model)

    def run(visited: Visited | None = None) -> np.ndarray:
        model = copy.deepcopy(setting.model).eval()
        measure: Any = loss if visited is None else _noting(loss, model, visited)
        drawn = [list(axis.values()) for axis in setting.axes()]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found, _ = compute_loss_landscape(
                model, (setting.x, setting.y), drawn, measure, steps=STEPS, distance=DISTANCE, dim=2, device="cpu"
            )
        return np.asarray(found)

    return run


def loss_landscape_3d(setting: Setting, *, own_directions: bool = False) -> Measured:
    """``LossLandscapeCalculator`` over chunks; with its own directions it moves BatchNorm's statistics."""
    from loss_landscape_3d.calculator import LossLandscapeCalculator
    from loss_landscape_3d.directions import generate_random_directions

    def run(visited: Visited | None = None) -> np.ndarray:
        model = copy.deepcopy(setting.model)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        axes: list[Mapping[str, Tensor]] = list(setting.axes())
        if own_directions:
            torch.manual_seed(0)
            axes = list(generate_random_directions(model))
        loader = list(zip(setting.x.split(setting.chunk), setting.y.split(setting.chunk), strict=True))
        calculator = LossLandscapeCalculator(model, loader, F.cross_entropy, device="cpu")
        grid = setting.frame.grid
        if visited is not None:
            visited.extend(setting.place(a, b) for a in grid for b in grid)
        return np.asarray(calculator.calculate(grid, grid, axes[0], axes[1], state))

    return run


def _noting(measure: Callable[..., float], model: nn.Module, visited: Visited) -> Callable[..., float]:
    def noted(*given: Any) -> float:
        visited.append({name: tensor.detach().clone() for name, tensor in model.named_parameters()})
        return measure(*given)

    return noted


def floor(setting: Setting, chunk: int) -> Callable[[], None]:
    """The forward alone under ``inference_mode``."""
    parts = [part.clone() for part in setting.x.split(chunk)]

    def run() -> None:
        with torch.inference_mode():
            for part in parts:
                setting.model(part)

    return run


def candidates(setting: Setting) -> Iterator[tuple[str, str, Callable[[], Measured]]]:
    """Who is compared: name, package, how it is made."""
    yield "quant-lens", "", lambda: ours(setting, folded=False)
    yield "quant-lens, folded", "", lambda: ours(setting, folded=True)
    yield "loss-landscapes", "loss-landscapes", lambda: loss_landscapes(setting, chunked=False)
    yield "loss-landscapes, in chunks", "loss-landscapes", lambda: loss_landscapes(setting, chunked=True)
    yield "landscaper", "landscaper", lambda: landscaper(setting)
    yield "loss-landscape-3d", "loss-landscape-3d", lambda: loss_landscape_3d(setting)
    yield (
        "loss-landscape-3d, its own directions",
        "loss-landscape-3d",
        lambda: loss_landscape_3d(setting, own_directions=True),
    )


def cpu_s(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process, and the answer."""
    started = time.process_time()
    answer = action()
    return time.process_time() - started, answer


def measured(setting: Setting) -> list[dict[str, Any]]:
    """Everything in turn, so often; medians."""
    floors = {chunk: floor(setting, chunk) for chunk in CHUNKS}
    forwards: dict[int, list[float]] = {
        chunk: [cpu_s(action)[0] for _ in range(2)][1:] for chunk, action in floors.items()
    }
    setting.chunk = min(CHUNKS, key=lambda chunk: forwards[chunk][0])
    runs: dict[str, tuple[str, Measured]] = {}
    for name, package, make in candidates(setting):
        with contextlib.suppress(ImportError):
            runs[name] = (version(package) if package else "this", make())
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, (_, run) in runs.items():
            for chunk in CHUNKS:
                forwards[chunk].append(cpu_s(floors[chunk])[0])
            seconds[name].append(cpu_s(lambda run=run: run(None))[0] / STEPS**2)
    best = min(statistics.median(times) for times in forwards.values())
    rows = []
    for name, (number, run) in runs.items():
        visited: Visited = []
        found = run(visited)
        errors = np.abs(found / setting.exact(visited) - 1)
        finite = np.isfinite(errors)
        rows.append(
            {
                "library": name,
                "version": number,
                "CPU ms a point": 1e3 * statistics.median(seconds[name]),
                "in forwards": statistics.median(seconds[name]) / best,
                "largest relative error": float(errors[finite].max()) if finite.any() else None,
                "wrong by more than 1e-5": f"{int((errors > 1e-5).sum())} of {STEPS**2}",
                "not finite": f"{int((~finite).sum())} of {STEPS**2}",
            }
        )
    print({chunk: round(1e3 * statistics.median(times), 1) for chunk, times in forwards.items()})
    return rows


def main() -> None:
    """Measure, and write."""
    torch.set_num_threads(1)
    pixels = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    setting = Setting(resnet(pixels))
    rows = measured(setting)
    record(
        f"landscape-peers-{pixels}",
        rows,
        network=setting.workload.title,
        micro_batch=setting.block["micro_batch"],
        chunk=setting.chunk,
        points=STEPS**2,
        rounds=ROUNDS,
        machine_note="two cores shared with other work; medians of CPU time, taken in turn",
        command=f"OMP_NUM_THREADS=1 python -m benchmarks.landscape_peers {pixels}",
    )


if __name__ == "__main__":
    main()
