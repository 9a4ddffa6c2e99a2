"""The folders where models lie while they come: each held by one process, counted, and removed when it is over."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quant_lens_engine.errors import QuantLensError
from worker.settings import Settings
from worker.store import Store

_LOCKS = ".locks"


class FolderBusy(QuantLensError):  # noqa: N818  (a state)
    """Another process is at the same model, and does not end."""

    default_code = "fetch_busy"


@contextmanager
def folder_of(settings: Settings, key: str, patience_s: float) -> Iterator[Path]:
    """The folder of a fetch, for this process alone: one whose lease has run out may still be writing into it.

    Args:
        settings: say where.
        key: of the fetch.
        patience_s: how long to wait for another process.

    Raises:
        FolderBusy: it did not end.
    """
    from filelock import FileLock, Timeout

    hub = settings.hub_dir.absolute()
    hub.mkdir(mode=0o700, parents=True, exist_ok=True)
    (hub / _LOCKS).mkdir(mode=0o700, exist_ok=True)
    try:
        with FileLock(hub / _LOCKS / key, timeout=patience_s):
            yield hub / key
    except Timeout:
        raise FolderBusy("another process is at this model", hint="fetch it again in a few minutes") from None


def bytes_in(folder: Path) -> int:
    """What the files in a folder take.

    Example:
        >>> bytes_in(Path("no such folder"))
        0
    """
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def sweep(store: Store) -> None:
    """Remove what came of fetches that were cancelled or are forgotten; what failed is kept as long as its record."""
    hub = store.settings.hub_dir.absolute()
    for path in (*hub.glob("*"), *hub.glob(f"{_LOCKS}/*")):
        if path.name == _LOCKS or _is_wanted(store, path.name):
            continue
        with suppress(FolderBusy), folder_of(store.settings, path.name, patience_s=0.0) as folder:
            shutil.rmtree(folder, ignore_errors=True)
            (hub / _LOCKS / path.name).unlink(missing_ok=True)


def _is_wanted(store: Store, key: str) -> bool:
    record = store.fetches.find(key)
    return record is not None and record.state != "done"
