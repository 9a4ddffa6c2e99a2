"""The Python client: the REST interface as typed calls.

Example:
    A server that is running is all it needs::

        from app.client import Client

        client = Client("http://127.0.0.1:8050")
        model = client.upload("resnet20.safetensors")  # or client.fetch("owner/name"), from the hub
        data = client.upload("test.npz")
        spec = {"model": {"file": model.sha256}, "data": {"file": data.sha256}, "schemes": ["int8", "int4"]}
        run = client.submit(spec)
        client.wait(run.id, progress=lambda run: print(f"{run.progress.fraction:.0%}"))
        print(client.result(run.id).variant("int4").evaluation.accuracy)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from httpx_sse import EventSource
from pydantic import BaseModel

from app.compare import RunComparison
from app.tus_sender import send_file
from quant_lens_engine.errors import (
    ArchitectureError,
    CheckpointError,
    DataError,
    DeviceError,
    InputError,
    InternalFault,
    QuantLensError,
    SchemeError,
    SpecError,
)
from quant_lens_engine.schema import (
    TERMINAL_STATES,
    Capabilities,
    ErrorBody,
    RunEvent,
    RunRecord,
    RunResult,
    RunSpec,
    parse_run_spec,
)
from worker.store.errors import BadQuery, Conflict, NotFound, StoreUnavailable
from worker.store.fetches import FetchRecord
from worker.store.file_record import FileRecord
from worker.store.run_page import RunPage

M = TypeVar("M", bound=BaseModel)
RunFollower = Callable[[RunRecord], object]
"""Called with the run's record whenever it has moved on."""

_PATIENCE = 20
_LOOK_S = 0.4
_OPEN_STREAM = httpx.Timeout(30.0, read=60.0)


class AccessDenied(InputError):  # noqa: N818  (named as the store's NotFound is)
    """No token, a token that is not valid, or something that only its owner may do (HTTP 401, 403)."""

    default_code = "forbidden"


class Unreachable(InputError):  # noqa: N818  (a state of the server)
    """Nothing that speaks our API answers at the address."""

    default_code = "server_unreachable"


