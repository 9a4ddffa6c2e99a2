"""How work is asked for: by task name, so that nobody here needs the worker's code, or torch."""

from __future__ import annotations

from pathlib import Path

from quant_lens_engine.errors import SpecError
from quant_lens_engine.schema import RunRecord, RunSpec, digest
from quant_lens_engine.schema.recipe_check import spec_by_facts
from quant_lens_engine.version import source_hash
from worker.celery_app import send
from worker.settings import Settings
from worker.store import CheckRecord, Conflict, Store
from worker.store.runs import is_terminal, named_files

RUN_TASK, INSPECT_TASK, CHECK_TASK = "quant_lens.run", "quant_lens.inspect", "quant_lens.check"


def submit(store: Store, spec: RunSpec, owner: str, retry_of: str | None = None) -> RunRecord:
    """A new run, told to the workers; its recipes by their shortest names.

    Raises:
        SpecError: ``unknown_file`` or ``path_not_allowed``.
        SchemeError: a recipe that the engine would refuse, or two that mean the same, as far as a worker has said what
            there is: ``unknown_algorithm``, ``bad_option``, ``not_defined``, ``clashing_algorithms``, ``same_recipe``
    """
    check_sources(store, spec)
    spec = spec_by_facts(spec, store.capabilities.read().algorithms)
    record = store.runs.create(spec, owner, retry_of)
    announce_run(store, record.id)
    return record


def cancel(store: Store, run_id: str) -> RunRecord:
    """End a run; see ``Runs.request_cancel``."""
    return store.runs.request_cancel(run_id)


def retry(store: Store, run_id: str, owner: str) -> RunRecord:
    """The same specification as a new run; what the first one finished is taken from the store.

    Raises:
        NotFound: there is no such run.
        Conflict: it has not ended.
    """
    first = store.runs.get(run_id)
    if not is_terminal(first):
        raise Conflict(f"run {run_id} has not ended", hint="cancel it first")
    return submit(store, RunSpec.model_validate(first.spec), owner, retry_of=run_id)


def inspect(store: Store, sha256: str) -> None:
    """Have a worker look at an uploaded file, unless that is done or under way.

    Raises:
        NotFound: there is no such file.
    """
    if store.files.get(sha256).inspection_state in {"done", "running"}:
        return
    store.files.set_inspection(sha256, "waiting")
    store.jobs.add(f"inspect:{sha256}")
    announce_job(store, f"inspect:{sha256}")


def check(store: Store, spec: RunSpec) -> str:
    """Have a worker run the float model on some rows; the key of the check, the same for the same question.

    Raises:
        SpecError: ``unknown_file`` or ``path_not_allowed``.
    """
    check_sources(store, spec)
    question = spec.model_dump(mode="json", include={"model", "data", "task"})
    key = digest({"check": question, "engine": source_hash()})
    known = store.checks.find(key)
    if known is None or known.state == "failed":
        store.checks.put(CheckRecord(key=key, spec=spec.model_dump(mode="json")))
        store.jobs.add(f"check:{key}")
        announce_job(store, f"check:{key}")
    return key


def announce_run(store: Store, run_id: str) -> None:
    """Tell the workers of runs that there is something to claim in a run."""
    send(store.settings, RUN_TASK, [run_id], queue="runs")


def announce_job(store: Store, job: str) -> None:
    """Tell the workers of inspections of a job: ``inspect:<sha256>`` or ``check:<key>``."""
    kind, _, subject = job.partition(":")
    send(store.settings, INSPECT_TASK if kind == "inspect" else CHECK_TASK, [subject], queue="inspect")


def check_sources(store: Store, spec: RunSpec) -> None:
    """Every upload that the specification names is here, and every path is on the allow-list.

    Raises:
        SpecError: ``unknown_file`` or ``path_not_allowed``.
    """
    for sha256 in named_files(spec.model_dump(mode="json")):
        if store.files.find(sha256) is None:
            raise SpecError(f"there is no file {sha256}", hint="upload it first", code="unknown_file")
    for path in (spec.model.path, spec.data.path):
        if path is not None and allowed_path(store.settings, path) is None:
            raise SpecError(
                f"the path {path!r} is not on the server's allow-list",
                hint="upload the file, or ask an administrator to extend QUANT_LENS_ALLOWED_PATHS",
                code="path_not_allowed",
            )


def allowed_path(settings: Settings, path: str) -> Path | None:
    """The real file behind ``path`` if it lies in an allowed folder (symbolic links followed first), else None."""
    try:
        real = Path(path).resolve(strict=True)
    except OSError:
        return None
    inside = any(real.is_relative_to(folder.resolve()) for folder in settings.allowed_paths)
    return real if inside and real.is_file() else None
