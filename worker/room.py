"""Whether a file that is about to come fits: the largest that is taken, an owner's share, everybody's, the disk."""

from __future__ import annotations

import errno
import shutil

from quant_lens_engine.errors import InputError
from worker.store import Store
from worker.store.upload_sidecar import announced_bytes


def is_disk_full(error: OSError) -> bool:
    """Whether what could not be written had no room, on the disk or in the system's own quota."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def taken_bytes(store: Store, owner: str | None, besides: str = "") -> int:
    """What an owner, or everybody (None), has: files, uploads that were announced, models on their way from the hub.

    Args:
        store: what is known; its settings say where uploads arrive.
        owner: whose.
        besides: the key of a fetch that does not count.
    """
    coming = announced_bytes(store.settings.uploads_dir, owner) + store.fetches.promised_bytes(owner, besides)
    return store.files.used_bytes(owner) + coming


def check_room(store: Store, owner: str, size: int, *, besides: str = "", disk_bytes: int | None = None) -> None:
    """Refuse a file before a byte of it comes.

    Args:
        store: its settings are the limits.
        owner: whose it will be.
        size: of the file, in bytes.
        besides: the key of the fetch that brings it, which is promised its room already.
        disk_bytes: what it needs on the disk while it comes; without it, its size.

    Raises:
        InputError: ``too_large``, ``quota_exceeded`` or ``disk_full``.
    """
    settings = store.settings
    if size > settings.max_upload_bytes:
        raise InputError(
            f"the file has {size:,} bytes; this server takes {settings.max_upload_bytes:,} at most",
            hint="upload a smaller file, or ask an administrator to raise QUANT_LENS_MAX_UPLOAD_BYTES",
            code="too_large",
            details={"size_bytes": size, "max_upload_bytes": settings.max_upload_bytes},
        )
    taken = taken_bytes(store, owner, besides)
    if taken + size > settings.quota_bytes:
        raise InputError(
            f"{owner} has {taken:,} of {settings.quota_bytes:,} bytes in use; {size:,} more do not fit",
            hint="delete files that no run needs, or ask an administrator to raise QUANT_LENS_QUOTA_BYTES",
            code="quota_exceeded",
        )
    total = settings.total_quota_bytes
    everybodys = 0 if total is None else taken_bytes(store, None, besides)
    if total is not None and everybodys + size > total:
        raise InputError(
            f"all files together have {everybodys:,} of {total:,} bytes in use; {size:,} more do not fit",
            hint="delete files that no run needs, or ask an administrator to raise QUANT_LENS_TOTAL_QUOTA_BYTES",
            code="quota_exceeded",
        )
    if (size if disk_bytes is None else disk_bytes) > shutil.disk_usage(settings.data_dir).free:
        raise InputError(
            "the server's disk has no room for this file", hint="an administrator makes room", code="disk_full"
        )
