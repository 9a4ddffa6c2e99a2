"""The runs: created, read, listed, edited, cancelled, deleted. Their record here is the truth; Celery only carries."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quant_lens_engine.errors import InputError, SpecError
from quant_lens_engine.schema import (
    TERMINAL_STATES,
    ErrorBody,
    RunRecord,
    RunSpec,
    RunState,
    StageFailure,
    StageKey,
    StageProgress,
    distinct_failures,
    plan_units,
)
from worker.store import keys
from worker.store.clock import iso, server_time
from worker.store.connection import Client, Scripts
from worker.store.errors import Conflict, NotFound
from worker.store.progress import run_progress, stage_weights
from worker.store.run_page import RunPage, page_of, read_rows, select

_CUT_SHORT = TERMINAL_STATES - {"DONE"}
NAME_LIMIT, NOTE_LIMIT, TAG_LIMIT, TAGS_LIMIT = 200, 10_000, 50, 20


class Runs:
    """Every run of the server. Each change is one atomic step on Redis, so readers and writers need no locks."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        self._client = client
        self._scripts = scripts

    def create(self, spec: RunSpec, owner: str, retry_of: str | None = None) -> RunRecord:
        """A new run, QUEUED. (``worker.queue.submit`` also tells the workers.)

        Raises:
            SpecError: ``unknown_file``: a file that it names is not there (any more).
        """
        run_id = new_run_id()
        now = server_time(self._client)
        plan = [
            {"id": unit.id, "stages": [str(key) for key in unit.stages], "after": list(unit.after)}
            for unit in plan_units(spec)
        ]
        fields = {
            "id": run_id,
            "name": spec.name,
            "owner": owner,
            "state": "QUEUED",
            "spec": spec.model_dump_json(),
            "plan": json.dumps(plan),
            "weights": json.dumps(stage_weights(spec)),
            "tags": "[]",
            "note": "",
            "archived": "0",
            "attempt": "0",
            "retry_of": retry_of or "",
            "created_at": f"{now:.6f}",
            "version": "1",
        }
        free = json.dumps({"state": "waiting", "token": "", "worker": "", "expires": 0, "attempts": 0})
        stages = {str(key): _waiting(key) for unit in plan_units(spec) for key in unit.stages}
        new = {
            "fields": fields,
            "units": {unit["id"]: free for unit in plan},
            "stages": stages,
            "event": json.dumps({"state": "QUEUED", "error": None}),
        }
        files = named_files(json.loads(fields["spec"]))
        missing = self._scripts.run(
            "create", run_id, json.dumps(new), f"{now:.6f}", keys.file(""), *files, more_keys=(keys.RUNS,)
        )
        if missing:
            raise unknown_file(missing[0])
        return self.get(run_id)

    def get(self, run_id: str) -> RunRecord:
        """The run as it stands.

        Raises:
            NotFound: there is no such run.
        """
        return self._records([run_id])[0]

    def version(self, run_id: str) -> int:
        """A number that grows with every change of the run: cheap to ask for, again and again."""
        version = self._client.hget(keys.run(run_id), "version")
        if version is None:
            raise _no_run(run_id)
        return int(version)

    def page(
        self,
        q: str = "",
        state: RunState | None = None,
        tag: str | None = None,
        sort: str = "-created_at",
        cursor: str | None = None,
        limit: int = 50,
        archived: bool = False,
    ) -> RunPage:
        """The runs that a search selects, sorted, one page of them.

        Args:
            q: see :mod:`worker.store.search`.
            state: only runs in this state.
            tag: only runs with this tag.
            sort: a field of ``SORT_FIELDS``; ``-`` in front turns it round.
            cursor: ``next_cursor`` of the page before.
            limit: 1 to 500.
            archived: the archived runs instead of the others.

        Raises:
            BadQuery: the search, the sort or the cursor is not understood.
        """
        rows = select(read_rows(self._client), q=q, state=state, tag=tag, archived=archived)
        chosen, next_cursor = page_of(rows, sort=sort, cursor=cursor, limit=limit)
        return RunPage(items=self._records(chosen, missing_ok=True), next_cursor=next_cursor, total=len(rows))

    def edit(
        self,
        run_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        note: str | None = None,
        archived: bool | None = None,
    ) -> RunRecord:
        """Change what people say about a run; what is None stays.

        Raises:
            NotFound: there is no such run.
            InputError: ``bad_edit``: too long, or too many tags.
        """
        changes: dict[str, Any] = {
            "name": name and name.strip(), "tags": None if tags is None else _clean_tags(tags), "note": note,
            "archived": archived,
        }  # fmt: skip
        changes = {field: value for field, value in changes.items() if value is not None}
        for field, limit in (("name", NAME_LIMIT), ("note", NOTE_LIMIT)):
            if len(changes.get(field, "")) > limit:
                raise InputError(f"the {field} is longer than {limit} characters", code="bad_edit")
        stored: dict[str, Callable[[Any], str]] = {"tags": json.dumps, "archived": lambda value: str(int(value))}
        pairs = [part for key, value in changes.items() for part in (key, stored.get(key, str)(value))]
        if pairs and not self._scripts.run("edit", run_id, json.dumps(changes), *pairs):
            raise _no_run(run_id)
        return self.get(run_id)

    def delete(self, run_id: str) -> None:
        """Remove a run that has ended: record, events, and every stage result that no other run uses.

        Raises:
            NotFound: there is no such run.
            Conflict: it has not ended.
        """
        spec = self._client.hget(keys.run(run_id), "spec")
        files = named_files(json.loads(spec)) if spec else []
        answer = self._scripts.run(
            "delete", run_id, keys.payload(""), keys.file(""), *files, more_keys=(keys.RUNS, keys.summary(run_id))
        )
        if answer == "missing":
            raise _no_run(run_id)
        if answer == "active":
            raise Conflict(f"run {run_id} has not ended", hint="cancel it first")

    def request_cancel(self, run_id: str) -> RunRecord:
        """CANCELLED at once, if it has not ended; whoever works on it learns of it within a second.

        Raises:
            NotFound: there is no such run.
            Conflict: it has ended already, otherwise than by a cancel.
        """
        state = self._scripts.run("cancel", run_id)
        if not state:
            raise _no_run(run_id)
        if state != "CANCELLED":
            raise Conflict(f"run {run_id} has ended already: {state}")
        return self.get(run_id)

    def active(self) -> list[str]:
        """Ids of the runs that have not ended."""
        return sorted(self._client.smembers(keys.ACTIVE))

    def _records(self, run_ids: Sequence[str], missing_ok: bool = False) -> list[RunRecord]:
        with self._client.pipeline(transaction=True) as pipe:
            for run_id in run_ids:
                pipe.hgetall(keys.run(run_id))
                pipe.hgetall(keys.stages(run_id))
                pipe.hgetall(keys.failures(run_id))
            answers = pipe.execute()
        triples = zip(answers[0::3], answers[1::3], answers[2::3], strict=True)
        records = [(run_id, _record(*triple)) for run_id, triple in zip(run_ids, triples, strict=True)]
        if not missing_ok:
            for run_id, record in records:
                if record is None:
                    raise _no_run(run_id)
        return [record for _, record in records if record is not None]