class Client:
    """A Quant Lens server.

    Args:
        server: its address, such as ``"http://127.0.0.1:8050"``.
        token: for a server with ``QUANT_LENS_AUTH=token``.
        http: an httpx client to use instead of an own one (for tests, proxies or certificates).

    Every method raises :class:`quant_lens_engine.errors.QuantLensError` in the class, and with the ``code``, that the
    server answered: ``NotFound``, ``Conflict``, ``SchemeError``, ``SpecError``, :class:`AccessDenied` …; and
    :class:`Unreachable` where none answers.
    """

    def __init__(self, server: str, token: str | None = None, *, http: httpx.Client | None = None) -> None:
        self.server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = http or httpx.Client(base_url=self.server, timeout=30.0)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def upload(self, path: str | Path, progress: Callable[[int, int], object] | None = None) -> FileRecord:
        """Send a file, unless the server has it: a file is known by the hash of its bytes.

        Args:
            path: the file.
            progress: called with the bytes that have arrived, and all of them.

        Raises:
            InputError: ``no_such_file``, or what the server refused: ``too_large``, ``quota_exceeded`` …
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}", code="no_such_file") from None
        try:
            return self.file(sha256)
        except NotFound:
            send_file(f"{self.server}/api/v1/uploads", self._headers, path, sha256, raise_refusal, progress)
        return self.file(sha256)

    def file(self, sha256: str) -> FileRecord:
        """What the server knows of a file, with what a worker found in it."""
        return self._get(FileRecord, f"/files/{sha256}")

    def inspection(self, sha256: str, timeout_s: float = 120.0) -> FileRecord:
        """The file's record, once a worker has looked at it.

        Raises:
            TimeoutError: no worker has, in that time.
        """
        deadline = time.monotonic() + timeout_s
        while (record := self.file(sha256)).inspection_state in {"waiting", "running"}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no worker has looked at {record.filename} within {timeout_s:g} s")
            time.sleep(0.3)
        return record

    def fetch(
        self, repo: str, revision: str = "main", progress: Callable[[int, int], object] | None = None
    ) -> FileRecord:
        """Have the server fetch a model from the hub, and wait until it is one of its files.

        Args:
            repo: its id there, ``"owner/name"``.
            revision: a branch, a tag or a commit.
            progress: called with the bytes that have arrived, and all of them.

        Raises:
            InputError: ``hub_off``, where the server may not; or why it came to nothing: ``hub_not_found``,
                ``hub_gated``, ``hub_unknown_revision``, ``no_weights``, ``too_large``, ``quota_exceeded`` …
        """
        record = self._send(FetchRecord, "POST", "/hub", json={"repo": repo, "revision": revision})
        while not record.has_ended:
            time.sleep(_LOOK_S)
            record = self._get(FetchRecord, f"/hub/{record.key}")
            if progress is not None and record.bytes_total:
                progress(record.bytes_done, record.bytes_total)
        if record.error is not None:
            raise _in_its_class(422, record.error)
        return self.file(record.sha256 or "")

    def submit(self, spec: RunSpec | Mapping[str, Any]) -> RunRecord:
        """Start a run."""
        spec = spec if isinstance(spec, RunSpec) else parse_run_spec(dict(spec))
        return self._send(RunRecord, "POST", "/runs", json=spec.model_dump(mode="json"))

    def run(self, run_id: str) -> RunRecord:
        """A run as it stands."""
        return self._get(RunRecord, f"/runs/{run_id}")

    def runs(self, q: str = "", **query: Any) -> Iterator[RunRecord]:
        """Runs, newest first, page after page as they are asked for.

        Args:
            q: a search, such as ``"state:done tag:prod int4"``.
            query: ``state``, ``tag``, ``sort``, ``archived`` and ``limit`` (of one page).
        """
        cursor: str | None = None
        while True:
            asked = {"q": q, **query, **({"cursor": cursor} if cursor else {})}
            page = self._get(RunPage, "/runs", params=asked)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def result(self, run_id: str) -> RunResult:
        """What the run has found so far; what is not finished is None."""
        return self._get(RunResult, f"/runs/{run_id}/result")

    def events(self, run_id: str, after: str = "0") -> Iterator[RunEvent]:
        """What happens to a run, from the first event or from the one after ``after``, until it has ended.

        A broken connection is taken up again where it broke.
        """
        failures = 0
        while True:
            try:
                headers = self._headers | {"Last-Event-ID": after}
                path = f"/api/v1/runs/{run_id}/events"
                with self._http.stream("GET", path, headers=headers, timeout=_OPEN_STREAM) as response:
                    if response.status_code == 204:
                        return
                    if response.is_error:
                        response.read()
                        raise_refusal(response.status_code, response.content)
                    for message in EventSource(response).iter_sse():
                        if message.data:
                            event = RunEvent.model_validate_json(message.data)
                            after, failures = event.id, 0
                            yield event
            except (httpx.TransportError, StoreUnavailable) as error:
                failures += 1
                if failures > _PATIENCE:
                    raise _unreachable(self.server, error) from error
            time.sleep(min(0.2 * failures, 3.0))

    def wait(self, run_id: str, progress: RunFollower | None = None, timeout_s: float | None = None) -> RunRecord:
        """Follow a run until it has ended, whichever way; its record then.

        Args:
            run_id: the run.
            progress: called with the record at most twice a second, and at the end.
            timeout_s: after which to give up waiting (the run goes on).

        Raises:
            TimeoutError: ``timeout_s`` is over.
        """
        began = shown = time.monotonic()
        for event in self.events(run_id):
            now = time.monotonic()
            if timeout_s is not None and now - began > timeout_s:
                raise TimeoutError(f"run {run_id} has not ended within {timeout_s:g} s")
            if progress is not None and (event.kind == "state" or now - shown >= 0.5):
                shown = now
                progress(self.run(run_id))
        record = self.run(run_id)
        if progress is not None:
            progress(record)
        return record

    def cancel(self, run_id: str) -> RunRecord:
        """Stop a run; what is finished stays."""
        return self._send(RunRecord, "POST", f"/runs/{run_id}/cancel")

    def retry(self, run_id: str) -> RunRecord:
        """A new run of the same specification; finished stages are taken from the store."""
        return self._send(RunRecord, "POST", f"/runs/{run_id}/retry")

    def archive(self, run_id: str) -> RunRecord:
        """Take a run out of the table."""
        return self._send(RunRecord, "POST", f"/runs/{run_id}/archive")

    def edit(self, run_id: str, **changes: Any) -> RunRecord:
        """Change ``name``, ``tags``, ``note`` or ``archived``."""
        return self._send(RunRecord, "PATCH", f"/runs/{run_id}", json=changes)

    def delete(self, run_id: str) -> None:
        """Delete a run that has ended."""
        self._request("DELETE", f"/runs/{run_id}")

    def compare(self, run_ids: Sequence[str], baseline: str | None = None) -> RunComparison:
        """Runs side by side; the first is the baseline where none is named."""
        params = {"runs": ",".join(run_ids), "baseline": baseline or run_ids[0]}
        return self._get(RunComparison, "/compare", params=params)

    def capabilities(self) -> Capabilities:
        """Examples, schemes, formats, architectures, analyses and workers of the server."""
        return self._get(Capabilities, "/capabilities")

    def export(self, run_id: str, form: str) -> bytes:
        """The result as ``"json"``, ``"csv"`` or ``"html"``."""
        return self._request("GET", f"/runs/{run_id}/export.{form}").content

    def page_of(self, run_id: str) -> str:
        """The address of the run's page."""
        return f"{self.server}/runs/{run_id}"

    def _get(self, model: type[M], path: str, params: Mapping[str, Any] | None = None) -> M:
        return model.model_validate_json(self._request("GET", path, params=params).content)

    def _send(self, model: type[M], method: str, path: str, json: Any = None) -> M:
        return model.model_validate_json(self._request(method, path, json=json).content)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, f"/api/v1{path}", headers=self._headers, **options)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self.server, error) from error
        if response.is_error or response.is_redirect:
            raise_refusal(response.status_code, response.content)
        return response


