"""One file of a repository, received by huggingface_hub's session and headers, but kept by us.

What the library has of a file when its process is killed is lost (2.4), and here the next worker goes on where the last
one stopped. A chunk is also where cancelling, time and the announced size are looked at. The token goes to the hub
alone: a redirect to another host leaves it out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Protocol

from worker.hub.refusals import HubError, HubUnreachable, told_in_our_words

_TIMEOUT_S = 15.0
"""Of silence."""
_PATIENCE = 6
_LONGEST_PAUSE_S = 8.0
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_RANGE_NOT_THERE = 416


class Watcher(Protocol):
    """Who looks on while a file comes, and may raise to end it."""

    def at(self, have_bytes: int) -> None:
        """So much of the file is here."""

    def pause(self, seconds: float) -> None:
        """Wait before the next try."""


def download(repo: str, commit: str, name: str, size: int, target: Path, watcher: Watcher) -> None:
    """Have a file of a repository at ``target``. What is there of it, from this process or another, is not asked for.

    Args:
        repo: its id.
        commit: of it.
        name: of the file.
        size: of the file in bytes; more is not taken.
        target: where it will be.
        watcher: told of each chunk.

    Raises:
        HubError: as :func:`worker.hub.listing.look`, or the file is longer than it was said to be.
        HubUnreachable: several tries brought nothing more.
    """
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while not target.exists():
        begun = _length(part)
        if begun == size:
            part.touch()
            part.replace(target)
            return
        try:
            with told_in_our_words(repo, commit):
                _receive(repo, commit, name, size, part, watcher)
            failures = 0
        except HubUnreachable:
            failures = 1 if _length(part) > begun else failures + 1
            if failures >= _PATIENCE:
                raise
            watcher.pause(min(0.5 * 2**failures, _LONGEST_PAUSE_S))
    watcher.at(size)


def _receive(repo: str, commit: str, name: str, size: int, part: Path, watcher: Watcher) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    have = _length(part)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    url = hf_hub_url(repo, name, revision=commit)
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S) as response:
        if response.status_code != _RANGE_NOT_THERE:
            hf_raise_for_status(response)
        _check_encoding(response, name)
        have = _begin_of(response, have, size, part)
        with part.open("ab" if have else "wb") as file:
            for chunk in response.iter_raw():  # as they come: a broken connection loses none
                have += len(chunk)
                if have > size:
                    raise HubError(f"{name} is longer than the {size:,} bytes that the hub says it has")
                file.write(chunk)
                watcher.at(have)
    if have < size:
        raise HubUnreachable(f"{name} ended after {have:,} of {size:,} bytes", hint="try again: what came is kept")


def _check_encoding(response: Any, name: str) -> None:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise HubError(f"the hub sends {name} compressed, which was not asked for", hint="look at HF_ENDPOINT")


def _begin_of(response: Any, have: int, size: int, part: Path) -> int:
    """Where in the file the bytes of an answer belong: after those that are here, or at its beginning.

    Raises:
        HubUnreachable: they are another piece of it, or of another file; what is here is left aside, and it is asked
            for as a whole.
    """
    if response.status_code not in {206, _RANGE_NOT_THERE}:
        return 0
    told = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if response.status_code == 206 and told and int(told[1]) == have and told[2] in {"*", str(size)}:
        return have
    part.unlink(missing_ok=True)
    raise HubUnreachable("the hub answers with another piece of the file than was asked for", hint="try again later")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
