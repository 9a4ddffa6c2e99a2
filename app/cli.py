"""``quant-lens``: the server and its parts, runs from the command line, tokens, and a look at this machine.

Exit codes: 0 well, 1 the check failed (``--fail-on``, ``doctor``), 2 bad input, 3 internal fault.
"""

from __future__ import annotations

import sys
import traceback
from enum import StrEnum
from typing import Annotated, Literal

import typer

from quant_lens_engine import cli_options
from quant_lens_engine.errors import InputError, QuantLensError
from quant_lens_engine.version import __version__

cli = typer.Typer(
    name="quant-lens",
    help="See what quantization does to a network before you ship it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tokens = typer.Typer(help="Tokens of a server with QUANT_LENS_AUTH=token.", no_args_is_help=True)
cli.add_typer(tokens, name="token")


class Queue(StrEnum):
    """What a worker may serve."""

    RUNS = "runs"
    INSPECT = "inspect"
    FETCH = "fetch"


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "missing": ("✗", "red")}


def main() -> None:
    """The console script: runs the command, and turns errors into a message and an exit code."""
    try:
        cli()
    except QuantLensError as error:
        sys.exit(tell(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        typer.secho("This is a fault of Quant Lens, not of your input.", fg="red", err=True)
        sys.exit(3)


def tell(error: QuantLensError) -> int:
    """Print an error as people read it; the exit code that goes with it."""
    typer.secho(f"{error.message} [{error.code}]", fg="red", err=True)
    if error.hint:
        typer.echo(f"  {error.hint}", err=True)
    return 2 if isinstance(error, InputError) else 3


@cli.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Say the version.", is_eager=True)] = False) -> None:
    if version:
        typer.echo(f"quant-lens {__version__}")
        raise typer.Exit


@cli.command()
def up() -> None:
    """Everything on this machine: store, workers, the web page. Ctrl-C ends all of it."""
    from app.auth.exposure import refuse_open_server
    from worker.settings import load_settings
    from worker.supervisor import run_everything

    settings = load_settings()
    refuse_open_server(settings)
    raise typer.Exit(run_everything(settings, [sys.executable, "-m", "app.cli", "web"]))


@cli.command()
def web() -> None:
    """The web server alone, for a deployment (QUANT_LENS_REDIS_URL names the store)."""
    from app.serve import serve

    serve()


@cli.command()
def worker(
    queue: Annotated[list[Queue] | None, typer.Option(help="What it serves; without it runs and inspect.")] = None,
) -> None:
    """A worker alone, for a deployment."""
    from worker.serve import run_worker

    raise typer.Exit(run_worker([one.value for one in queue or (Queue.RUNS, Queue.INSPECT)]))


@cli.command(context_settings=_PASSED_ON, short_help="Measure a model here, without a server.")
def analyze(context: typer.Context) -> None:
    """Measure a model here, without a server; writes the same result as the server's."""
    _engine_command("analyze", context.args)


@cli.command(context_settings=_PASSED_ON, short_help="The schemes, observers and algorithms that there are.")
def schemes(context: typer.Context) -> None:
    """The schemes, observers and algorithms that there are; with a name, that one in full."""
    _engine_command("schemes", context.args)


@cli.command()
def submit(
    model: Annotated[str, typer.Argument(help="A checkpoint here, an example of the server, or hub:owner/name.")],
    data: Annotated[str, typer.Option(help="Rows and labels: a file here, or an example of the server.")],
    server: Annotated[str, typer.Option(envvar="QUANT_LENS_SERVER", help="Its address.")] = "http://127.0.0.1:8050",
    token: Annotated[str | None, typer.Option(envvar="QUANT_LENS_TOKEN", help="For a server with sign-in.")] = None,
    architecture: cli_options.Architecture = "auto",
    options: cli_options.ArchitectureOptions = None,
    part: cli_options.Part = None,
    adapter: Annotated[
        str | None, typer.Option(help="A LoRA adapter to merge: a zip of PEFT's folder.")
    ] = None,
    transform: cli_options.Transform = None,
    scheme: cli_options.Schemes = None,
    preset: Annotated[Literal["quick", "standard", "thorough"], typer.Option(help="How hard to measure.")] = "standard",
    curvature: cli_options.Curvature = None,
    line: cli_options.Line = None,
    plane: cli_options.Plane = None,
    activations: cli_options.Activations = None,
    batchnorm: cli_options.BatchNorm = None,
    text: cli_options.Text = None,
    task: cli_options.Task = "classification",
    limit: cli_options.Limit = None,
    batch_size: cli_options.BatchSize = None,
    calibration: Annotated[str | None, typer.Option(help="A file to calibrate on; else rows left over.")] = None,
    calibration_limit: cli_options.CalibrationLimit = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N, of the worker.")] = "auto",
    seed: cli_options.Seed = 0,
    name: Annotated[str, typer.Option(help="The run's name.")] = "",
    wait: Annotated[bool, typer.Option(help="Follow the run to its end; else print its id.")] = True,
    json_path: cli_options.JsonPath = None,
    html_path: cli_options.HtmlPath = None,
    fail_on: Annotated[
        Literal["caution", "degraded", "collapsed"] | None,
        typer.Option(help="Exit code 1 when a verdict is as bad, or worse."),
    ] = None,
) -> None:  # fmt: skip
    """Measure a model on a server: upload what it does not have, run, follow, report."""
    from app import submission
    from app.client import Client

    request = submission.Request(
        model, data, architecture, options, transform, tuple(scheme or ()), preset, task, limit, batch_size,
        calibration, calibration_limit, device, seed, name, curvature, line, plane, part, adapter, text,
        activations, batchnorm,
    )  # fmt: skip
    outcome = submission.Outcome(wait, json_path, html_path, fail_on)
    with Client(server, token) as client:
        raise typer.Exit(submission.submit(client, request, outcome))


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="Whose token it is.")],
    admin: Annotated[bool, typer.Option(help="May change and delete what others own.")] = False,
) -> None:
    """Make a token. It is shown this once; only its hash is kept."""
    from app.token_store import connected_store

    with connected_store() as store:
        made = store.users.create_token(name, admin)
    typer.echo(made)
    typer.secho(
        "Keep it: it is not shown again. Paste it on the sign-in page, or send it as Authorization: Bearer TOKEN.",
        err=True,
        dim=True,
    )