def raise_refusal(status: int, body: bytes) -> None:
    """Raise the error that a response holds, in its class.

    Raises:
        QuantLensError: always.

    Example:
        >>> raise_refusal(404, b'{"error": {"code": "not_found", "message": "no run"}}')
        Traceback (most recent call last):
        ...
        worker.store.errors.NotFound: no run
    """
    try:
        error = ErrorBody.model_validate(httpx.Response(status, content=body).json()["error"])
    except (ValueError, KeyError, TypeError):
        raise Unreachable(
            f"HTTP {status} from something that is not Quant Lens", hint="check the server's address"
        ) from None
    raise _in_its_class(status, error)


def _in_its_class(status: int, error: ErrorBody) -> QuantLensError:
    of_status = InputError if status < 500 else InternalFault
    kind = _CLASS_OF_CODE.get(error.code) or _CLASS_OF_STATUS.get(status) or of_status
    return kind(error.message, code=error.code, hint=error.hint, details=error.details)


def has_ended(record: RunRecord) -> bool:
    """Whether the run has ended, whichever way."""
    return record.state in TERMINAL_STATES


def _unreachable(server: str, error: Exception) -> Unreachable:
    return Unreachable(
        f"no Quant Lens server answers at {server}: {error}", hint="check the address, and that the server is running"
    )


_CLASS_OF_STATUS: dict[int, type[QuantLensError]] = {
    401: AccessDenied, 403: AccessDenied, 404: NotFound, 409: Conflict, 503: StoreUnavailable,
}  # fmt: skip
_SCHEME_CODES = (
    "unknown_algorithm", "bad_option", "not_defined", "clashing_algorithms", "nothing_to_quantize", "same_recipe",
)  # fmt: skip
_CLASS_OF_CODE: dict[str, type[QuantLensError]] = {
    kind.default_code: kind
    for kind in (ArchitectureError, BadQuery, CheckpointError, DataError, DeviceError, SchemeError, SpecError)
}
_CLASS_OF_CODE |= dict.fromkeys(_SCHEME_CODES, SchemeError)
