"""Wall time of a plane by one process and by two, of one thread each. ``python -m benchmarks.landscape_workers``."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from multiprocessing.synchronize import Barrier

import torch

from benchmarks.peers.workloads import resnet
from benchmarks.workload import record
from quant_lens_engine.landscape import Surroundings
from quant_lens_engine.landscape.plane_frame import plane_frame
from quant_lens_engine.landscape.planes import measure_rows, smooth_places
from quant_lens_engine.landscape.readings import Reader
from quant_lens_engine.progress import SILENT
from quant_lens_engine.schema import PlaneOptions

STEPS, ROWS, ROUNDS = 21, 64, 3


def work(number: int, workers: int, barrier: Barrier) -> None:
    """Every so manieth row, between two barriers a round."""
    torch.set_num_threads(1)
    network = resnet(16).first(ROWS).objective()
    reader = Reader(SILENT, "", 0)
    frame = plane_frame(
        Surroundings(network), ("random:1", "random:2"), PlaneOptions(steps=STEPS, distance=0.5), reader
    )
    at = smooth_places(frame, network, network.point)
    network.loss()
    for _ in range(ROUNDS):
        barrier.wait()
        measure_rows(frame, at, range(number, STEPS, workers), landscape="smooth", reader=reader)
        barrier.wait()


def wall_s(workers: int) -> list[float]:
    """Of each round."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers + 1)
    started = [context.Process(target=work, args=(number, workers, barrier)) for number in range(workers)]
    for process in started:
        process.start()
    times = []
    for _ in range(ROUNDS):
        barrier.wait()
        before = time.perf_counter()
        barrier.wait()
        times.append(time.perf_counter() - before)
    for process in started:
        process.join()
    return times


def main() -> None:
    """One, two, one, two: medians."""
    found: dict[int, list[float]] = {1: [], 2: []}
    load = os.getloadavg()[0]
    for workers in (1, 2, 1, 2):
        found[workers] += wall_s(workers)
    one, two = (statistics.median(found[workers]) for workers in (1, 2))
    best = min(found[2]) / min(found[1])
    row = {
        "one worker, s": one,
        "two workers, s": two,
        "of it": two / one,
        "of it, least times": best,
        "load before": load,
    }
    record("landscape-workers", [row], steps=STEPS, samples=ROWS, cores=os.cpu_count())


if __name__ == "__main__":
    main()
