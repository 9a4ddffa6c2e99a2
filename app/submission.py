"""``quant-lens submit``: upload what the server does not have, start the run, follow it, say what it found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
from quant_lens_engine.schema import RunRecord, RunResult, RunSpec, VerdictLevel, parse_run_spec
from quant_lens_engine.schema.recipe_check import spec_by_facts
from quant_lens_engine.schema.run_spec import parse_json_option, switched
from quant_lens_engine.schema.summary import failing_variants
from worker.hub.names import parse_asked

_FAULTS = frozenset({"internal_fault", "invalid_result", "engine_crashed", "worker_lost"})
_HUB = "hub:"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Request(NamedTuple):
    """What the command line asks for."""

    model: str
    data: str
    architecture: str = "auto"
    options: str | None = None
    transform: str | None = None
    schemes: tuple[str, ...] = ()
    preset: str = "standard"
    task: str = "classification"
    limit: int | None = None
    batch_size: int | None = None
    calibration: str | None = None
    calibration_limit: int | None = None
    device: str = "auto"
    seed: int = 0
    name: str = ""
    curvature: str | None = None
    line: str | None = None
    plane: str | None = None
    part: str | None = None
    adapter: str | None = None
    text: str | None = None
    activations: bool | None = None
    batchnorm: bool | None = None


class Outcome(NamedTuple):
    """Where the result goes, and what makes the command fail."""

    wait: bool = True
    json_path: Path | None = None
    html_path: Path | None = None
    fail_on: VerdictLevel | None = None


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
    _tell(client, run, result, outcome)
    if run.state != "DONE":
        console.print(_ending(run), style="red", markup=False, highlight=False)
    code = exit_code(run, result, outcome.fail_on)
    if run.state == "DONE" and code:
        failing = ", ".join(failing_variants(result, outcome.fail_on or "caution"))
        console.print(f"--fail-on {outcome.fail_on}: {failing}", style="red", highlight=False)
    return code


def exit_code(run: RunRecord, result: RunResult, fail_on: VerdictLevel | None) -> int:
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
        return 1 if fail_on and failing_variants(result, fail_on) else 0
    return 3


def _specification(client: Client, request: Request, console: Console) -> RunSpec:
    # The same defaults as `analyze`, which is not loaded for the other commands.
    from quant_lens_engine.cli import DEFAULT_SCHEMES

    schemes = request.schemes or DEFAULT_SCHEMES
    options, transform = (
        parse_json_option("options", request.options),
        parse_json_option("transform", request.transform),
    )
    server = client.capabilities()
    known = server.examples
    rows: dict[str, Any] = {
        key: value for key in ("limit", "batch_size") if (value := getattr(request, key)) is not None
    } | {"transform": transform, "text": parse_json_option("text", request.text)}
    if request.calibration_limit is not None:
        rows["calibration"] = {"limit": request.calibration_limit}
    given: dict[str, Any] = {
        "name": (request.name or f"{_title(request.model)}, {', '.join(schemes)}")[:200],
        "model": {"example": "checked before the upload"},
        "data": {"example": "checked before the upload", **rows},
        "task": request.task,
        "schemes": list(schemes),
        "analyses": {
            "preset": request.preset,
            "curvature": parse_json_option("curvature", request.curvature),
            "line": parse_json_option("line", request.line),
            "plane": parse_json_option("plane", request.plane),
            **switched(activations=request.activations, batchnorm=request.batchnorm),
        },
        "execution": {"device": request.device},
        "seed": request.seed,
    }
    spec_by_facts(parse_run_spec(given), server.algorithms)  # a mistake is told before a large file is sent
    model = _source(client, request.model, known.models, console)
    given["model"] = model | {"architecture": request.architecture, "options": options, "part": request.part}
    if request.adapter is not None:
        given["model"]["adapter"] = _source(client, request.adapter, [], console)["file"]
    given["data"] = _source(client, request.data, known.data, console) | rows
    if request.calibration is not None:
        file = _source(client, request.calibration, [], console)["file"]
        given["data"]["calibration"] = rows.get("calibration", {}) | {"file": file}
    return parse_run_spec(given)


def _source(client: Client, given: str, examples: list[str], console: Console) -> dict[str, Any]:
    """A file here, a model of the hub, an example of the server, or the hash of a file that the server has."""
    path = Path(given)
    if given.startswith(_HUB) and not path.exists():
        return {"file": _fetch(client, given.removeprefix(_HUB), console)}
    if path.is_dir():
        raise InputError(f"{given!r} is a folder", hint="zip it, and give the zip", code="no_such_file")
    if path.is_file():
        return {"file": _upload(client, path, console)}
    if given in examples:
        return {"example": given}
    if _SHA256.fullmatch(given):
        return {"file": client.file(given).sha256}
    raise InputError(
        f"{given!r} is neither a file here nor an example of the server",
        code="no_such_file",
        hint=f"examples: {', '.join(examples) or 'none'}; a model of the hub is written hub:owner/name",
    )


def _upload(client: Client, path: Path, console: Console) -> str:
    with _bytes_on_their_way(f"upload {path.name}", path.stat().st_size, console) as show:
        record = client.upload(path, progress=show)
        show(path.stat().st_size, path.stat().st_size)
    console.print(f"{path.name}  sha256 {record.sha256[:12]}…", style="dim", highlight=False)
    return record.sha256


def _fetch(client: Client, given: str, console: Console) -> str:
    repo, revision = parse_asked(given)
    with _bytes_on_their_way(f"fetch {repo}", None, console) as show:
        record = client.fetch(repo, revision, progress=show)
    console.print(f"{record.filename}  sha256 {record.sha256[:12]}…", style="dim", highlight=False)
    return record.sha256


@contextmanager
def _bytes_on_their_way(what: str, total: int | None, console: Console) -> Iterator[Callable[[int, int], object]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _title(model: str) -> str:
    return model.removeprefix(_HUB) if model.startswith(_HUB) else Path(model).stem


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


def _tell(client: Client, run: RunRecord, result: RunResult, outcome: Outcome) -> None:
    # Loaded only now: following a run needs none of it.
    from quant_lens_engine.report import written_report

    as_json = result.model_dump_json(indent=2)
    to_output = outcome.json_path == Path("-")
    try:
        if outcome.json_path is not None and not to_output:
            outcome.json_path.write_text(as_json, encoding="utf-8")
        if outcome.html_path is not None:
            outcome.html_path.write_bytes(client.export(run.id, "html"))
    except OSError as error:
        shown = error.filename or "the file"
        raise InputError(f"{shown} cannot be written", hint=error.strerror or "", code="cannot_write") from None
    typer.echo(as_json if to_output else written_report(result))


def _ending(run: RunRecord) -> str:
    if run.error is None:
        return f"The run ended as {run.state}."
    return f"{run.error.message} [{run.error.code}]" + (f"\n  {run.error.hint}" if run.error.hint else "")
