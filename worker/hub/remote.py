"""The hub, asked by huggingface_hub: which address and token it uses is that library's own to find.

Bodies are taken by its session and headers, but kept by us: what the library has of a file when its process is killed
is lost (2.4), and here the next worker goes on where the last one stopped. A chunk is also where cancelling, time and
the announced size are looked at. The token goes to the hub alone: a redirect to another host leaves it out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from quant_lens_engine.errors import InputError, QuantLensError

logging.getLogger("httpx2").setLevel(logging.WARNING)
"""It logs every address, and a signed one of a CDN opens the file to whoever reads it."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_TIMEOUT_S = 15.0
"""Of silence."""
_PATIENCE = 6
_LONGEST_PAUSE_S = 8.0


class HubError(InputError):
    """The hub does not give what was asked for."""

    default_code = "hub_refused"


class HubUnreachable(QuantLensError):  # noqa: N818  (a state of the network)
    """No hub answers, or it stops in the middle."""

    default_code = "hub_unreachable"


class Listing(NamedTuple):
    """A repository at a commit: bytes of each file, and the SHA-256 of those that the hub knows by it."""

    commit: str
    sizes: Mapping[str, int]
    sha256: Mapping[str, str]


class Watcher(Protocol):
    """Who looks on while a file comes, and may raise to end it."""

    def at(self, have_bytes: int) -> None:
        """So much of the file is here."""

    def pause(self, seconds: float) -> None:
        """Wait before the next try."""


def look(repo: str, revision: str) -> Listing:
    """What is in a repository. Nothing is downloaded.

    Raises:
        HubError: ``hub_not_found``, ``hub_gated``, ``hub_unknown_revision``, ``hub_refused``.
        HubUnreachable: no hub answers.
    """
    from huggingface_hub import HfApi

    with _typed(repo, revision):
        found = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
        files = found.siblings or []
        if not _COMMIT.fullmatch(str(found.sha)):  # it will name a folder
            raise ValueError("no commit")
        return Listing(
            str(found.sha),
            {file.rfilename: int(file.size or 0) for file in files},
            {file.rfilename: str(file.lfs.sha256) for file in files if file.lfs is not None},
        )


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
        HubError: as :func:`look`, or the file is not as long as it was said to be.
        HubUnreachable: several tries brought nothing more.
    """
    part = target.with_name(f"{target.name}.part")
    failures = 0
    while not target.exists():
        begun = part.stat().st_size if part.exists() else 0
        if begun == size:
            part.touch()
            part.replace(target)
            return
        try:
            with _typed(repo, commit):
                _receive(repo, commit, name, size, part, watcher)
            failures = 0
        except HubUnreachable:
            failures = 1 if part.exists() and part.stat().st_size > begun else failures + 1
            if failures >= _PATIENCE:
                raise
            watcher.pause(min(0.5 * 2**failures, _LONGEST_PAUSE_S))
    watcher.at(size)


def _receive(repo: str, commit: str, name: str, size: int, part: Path, watcher: Watcher) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    have = part.stat().st_size if part.exists() else 0
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    url = hf_hub_url(repo, name, revision=commit)
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:
            have = 0
        with part.open("ab" if have else "wb") as file:
            for chunk in response.iter_bytes():  # as they come: a broken connection loses none
                have += len(chunk)
                if have > size:
                    raise HubError(f"{name} is longer than the {size:,} bytes that the hub says it has")
                file.write(chunk)
                watcher.at(have)
    if have < size:
        raise HubUnreachable(f"{name} ended after {have:,} of {size:,} bytes", hint="try again: what came is kept")


@contextmanager
def _typed(repo: str, revision: str) -> Iterator[None]:
    """What the library raises, in our words: its own hold addresses, and may hold more."""
    import httpx2
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RevisionNotFoundError

    try:
        yield
    except GatedRepoError:
        raise HubError(
            f"{repo} is gated: its authors give access to those who ask",
            hint="ask for access on its page; then an administrator sets the HF_TOKEN of whoever was given it",
            code="hub_gated",
        ) from None
    except RevisionNotFoundError:
        raise HubError(
            f"{repo} has no revision {revision!r}",
            hint="give a branch, a tag or a whole commit; left out, it is main",
            code="hub_unknown_revision",
        ) from None
    except HfHubHTTPError as error:
        raise _refused(repo, error.response.status_code) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OfflineModeIsEnabled) as error:
        raise HubUnreachable(
            f"the hub does not answer ({type(error).__name__})",
            hint="try again: what came is kept; else an administrator looks whether the server gets out (HF_ENDPOINT, "
            "HF_HUB_OFFLINE, proxies)",
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise HubError(
            f"what answers is no hub ({type(error).__name__})", hint="an administrator looks at HF_ENDPOINT"
        ) from None


def _refused(repo: str, status: int) -> QuantLensError:
    if status in {401, 403, 404}:
        return HubError(
            f"the hub shows no {repo} to this server: there is none, or it is private",
            hint="look at its spelling; for a private one an administrator sets HF_TOKEN",
            code="hub_not_found",
        )
    if status == 429 or status >= 500:
        return HubUnreachable(f"the hub is busy (HTTP {status})", hint="try again in a few minutes: what came is kept")
    return HubError(f"the hub refuses (HTTP {status})", hint="look at the repository's page")
