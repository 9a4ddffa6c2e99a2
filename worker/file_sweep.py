"""Files that no run names any more are removed when their time of grace is over, by whichever worker looks first."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from worker.store import Store, keys
from worker.store.runs import named_files

log = logging.getLogger(__name__)

_EVERY_S = 60.0
LOOK_EVERY_S = _EVERY_S / 4
"""Whether it is somebody's turn."""
_STRAY_S = 3600.0
"""Bytes without a record are left alone for so long: somebody may be about to write it."""


class FileSweep:
    """One look a minute, by one worker at a time.

    Args:
        store: its settings say how long the grace is.
        worker_id: of who sweeps.
    """

    def __init__(self, store: Store, worker_id: str) -> None:
        self._store = store
        self._worker_id = worker_id

    def take_turn(self) -> None:
        """Sweep, unless another worker has within the minute."""
        if self._store.client.set(keys.FILE_SWEEP, self._worker_id, nx=True, px=int(_EVERY_S * 1000)):
            self.sweep()

    def sweep(self) -> Sequence[str]:
        """Remove what nobody needs; the hashes of what was removed."""
        grace_s = self._store.settings.file_grace_s
        removed = self._store.files.remove_unneeded(grace_s, self._being_checked())
        for sha256 in removed:
            log.info("file %s: removed, no run has named it for %g s", sha256, grace_s)
        if strays := self._store.files.remove_strays(max(grace_s, _STRAY_S)):
            log.info("files: %d removed that no record speaks of", strays)
        return removed

    def _being_checked(self) -> set[str]:
        """Files of baseline checks that are not finished."""
        found: set[str] = set()
        for job in self._store.jobs.unfinished():
            kind, _, key = job.partition(":")
            record = self._store.checks.find(key) if kind == "check" else None
            if record is not None:
                with contextlib.suppress(KeyError):
                    found |= set(named_files(record.spec))
        return found
