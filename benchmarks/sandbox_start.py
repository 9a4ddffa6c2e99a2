"""What the walls of the sandbox cost at the start of an engine process.

``python -m benchmarks.sandbox_start`` starts processes that import nothing, or what an engine imports (torch), and
answer, by turns without a wall and within all walls that this machine has. Wall clock is as good as the machine is
quiet; processor time (of the whole tree, bubblewrap's included) is not disturbed by others. Writes
``benchmarks/results/sandbox-start.md``.
"""

from __future__ import annotations

import importlib
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from worker import sandbox, tether
from worker.sandbox.plan import Plan
from worker.settings import Settings

_HERE = Path(__file__).resolve()
_PROGRAMS = (("nothing", _HERE.with_name("sandbox_nothing.py"), 15), ("torch", _HERE, 5))
_RESULT = Path(__file__).parent / "results" / "sandbox-start.md"


def prepare(plan: Plan) -> None:
    """As ``worker/engine_process.py`` does."""
    del plan
    importlib.import_module("quant_lens_engine.analysis")


def main(plan: Plan) -> None:
    """Answer that it is ready, with its processor time so far, and wait to be ended."""
    os.write(plan.answers_fd, b"ready")
    time.sleep(600)


def start(program: Path, settings: Settings, walls: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """Start one; seconds until it is ready: wall clock, processor."""
    job = sandbox.JobFolder(folder, is_nobodys="user" in walls)
    read_end, write_end = os.pipe()
    began = time.monotonic()
    command = sandbox.command_for(job.path, settings, walls, write_end, module=str(program), reads=(_HERE.parent,))
    process = tether.start(command.argv, env=command.env, cwd=command.plan.work, pass_fds=(write_end,))
    os.close(write_end)
    ready = os.read(read_end, 5)
    elapsed_s = time.monotonic() - began
    tree = (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True))
    processor_s = sum(sum(part.cpu_times()[:2]) for part in tree)
    process.kill()
    process.wait()
    while os.read(read_end, 5):
        pass
    os.close(read_end)
    job.remove()
    assert ready == b"ready"
    return elapsed_s, processor_s


def compare(what: str, turns: list[tuple[tuple[float, float], ...]]) -> list[str]:
    """Rows of the table: wall clock and processor time."""
    rows = []
    for index, kind in enumerate(("wall clock", "processor time")):
        bare, walled = ([turn[which][index] for turn in turns] for which in (0, 1))
        more = [within - without for without, within in zip(bare, walled, strict=True)]
        rows.append(
            f"| {what}, {kind}, {len(turns)} turns | {statistics.median(bare):.2f} s "
            f"| {statistics.median(walled):.2f} s "
            f"| {statistics.median(more):+.2f} s | {min(walled) - min(bare):+.2f} s |"
        )
    return rows


def run() -> None:
    """Measure and write down."""
    with tempfile.TemporaryDirectory() as name:
        settings = Settings(data_dir=Path(name))
        began = time.monotonic()
        walls = sandbox.survey(settings).standing
        survey_s = time.monotonic() - began
        rows = []
        for what, program, count in _PROGRAMS:
            turns = [tuple(start(program, settings, kind, Path(name)) for kind in ((), walls)) for _ in range(count)]
            rows += compare(what, turns)
    text = "\n".join(
        (
            "Start of a process until it could take a request. What it imports, turns of each kind; "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}. "
            f"Walls: {', '.join(walls)}. Finding out which stand took {survey_s:.2f} s.",
            "",
            "| | no wall, median | all walls, median | more, median of pairs | more, fastest of each |",
            "|---|---:|---:|---:|---:|",
            *rows,
            "",
        )
    )
    _RESULT.write_text(text)
    print(text)


if __name__ == "__main__":
    run()
