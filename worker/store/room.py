"""Whether a file that is about to come fits: the largest that is taken, an owner's share, everybody's, the disk."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable

from quant_lens_engine.errors import InputError
from worker.settings import Settings
from worker.store.files import Files

OnTheWay = Callable[[str | None], int]
"""Bytes that an owner, or everybody (None), has been promised room for already."""


def is_disk_full(error: OSError) -> bool:
    """Whether what could not be written had no room, on the disk or in the system's own quota."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def check_room(
    files: Files, settings: Settings, owner: str, size: int, on_the_way: OnTheWay, disk_bytes: int | None = None
) -> None:
    """Refuse a file before a byte of it comes.

    Args:
        files: what is stored.
        settings: the limits.
        owner: whose it will be.
        size: of the file, in bytes.
        on_the_way: what is coming besides it.
        disk_bytes: what it needs on the disk while it comes; without it, its size.

    Raises:
        InputError: ``too_large``, ``quota_exceeded`` or ``disk_full``.
    """
    if size > settings.max_upload_bytes:
        raise InputError(
            f"the file has {size:,} bytes; this server takes {settings.max_upload_bytes:,} at most",
            hint="upload a smaller file, or ask an administrator to raise QUANT_LENS_MAX_UPLOAD_BYTES",
            code="too_large",
            details={"size_bytes": size, "max_upload_bytes": settings.max_upload_bytes},
        )
    taken = files.used_bytes(owner) + on_the_way(owner)
    if taken + size > settings.quota_bytes:
        raise InputError(
            f"{owner} has {taken:,} of {settings.quota_bytes:,} bytes in use; {size:,} more do not fit",
            hint="delete files that no run needs, or ask an administrator to raise QUANT_LENS_QUOTA_BYTES",
            code="quota_exceeded",
        )
    total = settings.total_quota_bytes
    everybodys = 0 if total is None else files.used_bytes() + on_the_way(None)
    if total is not None and everybodys + size > total:
        raise InputError(
            f"all files together have {everybodys:,} of {total:,} bytes in use; {size:,} more do not fit",
            hint="delete files that no run needs, or ask an administrator to raise QUANT_LENS_TOTAL_QUOTA_BYTES",
            code="quota_exceeded",
        )
    if (disk_bytes or size) > shutil.disk_usage(settings.data_dir).free:
        raise InputError(
            "the server's disk has no room for this file", hint="an administrator makes room", code="disk_full"
        )
