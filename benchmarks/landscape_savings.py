"""What brings a plane below one forward a point, and how exact it is. ``python -m benchmarks.landscape_savings``; one
of the two tables alone by its name, ``points`` or ``adaptive``.

In one process and one thread, taken in turn. Ways to compute a point are compared at nine places of a plane along two
random directions with the plain network; the adaptive plane of 41 × 41 with the full one.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.landscape import forward_alone
from benchmarks.peers.workloads import resnet
from benchmarks.workload import record, workloads
from quant_lens_engine.landscape import Surroundings, basin_rise
from quant_lens_engine.landscape.adaptive import adaptive_row
from quant_lens_engine.landscape.folding import folded
from quant_lens_engine.landscape.plane_frame import PlaneFrame, plane_frame
from quant_lens_engine.landscape.planes import PlaceOf, measure_rows, quick_places, smooth_places
from quant_lens_engine.landscape.quick_network import QuickNetwork, quick_network
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema import PlaneOptions

STEPS, ROUNDS = 41, 7
TOLERANCES = (0.15, 0.075)


def ways(frame: PlaneFrame, network: Objective) -> dict[str, PlaceOf]:
    """How a point can be computed in float32."""
    found = {"plain": smooth_places(frame, network, network.point)}
    folding = folded(network, network.point, frame.axes)
    quick = {}
    if any(tensor.ndim == 4 for tensor in network.point.values()):
        quick["channels last"] = QuickNetwork(network, network, None, True, 0.0)
    if folding is not None:
        quick["folded"] = QuickNetwork(network, folding.network, folding, False, 0.0)
    found |= {name: quick_places(frame, way) for name, way in quick.items()}
    if chosen := quick_network(network, network.point, frame.axes, STEPS**2):
        found["as a run has it"] = quick_places(frame, chosen)
    return found


def in_bfloat16(network: Objective) -> float:
    """The loss, with the forward under autocast and the rest in float32."""
    total = 0.0
    with torch.inference_mode():
        for batch in network.batches():
            with torch.autocast(network.device.type, torch.bfloat16):
                scores = torch.func.functional_call(network.model, network.point, (batch.content[0],))
            total += float(torch.nn.functional.cross_entropy(scores.float(), batch.target, reduction="sum"))
    return total / network.samples


def cpu_s(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process, and the answer."""
    started = time.process_time()
    answer = action()
    return time.process_time() - started, answer


def points_of(name: str, network: Objective, frame: PlaneFrame) -> list[dict[str, Any]]:
    """Time and error of a point, by each way."""
    reach = frame.reach.distance
    places = [(a * reach, b * reach) for a in (-1, -0.3, 0.5) for b in (-0.7, 0.1, 1)]
    losses: dict[str, list[Callable[[], float]]] = {
        way: [partial(lambda at, place: at(*place).loss(), at, place) for place in places]
        for way, at in ways(frame, network).items()
    }
    plain = smooth_places(frame, network, network.point)
    losses["bfloat16"] = [partial(lambda place: in_bfloat16(plain(*place)), place) for place in places]
    seconds: dict[str, list[float]] = {way: [] for way in losses}
    found: dict[str, list[float]] = {way: [] for way in losses}
    floor: list[float] = []
    for number in range(ROUNDS):
        floor.append(cpu_s(lambda: forward_alone(network))[0])
        for way, measures in losses.items():
            spent, loss = cpu_s(measures[number])
            seconds[way].append(spent)
            found[way].append(loss)
    forward = statistics.median(floor)
    exact = np.array(found["plain"])
    return [
        {
            "network": name,
            "way": way,
            "CPU ms a point": 1e3 * statistics.median(seconds[way]),
            "in forwards": statistics.median(seconds[way]) / forward,
            "largest relative error": float(np.abs(np.array(found[way]) / exact - 1).max()),
        }
        for way in losses
    ]


def planes_of(name: str, network: Objective, names: tuple[str, str], variant: str = "") -> list[dict[str, Any]]:
    """The adaptive plane beside the full one; a loss has the same digits in both, so that the full one answers."""
    variants = {scheme: quantize(network.model, scheme) for scheme in ("int8", "int4")}
    around = Surroundings(network, point_of=lambda scheme: variants[scheme].point)
    frame = plane_frame(around, names, PlaneOptions(steps=STEPS), Reader(SILENT, "", 1))
    own = variants[variant].smooth(network) if variant else network
    origin = network.point if frame.joins else own.point
    quick = quick_network(own, origin, frame.axes, STEPS**2)
    at = smooth_places(frame, own, origin) if quick is None else quick_places(frame, quick)
    spent, full = cpu_s(lambda: measure_rows(frame, at, range(STEPS), landscape="smooth", reader=Reader(SILENT, "", 1)))
    exact, scale = np.array(full.loss, dtype=float), basin_rise(network.loss())
    rows = []
    for tolerance in TOLERANCES:
        own_time, found = cpu_s(
            lambda tolerance=tolerance: [
                adaptive_row(lambda column, row=row: float(row[column]), STEPS, tolerance=tolerance, scale=scale)
                for row in exact
            ]
        )
        error = np.abs(np.array([row.losses for row in found]) - exact)
        share = sum(len(row.measured) for row in found) / STEPS**2
        rows.append(
            {
                "network": name,
                "plane": f"{' × '.join(names)}{f', {variant}' if variant else ''}",
                "tolerance": tolerance,
                "points measured": f"{share * STEPS**2:.0f} of {STEPS**2}",
                "time, of the full plane": share + own_time / spent,
                "stated error": max(row.error for row in found),
                "true error": float((error / np.maximum(np.abs(exact), scale)).max()),
                "true error, of the range": float(error.max() / (exact.max() - exact.min())),
                "checks": sum(row.checks for row in found),
            }
        )
    return rows


def main() -> None:
    """Measure, and write the tables."""
    torch.set_num_threads(1)
    for part in sys.argv[1:] or ("points", "adaptive"):
        {"points": time_points, "adaptive": compare_planes}[part]()


def compare_planes() -> None:
    """Adaptive planes beside full ones."""
    examples = workloads()
    small = {name: examples[name].select(torch.arange(64)) for name in ("digits-cnn", "digits-transformer")}
    residual = resnet(8).first(64).objective()
    planes = []
    for name, network in {"ResNet-20, 64 of 8 × 8": residual, **small}.items():
        planes += planes_of(name, network, ("random:1", "random:2"))
        planes += planes_of(name, network, ("random:1", "random:2"), "int4")
    record("landscape-adaptive", planes, steps=STEPS)


def time_points() -> None:
    """A point by each way."""
    examples = workloads()
    timed = {"ResNet-20, 128 of 16 × 16": resnet(16).first(128).objective(), **examples}
    points = []
    for name, network in timed.items():
        frame = plane_frame(
            Surroundings(network), ("random:1", "random:2"), PlaneOptions(distance=0.5), Reader(SILENT, "", 1)
        )
        points += points_of(name, network, frame)
    record("landscape-points", points, rounds=ROUNDS, processor=torch.backends.cpu.get_cpu_capability())


if __name__ == "__main__":
    main()
