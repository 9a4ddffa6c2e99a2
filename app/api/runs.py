"""Runs: start, list, read, edit, cancel, retry, archive, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from pydantic import Field, WrapValidator

from app.api.access import ForUser, StoreOf
from app.auth import require_owner
from quant_lens_engine.schema import Record, RunRecord, RunSpec, RunState, parse_run_spec
from quant_lens_engine.schema import Request as SchemaRequest
from worker import queue
from worker.store import RunPage

router = APIRouter(prefix="/runs", tags=["runs"])

SpecBody = Annotated[RunSpec, WrapValidator(lambda value, _: parse_run_spec(value))]
"""A RunSpec whose problems are told as the command line tells them."""


class RunEdit(SchemaRequest):
    """What people say about a run; what is left out stays."""

    name: str | None = Field(default=None, max_length=200)
    tags: list[Annotated[str, Field(min_length=1, max_length=50)]] | None = Field(default=None, max_length=20)
    note: str | None = Field(default=None, max_length=10_000)
    archived: bool | None = None


class RunQuery(Record):
    """Which runs, in which order."""

    q: str = Field(default="", max_length=500, description='search, e.g. `state:done tag:prod int4 OR "two words"`')
    state: RunState | None = None
    tag: str | None = None
    sort: str = Field(default="-created_at", description="a field of the record; `-` turns the order round")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before")
    limit: int = Field(default=50, ge=1, le=500)
    archived: bool = Field(default=False, description="the archived runs instead of the others")


@router.post("", status_code=201)
def create_run(spec: Annotated[SpecBody, Body()], store: StoreOf, user: ForUser, response: Response) -> RunRecord:
    """Start a run. The answer's `Location` is the run; follow it by `/events`.

    `schemes` holds schemes (`int4-g128`, `w8a8`) and recipes (`w8a8+smoothquant`, `int4+gptq:act_order=true`). One that
    the workers' engine does not know, or that has no meaning, is refused at once: `unknown_scheme`,
    `unknown_algorithm`, `bad_option`, `not_defined`, `clashing_algorithms`. An option that has its usual value
    is left out of its name; two that then are the same are refused: `same_recipe`.
    """
    record = queue.submit(store, spec, user.name)
    response.headers["Location"] = f"/api/v1/runs/{record.id}"
    return record


@router.get("")
def list_runs(query: Annotated[RunQuery, Query()], store: StoreOf) -> RunPage:
    """Runs, page by page."""
    return store.runs.page(**query.model_dump())


@router.get("/{run_id}")
def read_run(run_id: str, store: StoreOf) -> RunRecord:
    """A run as it stands."""
    return store.runs.get(run_id)


@router.patch("/{run_id}")
def edit_run(run_id: str, edit: RunEdit, store: StoreOf, user: ForUser) -> RunRecord:
    """Change name, tags, note, or archive it; the owner's or an administrator's to do."""
    require_owner(user, store.runs.get(run_id).owner, f"run {run_id}")
    return store.runs.edit(run_id, **edit.model_dump())


@router.delete("/{run_id}", status_code=204)
def delete_run(run_id: str, store: StoreOf, user: ForUser) -> None:
    """Delete a run that has ended, with every stage result that no other run uses."""
    require_owner(user, store.runs.get(run_id).owner, f"run {run_id}")
    store.runs.delete(run_id)


@router.post("/{run_id}/cancel")
def cancel_run(run_id: str, store: StoreOf, user: ForUser) -> RunRecord:
    """Stop a run; the work ends within seconds, what is finished stays."""
    require_owner(user, store.runs.get(run_id).owner, f"run {run_id}")
    return queue.cancel(store, run_id)


@router.post("/{run_id}/retry", status_code=201)
def retry_run(run_id: str, store: StoreOf, user: ForUser, response: Response) -> RunRecord:
    """A new run of the same specification; stages that are stored are not computed again."""
    record = queue.retry(store, run_id, user.name)
    response.headers["Location"] = f"/api/v1/runs/{record.id}"
    return record


@router.post("/{run_id}/archive")
def archive_run(run_id: str, store: StoreOf, user: ForUser) -> RunRecord:
    """Take a run out of the table; `PATCH` with `"archived": false` puts it back."""
    require_owner(user, store.runs.get(run_id).owner, f"run {run_id}")
    return store.runs.edit(run_id, archived=True)
