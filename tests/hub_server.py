"""A hub on the loopback, as far as huggingface_hub speaks with one: listings, files with ranges, refusals, a CDN.

It tells what it was asked for, and can be slow, break off, or be down.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

CHUNK_BYTES = 64_000
_FACTS = re.compile(r"/api/models/(?P<repo>.+)/revision/(?P<revision>[^/]+)")
_TREE = re.compile(r"/api/models/(?P<repo>.+)/tree/(?P<revision>[^/]+)")
_PAGE = 1000
_FILE = re.compile(r"/(?P<cdn>cdn/)?(?P<repo>.+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
LARGE = (".safetensors", ".bin")
"""Kept apart, and served from another host than the hub's."""


class Asked(NamedTuple):
    """A request."""

    path: str
    range: str | None
    token: str | None


@dataclass
class Repo:
    """A model.

    Attributes:
        files: its content; ``said`` is what the listing says of sizes instead, ``hashes`` of SHA-256 or git's ids.
        revisions: that lead to ``commit``.
        access: what the hub makes of somebody who asks.
    """

    files: Mapping[str, bytes]
    commit: str = "0123456789abcdef0123456789abcdef01234567"
    revisions: tuple[str, ...] = ("main",)
    said: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    access: str = "public"


def repo_of(folder: Path, **more: bytes) -> Repo:
    """A folder as a repository, with the files of ``more``, whose names have ``__`` for the point."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return Repo(files | {name.replace("__", "."): content for name, content in more.items()})


class Hub:
    """The server; its repositories and moods may be changed while it runs.

    Attributes:
        asked: every request for a listing or a file, in order.
        pause_s: between chunks of a file.
        cut_after: bytes after which one body breaks off; once.
        answers: headers that bodies have instead of those that are true.
        is_down: connections end without an answer.
        silent_s: before a listing is answered.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[Asked] = []
        self.pause_s = 0.0
        self.cut_after: int | None = None
        self.answers: Mapping[str, str] = {}
        self.is_down = False
        self.silent_s = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def bodies(self, ending: str = "") -> list[Asked]:
        """Requests for files whose names end so; of a redirected one the last."""
        found = [one for one in self.asked if "/resolve/" in one.path and one.path.endswith(ending)]
        return [one for one in found if one.path.startswith("/cdn/") or not one.path.endswith(LARGE)]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(Asked(path, self.headers["Range"], self.headers["Authorization"]))
                if hub.is_down:
                    self.close_connection = True
                elif match := _FACTS.fullmatch(path):
                    self._tell(match["repo"], unquote(match["revision"]))
                elif match := _TREE.fullmatch(path):
                    self._list(match["repo"], match["revision"])
                elif match := _FILE.fullmatch(path):
                    self._file(match["repo"], match["revision"], match["name"], bool(match["cdn"]))
                else:
                    self._refuse(404, "")

            def _tell(self, name: str, revision: str) -> None:
                repo = hub.repos.get(name)
                if repo is None or repo.access == "private":
                    self._refuse(401, "RepoNotFound")
                elif revision not in {*repo.revisions, repo.commit}:
                    self._refuse(404, "RevisionNotFound")
                else:
                    self._answer({"id": name, "modelId": name, "sha": repo.commit})

            def _list(self, name: str, revision: str) -> None:
                """The top of it, in pages."""
                repo = hub.repos[name]
                assert revision == repo.commit, "files are listed by commit"
                time.sleep(hub.silent_s)
                begin = int(dict(parse_qsl(urlsplit(self.path).query)).get("cursor", 0))
                names = [file for file in repo.files if "/" not in file]
                folders = sorted({file.partition("/")[0] for file in repo.files if "/" in file})
                entries = [self._entry(repo, file) for file in names[begin : begin + _PAGE]]
                entries += [{"type": "directory", "path": folder, "oid": "0" * 40} for folder in folders]
                follows = f'<{hub.url}{urlsplit(self.path).path}?cursor={begin + _PAGE}>; rel="next"'
                self._answer(entries, {"Link": follows} if begin + _PAGE < len(names) else {})

            def _entry(self, repo: Repo, name: str) -> dict:
                content = repo.files[name]
                size = repo.said.get(name, len(content))
                git_id = repo.hashes.get(name) or hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                found: dict = {"type": "file", "path": name, "size": size, "oid": git_id}
                if name.endswith(LARGE):
                    sha256 = repo.hashes.get(name) or hashlib.sha256(content).hexdigest()
                    found |= {"oid": "0" * 40, "lfs": {"size": size, "oid": sha256, "pointerSize": 134}}
                return found

            def _file(self, name: str, revision: str, file: str, is_cdn: bool) -> None:
                repo = hub.repos[name]
                assert revision == repo.commit, "files are asked for by commit"
                if repo.access == "gated":
                    self._refuse(401, "GatedRepo")
                elif file.endswith(LARGE) and not is_cdn:
                    self.send_response(302)
                    port = urlsplit(hub.url).port
                    self.send_header("Location", f"http://localhost:{port}/cdn/{name}/resolve/{revision}/{file}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                else:
                    self._body(repo, repo.files[file])

            def _body(self, repo: Repo, content: bytes) -> None:
                begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if self.headers["Range"] else 0
                self.send_response(206 if self.headers["Range"] else 200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", repo.commit)
                self.send_header("Content-Length", str(len(content) - begin))
                true = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
                for header, value in {**true, **hub.answers}.items():
                    self.send_header(header, value)
                self.end_headers()
                for start in range(begin, len(content), CHUNK_BYTES):
                    if hub.cut_after is not None and start >= hub.cut_after:
                        hub.cut_after = None
                        self.close_connection = True
                        return
                    self.wfile.write(content[start : start + CHUNK_BYTES])
                    time.sleep(hub.pause_s)

            def _answer(self, body: object, more: Mapping[str, str] = MappingProxyType({})) -> None:
                text = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                for header, value in more.items():
                    self.send_header(header, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _refuse(self, status: int, code: str) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", "no")
                self.send_header("Content-Length", "0")
                self.end_headers()

        return Handler
