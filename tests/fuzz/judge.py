"""What every reader owes to any input: it reads or refuses in its own words, soon and in little memory."""

from __future__ import annotations

import json
import resource
import time
import warnings
from pathlib import Path

from tests.fuzz.subjects import Subject

ADDRESS_SPACE_BYTES = 6 << 30
"""Of the process: torch takes half of it before anything is read."""
MEMORY_BYTES = 256 << 20
"""More than was taken before, for inputs of some kilobytes."""
SECONDS = 5.0
"""Of processor time."""


class FoundError(AssertionError):
    """What a reader did that it may not do."""


def limit_this_process() -> None:
    """A claim of gigabytes is then a ``MemoryError``, and a finding."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))


def judge(subject: Subject, path: Path, *, seconds: float = SECONDS) -> str:
    """``read``, or the code of the refusal.

    Raises:
        FoundError: another exception, a refusal without a code or hint or with a path of this machine in it, too much
            memory or time.
    """
    before = _memory("VmRSS")
    _forget_the_peak()
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            subject.read(path)
        outcome = "read"
    except subject.refusals as error:
        outcome = _judged(error, path)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        raise FoundError(f"{type(error).__name__}: {str(error)[:300]}") from error
    taken, spent = _memory("VmHWM") - before, time.process_time() - started
    if taken > MEMORY_BYTES:
        raise FoundError(f"it took {taken >> 20} MiB for {path.stat().st_size} bytes ({outcome})")
    if spent > seconds:
        raise FoundError(f"it took {spent:.1f} s for {path.stat().st_size} bytes ({outcome})")
    return outcome


def _judged(error: Exception, path: Path) -> str:
    error = getattr(error, "error", error)  # of the web process: an HTTPException around one
    code = str(getattr(error, "code", ""))
    said = f"{getattr(error, 'message', error)} {getattr(error, 'hint', '')}"
    details = json.dumps(getattr(error, "details", {}))
    if not code:
        raise FoundError(f"a refusal without a code: {error!r}") from error
    if not getattr(error, "hint", ""):
        raise FoundError(f"{code}: it does not say what to do: {said}") from error
    if str(path.parent) in said + details:
        raise FoundError(f"{code}: it shows a path of the server: {said}") from error
    if len(said) > 8000:
        raise FoundError(f"{code}: it says {len(said)} characters") from error
    return code


def _memory(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) << 10


def _forget_the_peak() -> None:
    """https://docs.kernel.org/filesystems/proc.html: 5 sets the peak resident size to the current one."""
    Path("/proc/self/clear_refs").write_text("5")