def new_run_id() -> str:
    """Twelve characters without look-alikes: short enough for a link, too many to guess."""
    return "".join(secrets.choice("23456789abcdefghjkmnpqrstuvwxyz") for _ in range(12))


def named_files(spec: Mapping[str, Any]) -> list[str]:
    """SHA-256 of every upload that a specification names."""
    calibration = spec["data"].get("calibration") or {}
    further = spec["model"].get("checkpoints") or ()
    model = (spec["model"].get("file"), spec["model"].get("adapter"))
    named = (*model, spec["data"].get("file"), calibration.get("file"), *further)
    return sorted({sha256 for sha256 in named if sha256})


def unknown_file(sha256: str) -> SpecError:
    """What is said of a file that a specification names and that is not there."""
    return SpecError(f"there is no file {sha256}", hint="upload it first", code="unknown_file")


def is_terminal(record: RunRecord) -> bool:
    """Whether the run has ended, whichever way."""
    return record.state in TERMINAL_STATES


def _record(run: Mapping[str, str], stages: Mapping[str, str], failures: Mapping[str, str]) -> RunRecord | None:
    if "id" not in run:
        return None
    order = [name for unit in json.loads(run["plan"]) for name in unit["stages"]]
    progress = [StageProgress.model_validate_json(stages[name]) for name in order if name in stages]
    return RunRecord(
        id=run["id"],
        name=run["name"],
        owner=run["owner"],
        state=run["state"],
        progress=run_progress(progress, json.loads(run["weights"]), was_cut_short=run["state"] in _CUT_SHORT),
        error=ErrorBody.model_validate_json(run["error"]) if run.get("error") else None,
        attempt=int(run["attempt"]),
        retry_of=run["retry_of"] or None,
        spec=json.loads(run["spec"]),
        created_at=iso(run["created_at"]) or "",
        started_at=iso(run.get("started_at")),
        finished_at=iso(run.get("finished_at")),
        tags=json.loads(run["tags"]),
        note=run["note"],
        archived=run["archived"] == "1",
        failures=distinct_failures(
            StageFailure.model_validate_json(failures[name]) for name in order if name in failures
        ),
        version=int(run["version"]),
    )


def _waiting(key: StageKey) -> str:
    return StageProgress(stage=key.kind, variant=key.variant, part=key.part).model_dump_json()


def _clean_tags(tags: Sequence[str]) -> list[str]:
    clean = list(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    if len(clean) > TAGS_LIMIT or any(len(tag) > TAG_LIMIT for tag in clean):
        raise InputError(f"at most {TAGS_LIMIT} tags, each of at most {TAG_LIMIT} characters", code="bad_edit")
    return clean


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"there is no run {run_id[:40]!r}", hint="it may have been deleted")
