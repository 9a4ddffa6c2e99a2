"""``quant-lens submit``: upload what the server does not have, start the run, follow it, say what it found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from app.client import Client
from quant_lens_engine.errors import InputError
from quant_lens_engine.schema import RunRecord, RunResult, RunSpec, parse_run_spec

LEVELS = ("safe", "caution", "degraded", "collapsed")
_FAULTS = frozenset({"internal_fault", "invalid_result", "engine_crashed", "worker_lost"})
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Request(NamedTuple):
    """What the command line asks for."""

    model: str
    data: str
    architecture: str = "auto"
    transform: str | None = None
    schemes: tuple[str, ...] = ()
    preset: str = "standard"
    limit: int | None = None
    seed: int = 0
    name: str = ""


class Outcome(NamedTuple):
    """Where the result goes, and what makes the command fail."""

    wait: bool = True
    json_path: Path | None = None
    html_path: Path | None = None
    fail_on: str | None = None


def submit(client: Client, request: Request, outcome: Outcome) -> int:
    """Run the request on the server; the exit code.

    Raises:
        QuantLensError: what the server, or this machine, refuses.
    """
    console = Console(stderr=True)
    spec = _specification(client, request, console)
    run = client.submit(spec)
    console.print(f"run {run.id}: {client.page_of(run.id)}", highlight=False)
    if not outcome.wait:
        typer.echo(run.id)
        return 0
    run = _follow(client, run, console)
    result = client.result(run.id)
    _write(client, run, result, outcome)
    typer.echo(_report(result))
    if run.state != "DONE":
        console.print(_ending(run), style="red", highlight=False)
    return exit_code(run, result, outcome.fail_on)


def exit_code(run: RunRecord, result: RunResult, fail_on: str | None) -> int:
    """0 well, 1 the check failed or the run was cancelled, 2 the input is at fault, 3 the server is.

    Example:
        >>> exit_code(RunRecord(id="a", state="LOST"), RunResult(), None)
        3
    """
    if run.state == "CANCELLED":
        return 1
    if run.state == "FAILED":
        return 3 if run.error is None or run.error.code in _FAULTS else 2
    if run.state == "DONE":
        return 1 if fails(result, fail_on) else 0
    return 3


def fails(result: RunResult, fail_on: str | None) -> bool:
    """Whether a verdict is as bad as ``fail_on``, or worse; a variant without a verdict fails as well.

    Example:
        >>> from quant_lens_engine.schema import Comparison, Verdict
        >>> found = RunResult(comparisons=[Comparison(variant="int4", verdict=Verdict(level="caution"))])
        >>> fails(found, "degraded"), fails(found, "caution"), fails(found, None)
        (False, True, False)
    """
    if fail_on is None:
        return False
    levels = [comparison.verdict.level if comparison.verdict else "collapsed" for comparison in result.comparisons]
    return any(LEVELS.index(level) >= LEVELS.index(fail_on) for level in levels)


def _specification(client: Client, request: Request, console: Console) -> RunSpec:
    known = client.capabilities()
    data: dict[str, Any] = _source(client, request.data, known.examples.data, console)
    if request.transform is not None:
        data["transform"] = _json(request.transform)
    if request.limit is not None:
        data["limit"] = request.limit
    model = _source(client, request.model, known.examples.models, console)
    return parse_run_spec(
        {
            "name": request.name or _name(request),
            "model": model | {"architecture": request.architecture},
            "data": data,
            "schemes": list(request.schemes),
            "analyses": {"preset": request.preset},
            "seed": request.seed,
        }
    )


def _source(client: Client, given: str, examples: list[str], console: Console) -> dict[str, Any]:
    """A file here, an example of the server, or the hash of a file that the server has."""
    path = Path(given)
    if path.is_file():
        return {"file": _upload(client, path, console)}
    if given in examples:
        return {"example": given}
    if _SHA256.fullmatch(given):
        return {"file": client.file(given).sha256}
    raise InputError(
        f"{given!r} is neither a file here nor an example of the server",
        code="no_such_file",
        hint=f"examples: {', '.join(examples) or 'none'}",
    )


def _upload(client: Client, path: Path, console: Console) -> str:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(f"upload {path.name}", total=path.stat().st_size)
        record = client.upload(path, progress=lambda done, total: bar.update(task, completed=done, total=total))
        bar.update(task, completed=path.stat().st_size)
    console.print(f"{path.name}  sha256 {record.sha256[:12]}…", style="dim", highlight=False)
    return record.sha256


def _follow(client: Client, run: RunRecord, console: Console) -> RunRecord:
    with _progress(console) as show:
        try:
            return client.wait(run.id, progress=show)
        except KeyboardInterrupt:
            console.print(f"The run goes on at {client.page_of(run.id)}; cancel it there.", highlight=False)
            raise


@contextmanager
def _progress(console: Console) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("queued", total=1.0)

        def show(record: RunRecord) -> None:
            running = [stage for stage in record.progress.stages if stage.state == "running"]
            at = " ".join(filter(None, (running[0].stage, running[0].variant))) if running else record.state.lower()
            bar.update(task, completed=record.progress.fraction, description=at)

        yield show


def _write(client: Client, run: RunRecord, result: RunResult, outcome: Outcome) -> None:
    if outcome.json_path is not None:
        outcome.json_path.write_text(result.model_dump_json(indent=2))
    if outcome.html_path is not None:
        outcome.html_path.write_bytes(client.export(run.id, "html"))


def _report(result: RunResult) -> str:
    # Loaded only now: following a run needs none of it.
    from quant_lens_engine.report import written_report

    return written_report(result)


def _ending(run: RunRecord) -> str:
    if run.error is None:
        return f"The run ended as {run.state}."
    return f"{run.error.message} [{run.error.code}]" + (f"\n  {run.error.hint}" if run.error.hint else "")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(
            f"--transform is not JSON: {error}", code="bad_spec", hint="""e.g. '{"layout": "NHWC", "scale": 0.00392}'"""
        ) from None


def _name(request: Request) -> str:
    return f"{Path(request.model).stem} · {', '.join(request.schemes)}"[:200]
