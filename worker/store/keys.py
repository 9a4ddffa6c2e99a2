"""The names of everything in Redis. A run's keys share its id, so that one look at the server finds them all."""

from __future__ import annotations

PREFIX = "quant_lens"

RUNS = f"{PREFIX}:runs"
"""Sorted set of run ids by time of creation."""
ACTIVE = f"{PREFIX}:active"
"""Set of run ids that are QUEUED or RUNNING."""
FILES = f"{PREFIX}:files"
"""Sorted set of file hashes by time of arrival."""
FILES_ID = f"{PREFIX}:files_id"
"""What the folder of all files is marked with: whose they are."""
JOBS = f"{PREFIX}:jobs"
"""Hash of unfinished small jobs: ``inspect:<sha256>``, ``check:<key>`` or ``fetch:<key>`` -> its claim."""
FETCHES = f"{PREFIX}:fetches"
"""Set of keys of the fetches that may be remembered."""
USERS = f"{PREFIX}:users"
"""Hash of users by name."""
WORKERS = f"{PREFIX}:workers"
"""Set of ids of workers that may be alive."""
CAPABILITIES = f"{PREFIX}:capabilities"
"""What the last worker that started can do."""
REAPER = f"{PREFIX}:reaper"
"""Held by the worker that is sweeping."""
FILE_SWEEP = f"{PREFIX}:file_sweep"
"""There while no worker need look for files that nobody needs."""


def run(run_id: str) -> str:
    """Hash: the run's record, without its stages."""
    return f"{PREFIX}:run:{run_id}"


def units(run_id: str) -> str:
    """Hash: unit -> ``{"state", "token", "worker", "expires", "attempts"}``."""
    return f"{PREFIX}:run:{run_id}:units"


def stages(run_id: str) -> str:
    """Hash: stage -> StageProgress."""
    return f"{PREFIX}:run:{run_id}:stages"


def results(run_id: str) -> str:
    """Hash: stage -> fingerprint of its payload."""
    return f"{PREFIX}:run:{run_id}:results"


def failures(run_id: str) -> str:
    """Hash: stage -> StageFailure."""
    return f"{PREFIX}:run:{run_id}:failures"


def events(run_id: str) -> str:
    """Stream of what happened to the run."""
    return f"{PREFIX}:run:{run_id}:events"


def summary(run_id: str) -> str:
    """The run's few numbers for the table, with the count of results that they were taken from."""
    return f"{PREFIX}:run:{run_id}:summary"


def run_keys(run_id: str) -> list[str]:
    """KEYS of every script on a run, in the order that ``lua/run.lua`` names them."""
    return [
        run(run_id), units(run_id), stages(run_id), results(run_id), failures(run_id), events(run_id), ACTIVE,
    ]  # fmt: skip


def payload(fingerprint: str) -> str:
    """What a stage of this fingerprint yields."""
    return f"{PREFIX}:stage:{fingerprint}"


def uses(fingerprint: str) -> str:
    """Set of ids of the runs that use the payload."""
    return f"{PREFIX}:stage:{fingerprint}:uses"


def file(sha256: str) -> str:
    """Hash: a file's record."""
    return f"{PREFIX}:file:{sha256}"


def file_uses(sha256: str) -> str:
    """Set of ids of the runs that name the file."""
    return f"{PREFIX}:file:{sha256}:uses"


def file_turn(sha256: str) -> str:
    """Held by who is storing or removing the file's bytes."""
    return f"{PREFIX}:file:{sha256}:turn"


def check(key: str) -> str:
    """A baseline check's record."""
    return f"{PREFIX}:check:{key}"


def fetch(key: str) -> str:
    """The record of a fetch from the hub."""
    return f"{PREFIX}:fetch:{key}"


def fetched(source: str, commit: str) -> str:
    """Hash of the file that a commit of a repository became."""
    return f"{PREFIX}:fetched:{source}@{commit}"


def token(token_sha256: str) -> str:
    """The name of the user whose token has this hash."""
    return f"{PREFIX}:token:{token_sha256}"


def worker(worker_id: str) -> str:
    """A live worker's facts; the key goes away by itself when the worker falls silent."""
    return f"{PREFIX}:worker:{worker_id}"
