"""What a worker does now and then beside its jobs, in threads of their own: not a heartbeat's work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from worker.store import StoreUnavailable

log = logging.getLogger(__name__)


def keep_doing(name: str, chore: Callable[[], object], every_s: float, stopping: threading.Event) -> None:
    """Do something every so many seconds until ``stopping`` is set; what goes wrong is logged and tried again."""
    while not stopping.wait(every_s):
        try:
            chore()
        except StoreUnavailable:
            log.warning("%s: the store does not answer; trying again", name)
        except Exception:
            log.exception("%s", name)


def start(name: str, chore: Callable[[], object], every_s: float, stopping: threading.Event) -> None:
    """Have a thread keep doing it."""
    threading.Thread(target=keep_doing, args=(name, chore, every_s, stopping), daemon=True, name=name).start()
