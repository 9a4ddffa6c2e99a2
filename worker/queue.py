"""How work is asked for: by task name, so that nobody here needs the worker's code, or torch."""

from __future__ import annotations

from pathlib import Path

from quant_lens_engine.errors import QuantLensError, SpecError
from quant_lens_engine.schema import RunRecord, RunSpec, digest
from quant_lens_engine.schema.recipe_check import spec_by_facts
from quant_lens_engine.version import source_hash
from worker.celery_app import send
from worker.hub.names import check_asked
from worker.settings import Settings
from worker.store import CheckRecord, Conflict, FetchRecord, FileRecord, Store, UploadsRefused
from worker.store.capabilities import FETCH_QUEUE
from worker.store.runs import is_terminal, named_files, unknown_file

RUN_TASK, INSPECT_TASK, CHECK_TASK = "quant_lens.run", "quant_lens.inspect", "quant_lens.check"
FETCH_TASK = "quant_lens.fetch"
_JOBS = {"inspect": (INSPECT_TASK, "inspect"), "check": (CHECK_TASK, "inspect"), "fetch": (FETCH_TASK, FETCH_QUEUE)}
"""Task and queue of each kind of small job."""


def submit(store: Store, spec: RunSpec, owner: str, retry_of: str | None = None) -> RunRecord:
    """A new run, told to the workers; its recipes by their shortest names.

    Raises:
        SpecError: ``unknown_file`` or ``path_not_allowed``.
        SchemeError: a recipe that the engine would refuse, or two that mean the same, as far as a worker has said what
            there is: ``unknown_algorithm``, ``bad_option``, ``not_defined``, ``clashing_algorithms``, ``same_recipe``
        UploadsRefused: it names an upload, and every worker that is alive lacks walls that are demanded.
    """
    check_sources(store, spec)
    if named_files(spec.model_dump(mode="json")):
        _check_walls(store)
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


def take_in(store: Store, path: Path, sha256: str, filename: str, owner: str) -> FileRecord:
    """Move a file that has arrived into the store, and have a worker look at it; see ``Files.add``."""
    record = store.files.add(path, sha256, filename, owner)
    path.unlink(missing_ok=True)
    if record.inspection_state in {"waiting", "failed"}:
        inspect(store, sha256)
    return record


def fetch(store: Store, repo: str, revision: str, owner: str) -> FetchRecord:
    """Have a worker fetch a model from the hub; asked again, the same fetch, begun anew where it has ended.

    Raises:
        InputError: ``hub_off``: the server may not; ``bad_repo_id``.
        QuantLensError: ``hub_not_installed``; ``no_fetcher``: no worker is there to do it.
    """
    check_asked(store.settings, repo, revision)
    if not any(FETCH_QUEUE in worker.queues for worker in store.capabilities.workers()):
        raise QuantLensError(
            "no worker of this server fetches from the hub just now",
            hint="it may be starting; else an administrator starts one: quant-lens worker --queue fetch",
            code="no_fetcher",
        )
    record = store.fetches.begin(repo, revision, owner)
    if store.jobs.add(f"fetch:{record.key}"):
        announce_job(store, f"fetch:{record.key}")
    return record


def cancel_fetch(store: Store, key: str) -> None:
    """End a fetch, and forget it; a file that it has become stays."""
    store.fetches.remove(key)
    store.jobs.drop(f"fetch:{key}")


def check(store: Store, spec: RunSpec) -> str:
    """Have a worker run the float model on some rows; the key of the check, the same for the same question.

    Raises:
        SpecError: ``unknown_file`` or ``path_not_allowed``.
    """
    check_sources(store, spec)
    question = spec.model_dump(mode="json", include={"model", "data", "task"})
    key = digest({"check": question, "engine": source_hash()})
    known = store.checks.find(key)
    missing = store.files.need(named_files(question))
    if missing:
        raise unknown_file(missing[0])
    if known is None or known.state == "failed":
        store.checks.put(CheckRecord(key=key, spec=spec.model_dump(mode="json")))
        store.jobs.add(f"check:{key}")
        announce_job(store, f"check:{key}")
    return key


def announce_run(store: Store, run_id: str) -> None:
    """Tell the workers of runs that there is something to claim in a run."""
    send(store.settings, RUN_TASK, [run_id], queue="runs")


def announce_job(store: Store, job: str) -> None:
    """Tell the workers of a small job: ``inspect:<sha256>``, ``check:<key>`` or ``fetch:<key>``."""
    kind, _, subject = job.partition(":")
    task, queue = _JOBS[kind]
    send(store.settings, task, [subject], queue=queue)


def check_sources(store: Store, spec: RunSpec) -> None:
    """Every upload that the specification names is here, and every path is on the allow-list.

    Raises:
        SpecError: ``unknown_file`` or ``path_not_allowed``.
    """
    for sha256 in named_files(spec.model_dump(mode="json")):
        if store.files.find(sha256) is None:
            raise unknown_file(sha256)
    for path in (spec.model.path, spec.data.path):
        if path is not None and allowed_path(store.settings, path) is None:
            raise SpecError(
                f"the path {path!r} is not on the server's allow-list",
                hint="upload the file, or ask an administrator to extend QUANT_LENS_ALLOWED_PATHS",
                code="path_not_allowed",
            )


def _check_walls(store: Store) -> None:
    problem = store.capabilities.uploads_problem("runs")
    if problem is not None:
        raise UploadsRefused(
            f"no worker of this server opens uploads: {problem}",
            hint="its administrator demands these walls: `quant-lens doctor` on the worker's machine says how to get "
            "them; examples run all the same",
        )


def allowed_path(settings: Settings, path: str) -> Path | None:
    """The real file or folder behind ``path`` if it is in an allowed one (symbolic links followed first), else None."""
    try:
        real = Path(path).resolve(strict=True)
    except OSError:
        return None
    roots = [folder.resolve() for folder in settings.allowed_paths]
    inside = any(real.is_relative_to(root) for root in roots)
    return real if inside and (real.is_file() or (real.is_dir() and real not in roots)) else None
