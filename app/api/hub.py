"""Models from the hub by their id, where an administrator lets the server out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import Field

from app.api.access import ForUser, StoreOf
from quant_lens_engine.schema import Request
from worker import queue
from worker.store import FetchRecord

router = APIRouter(prefix="/hub", tags=["hub"])

Key = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="of the fetch")]


class FetchRequest(Request):
    """Which model."""

    repo: str = Field(max_length=200, description="its id there, `owner/name`")
    revision: str = Field(default="main", max_length=200, description="a branch, a tag or a commit")


@router.post("", status_code=202)
def fetch_model(asked: FetchRequest, store: StoreOf, user: ForUser, response: Response) -> FetchRecord:
    """Fetch a model into the files of this server; the answer's `Location` is the fetch.

    Follow it there until its `state` is `done`, when `sha256` is a file like any upload, or `failed`, when `error` says
    why. The same commit is fetched once. Refused where `QUANT_LENS_HUB` is unset (`hub_off`), and while four of yours
    are on their way (`too_many_fetches`).
    """
    record = queue.fetch(store, asked.repo, asked.revision, user.name)
    response.headers["Location"] = f"/api/v1/hub/{record.key}"
    return record


@router.get("/{key}")
def read_fetch(key: Key, store: StoreOf, user: ForUser) -> FetchRecord:
    """How far it is, in bytes, and what it has become. Somebody else's is not there, as with uploads."""
    return store.fetches.get(key, owner=None if user.admin else user.name)


@router.delete("/{key}", status_code=204)
def cancel_fetch(key: Key, store: StoreOf, user: ForUser) -> None:
    """Cancel a fetch, and forget it. A file that it has become stays."""
    store.fetches.get(key, owner=None if user.admin else user.name)
    queue.cancel_fetch(store, key)
