"""``analyze`` and ``schemes``: the engine on the command line, without a server.

Exit codes: 0 well, 1 a verdict is as bad as ``--fail-on`` or worse, 2 bad input, 3 internal fault.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from quant_lens_engine import cli_options
from quant_lens_engine.errors import InputError, QuantLensError
from quant_lens_engine.progress import SILENT
from quant_lens_engine.progress import Progress as ProgressProtocol
from quant_lens_engine.schema import FLOAT_VARIANT, RunResult, RunSpec, parse_recipe, parse_run_spec, plan_stages
from quant_lens_engine.schema.recipe_check import distinct_recipes
from quant_lens_engine.schema.run_spec import parse_json_option, switched
from quant_lens_engine.schema.summary import failing_variants

DEFAULT_SCHEMES = ("int8", "int4")

cli = typer.Typer(
    name="quant-lens",
    help="See what quantization does to a network before you ship it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Preset(StrEnum):
    """How hard to measure."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


class FailOn(StrEnum):
    """The mildest verdict that fails the command."""

    CAUTION = "caution"
    DEGRADED = "degraded"
    COLLAPSED = "collapsed"


@cli.command()
def analyze(
    model: Annotated[str, typer.Argument(help="A checkpoint, a folder of one, or an example such as digits-cnn.")],
    data: Annotated[str, typer.Option(help="Rows and labels: a file or a folder; or the example digits.")],
    architecture: cli_options.Architecture = "auto",
    options: cli_options.ArchitectureOptions = None,
    part: cli_options.Part = None,
    adapter: Annotated[
        str | None, typer.Option(help="A LoRA adapter to merge: PEFT's folder, or a zip of it.")
    ] = None,
    plugins: Annotated[Path | None, typer.Option(envvar="QUANT_LENS_PLUGINS", help="Folder of plug-ins.")] = None,
    trust_checkpoint: Annotated[
        bool, typer.Option("--trust-checkpoint", help="Run a model file that is code (TorchScript, a pickled module).")
    ] = False,
    transform: cli_options.Transform = None,
    text: cli_options.Text = None,
    scheme: cli_options.Schemes = None,
    preset: Annotated[Preset, typer.Option(help="How hard to measure.")] = Preset.STANDARD,
    curvature: cli_options.Curvature = None,
    line: cli_options.Line = None,
    plane: cli_options.Plane = None,
    activations: cli_options.Activations = None,
    batchnorm: cli_options.BatchNorm = None,
    task: cli_options.Task = "classification",
    limit: cli_options.Limit = None,
    batch_size: cli_options.BatchSize = None,
    calibration: Annotated[str | None, typer.Option(help="Rows to calibrate on; else those left over.")] = None,
    calibration_limit: cli_options.CalibrationLimit = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: cli_options.Seed = 0,
    name: Annotated[str, typer.Option(help="A name for the report.")] = "",
    json_path: cli_options.JsonPath = None,
    html_path: cli_options.HtmlPath = None,
    trajectory: Annotated[
        list[str] | None, typer.Option(help="A further checkpoint of the training, for landscapes; may be given again.")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(help="Folder for what a stopped analysis has; the same command goes on from it.")
    ] = None,
    fail_on: Annotated[FailOn | None, typer.Option(help="Exit code 1 when a verdict is as bad, or worse.")] = None,
) -> None:  # fmt: skip
    """Measure a model on this machine; the numbers are the server's, digit for digit."""
    # Waiting threads that spin cost a busy machine more than they gain. Read when torch is loaded: from here on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    files: dict[str, Path] = {}
    given: dict[str, Any] = {
        "name": name or f"{Path(model).stem}, {', '.join(scheme or DEFAULT_SCHEMES)}",
        "model": _source(model, files, "model")
        | {"architecture": architecture, "options": parse_json_option("options", options), "part": part}
        | {"adapter": _source(adapter, files, "adapter")["file"] if adapter else None}
        | {"checkpoints": [_source(file, files, "trajectory")["file"] for file in trajectory or ()]},
        "data": _source(data, files, "data")
        | {
            "transform": parse_json_option("transform", transform),
            "text": parse_json_option("text", text),
        },
        "task": task,
        "schemes": list(scheme or DEFAULT_SCHEMES),
        "analyses": {
            "preset": preset.value,
            "curvature": parse_json_option("curvature", curvature),
            "line": parse_json_option("line", line),
            "plane": parse_json_option("plane", plane),
            **switched(activations=activations, batchnorm=batchnorm),
        },
        "execution": {"device": device},
        "seed": seed,
    }
    rows = (
        ("limit", limit),
        ("batch_size", batch_size),
        ("calibration", _calibration(calibration, calibration_limit, files)),
    )
    given["data"] |= {key: value for key, value in rows if value is not None}
    spec = parse_run_spec(given)
    _check_writable(json_path, html_path)
    from quant_lens_engine.analysis import analyze as run
    from quant_lens_engine.quantization import usual_options

    spec = spec.model_copy(update={"schemes": distinct_recipes(spec.schemes, usual_options())})
    with _progress(spec) as progress:
        result = run(
            spec, files=files, plugins=plugins, progress=progress, checkpoints=checkpoints,
            trust_checkpoint=trust_checkpoint,
        )  # fmt: skip
    _tell(result, json_path, html_path, spec.name)
    lost = [item for item in result.failures if item.stage == "evaluate"]
    for item in lost:
        _errors().print(f"{item.variant} could not be measured: {item.message}", style="red", highlight=False)
    if lost:
        raise typer.Exit(2)
    failing = failing_variants(result, fail_on.value) if fail_on is not None else []
    if failing:
        _errors().print(f"--fail-on {fail_on}: {', '.join(failing)} (against {FLOAT_VARIANT})", style="red")
        raise typer.Exit(1)