@tokens.command("list")
def list_tokens() -> None:
    """Who has tokens."""
    from app.token_store import connected_store

    with connected_store() as store:
        users = store.users.list()
    for user in users:
        typer.echo(f"{user.name}\t{'admin' if user.admin else 'member'}\t{user.tokens} token(s)\t{user.created_at}")
    if not users:
        typer.echo("nobody yet: quant-lens token create NAME", err=True)


@tokens.command("revoke")
def revoke_tokens(name: Annotated[str, typer.Argument(help="Whose tokens end.")]) -> None:
    """End all tokens of a user, and the sessions made with them. What the user owns stays."""
    from app.token_store import connected_store

    with connected_store() as store:
        store.users.revoke(name)
    typer.echo(f"{name} has no tokens any more")


@cli.command()
def doctor() -> None:
    """Look at this machine: what is there, what is missing, and how to get it."""
    from app.doctor import examine
    from worker.settings import load_settings

    missing = 0
    for finding in examine(load_settings()):
        mark, colour = _MARKS[finding.state]
        typer.secho(f"{mark} {finding.what:<12} ", fg=colour, nl=False)
        typer.echo(finding.found)
        if finding.remedy:
            typer.echo(f"  {'':<12} → {finding.remedy}")
        missing += finding.state == "missing"
    raise typer.Exit(1 if missing else 0)


def _engine_command(name: str, arguments: list[str]) -> None:
    from quant_lens_engine.cli import cli as engine_cli

    engine_cli([name, *arguments], prog_name="quant-lens")


if __name__ == "__main__":
    main()
