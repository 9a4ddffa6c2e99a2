"""What is in a repository: asked of huggingface_hub, which finds the hub's address and its token by itself."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from worker.hub.refusals import HubError, told_in_our_words

logging.getLogger("httpx2").setLevel(logging.WARNING)
"""It logs every address, and a signed one of a CDN opens the file to whoever reads it."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIMEOUT_S = 15.0
"""Of silence."""
_MOST_FILES = 5000
"""At the top of a repository: what is read of a listing has an end."""
_LONGEST_NAME_BYTES = 200
_LONGEST_PAGE_BYTES = 16 << 20


class HubFile(NamedTuple):
    """What the hub says of a file: its bytes, and the SHA-256 of its content where it is kept apart, else git's id."""

    size: int
    sha256: str | None = None
    git_id: str | None = None


class Listing(NamedTuple):
    """The files at the top of a repository at a commit; ``source``: the repository, and on which hub."""

    source: str
    commit: str
    files: Mapping[str, HubFile]


def look(repo: str, revision: str, look_on: Callable[[], None] = lambda: None) -> Listing:
    """What is in a repository. Nothing is downloaded.

    Args:
        repo: its id.
        revision: a branch, a tag or a commit.
        look_on: called often; may raise to end it.

    Raises:
        HubError: ``hub_not_found``, ``hub_gated``, ``hub_unknown_revision``, ``too_many_files``, ``hub_refused``.
        HubUnreachable: no hub answers.
    """
    from huggingface_hub import HfApi, constants

    with told_in_our_words(repo, revision):
        facts = HfApi().model_info(repo, revision=revision, expand=["sha"], timeout=_TIMEOUT_S)
        commit = _matching(_COMMIT, facts.sha)
        found: dict[str, HubFile] = {}
        for count, entry in enumerate(_entries(f"{constants.ENDPOINT}/api/models/{repo}/tree/{commit}", look_on)):
            if count >= _MOST_FILES:
                raise HubError(
                    f"{repo} has more than {_MOST_FILES:,} files at its top", hint="download the model, and upload it",
                    code="too_many_files",
                )  # fmt: skip
            if entry["type"] == "file" and _is_plain(entry["path"]):
                found[entry["path"]] = _told(entry)
        hub = hashlib.sha256(constants.ENDPOINT.encode()).hexdigest()  # an address may hold a password
        return Listing(f"{hub[:16]}/{repo}", commit, found)


def _entries(url: str | None, look_on: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Of a folder, page by page. The library's own way waits for ever on a hub that falls silent (2.4)."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    begin = url
    while url:
        with get_session().stream("GET", url, headers=build_hf_headers(), timeout=_TIMEOUT_S) as response:
            hf_raise_for_status(response)
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > _LONGEST_PAGE_BYTES:
                    raise ValueError("a page without end")
                look_on()
        yield from json.loads(body)
        url = response.links.get("next", {}).get("url")
        if url and not url.startswith(f"{begin}?"):  # the token goes along
            raise ValueError("a page of something else")


def _is_plain(name: object) -> bool:
    """Whether it can name a file of ours, and stand in a message. Others are nothing that is fetched."""
    return isinstance(name, str) and name.isprintable() and len(name.encode()) <= _LONGEST_NAME_BYTES


def _told(entry: dict[str, Any]) -> HubFile:
    size, apart = entry["size"], entry.get("lfs")
    if type(size) is not int or size < 0:
        raise ValueError("no size")
    if apart is None:
        return HubFile(size, git_id=_matching(_COMMIT, entry["oid"]))
    return HubFile(size, sha256=_matching(_SHA256, apart["oid"]))


def _matching(pattern: re.Pattern[str], text: object) -> str:
    """A commit names a folder here, a hash is compared: nothing else may come in their places.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError("no hash")
    return text
