"""Finished files, by the hash of their bytes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from app.api.access import ForUser, StoreOf
from app.auth import require_owner
from worker.store import FileRecord

router = APIRouter(prefix="/files", tags=["files"])

Sha256 = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="of the file's bytes, in hexadecimal")]


@router.get("/{sha256}")
def read_file(sha256: Sha256, store: StoreOf) -> FileRecord:
    """What is known of a file, with what a worker found in it; 404 says that it has to be uploaded."""
    return store.files.get(sha256)


@router.delete("/{sha256}", status_code=204)
def delete_file(sha256: Sha256, store: StoreOf, user: ForUser) -> None:
    """Delete a file that no run needs."""
    require_owner(user, store.files.get(sha256).owner, f"file {sha256[:12]}")
    store.files.delete(sha256)