@cli.command()
def schemes(
    name: Annotated[str | None, typer.Argument(help="A scheme or recipe, such as w8a8+smoothquant, in full.")] = None,
) -> None:
    """The quantization schemes, observers and algorithms that there are, and how they are named; or one in full."""
    from quant_lens_engine import scheme_report

    if name is not None:
        typer.echo(scheme_report.explain_recipe(parse_recipe(name)))
        return
    for part in chain(scheme_report.list_schemes(), scheme_report.list_algorithms()):
        typer.echo(f"{part}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; what goes wrong is told on the error output."""
    try:
        cli(arguments, standalone_mode=True)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    except QuantLensError as error:
        _errors().print(f"{error.message} [{error.code}]", style="red", markup=False, highlight=False)
        if error.hint:
            _errors().print(f"  {error.hint}", markup=False, highlight=False)
        return 2 if isinstance(error, InputError) else 3
    return 0


def _source(given: str, files: dict[str, Path], what: str) -> dict[str, Any]:
    """A file here (of a model also a folder), addressed by its hash as on the server; or an example."""
    path = Path(given)
    if path.is_dir() and what not in ("model", "adapter", "data", "calibration"):
        raise InputError(f"{given!r} is a folder", hint="give the file in it", code="no_such_file")
    from quant_lens_engine.intake import EXAMPLE_DATA, EXAMPLE_MODELS
    from quant_lens_engine.subject import file_sha256

    if not path.exists():
        examples = {"model": EXAMPLE_MODELS, "data": EXAMPLE_DATA}.get(what, {})
        if given in examples:
            return {"example": given}
        raise InputError(
            f"the {what} {given!r} is " + ("neither a file here nor an example" if examples else "no file here"),
            hint=f"examples: {', '.join(examples)}" if examples else "give the path of a file",
            code="no_such_file",
        )
    try:
        sha256 = file_sha256(path)
    except OSError as error:
        raise InputError(
            f"the {what} file {given!r} cannot be read", hint=error.strerror or "", code="no_such_file"
        ) from None
    files[sha256] = path
    return {"file": sha256}


def _calibration(given: str | None, limit: int | None, files: dict[str, Path]) -> dict[str, Any]:
    """The calibration of a specification, as far as it is said."""
    found: dict[str, Any] = {} if limit is None else {"limit": limit}
    if given is not None:
        source = _source(given, files, "calibration")
        found["file"] = source["file"]
    return found


def _check_writable(*paths: Path | None) -> None:
    """Found out before the work, not after it."""
    for path in paths:
        if path is not None and path != Path("-") and (path.is_dir() or not path.absolute().parent.is_dir()):
            reason = "it is a folder" if path.is_dir() else f"there is no folder {str(path.parent)!r}"
            raise InputError(f"{path} cannot be written", hint=reason, code="cannot_write")


def _tell(result: RunResult, json_path: Path | None, html_path: Path | None, title: str) -> None:
    from quant_lens_engine.report import written_report

    try:
        if html_path is not None:
            from quant_lens_engine.figures.report_page import html_report

            html_path.write_text(html_report(result, title=title), encoding="utf-8")
        if json_path is not None and json_path != Path("-"):
            json_path.write_text(result.model_dump_json(indent=2), encoding="utf-8")
    except OSError as error:
        shown = error.filename or "the file"
        raise InputError(f"{shown} cannot be written", hint=error.strerror or "", code="cannot_write") from None
    if json_path == Path("-"):
        typer.echo(result.model_dump_json(indent=2))
    else:
        typer.echo(written_report(result))


@contextmanager
def _progress(spec: RunSpec) -> Iterator[ProgressProtocol]:
    """A bar over all stages, on a terminal; nothing elsewhere."""
    console = _errors()
    if not console.is_terminal:
        yield SILENT
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}", style="dim"), console=console, transient=True) as bar:
        yield _Bar(bar, [str(key) for key in plan_stages(spec)])


class _Bar:
    """The engine's progress as a bar: each stage is one part of it."""

    def __init__(self, bar: Progress, stages: list[str]) -> None:
        self._bar = bar
        self._places = {stage: place for place, stage in enumerate(stages)}
        self._task = bar.add_task("inspect", total=len(stages), note="")

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        completed = self._places.get(stage, 0) + (done / total if total else 0)
        self._bar.update(self._task, description=stage.replace("/", " "), completed=completed, note=note)

    def check_cancelled(self) -> None:
        """Ctrl-C raises by itself."""


def _errors() -> Console:
    return Console(stderr=True)


if __name__ == "__main__":
    sys.exit(main())
