"""Sending a file by tus, with tuspy: in chunks, resumed where the connection broke."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.uploader import Uploader

from quant_lens_engine.errors import InputError

CHUNK_BYTES = 8 << 20
_PATIENCE = 8


def send_file(
    url: str,
    headers: Mapping[str, str],
    path: Path,
    sha256: str,
    raise_refusal: Callable[[int, bytes], None],
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Send ``path`` to the tus server at ``url``.

    Args:
        url: where uploads are created.
        headers: of every request.
        path: the file.
        sha256: of its bytes, which the server checks.
        raise_refusal: called with the status and body of a refusal; raises.
        progress: called with the bytes that have arrived, and all of them.
    """
    with path.open("rb") as file:
        metadata = {"filename": path.name, "sha256": sha256}
        uploader = Uploader(
            client=TusClient(url, headers=dict(headers)), file_stream=file, chunk_size=CHUNK_BYTES, metadata=metadata
        )
        size, failures = uploader.get_file_size(), 0
        while uploader.url is None or uploader.offset < size:
            try:
                _send_next(uploader)
                failures = 0
            except TusCommunicationError as error:
                _raise_if_refused(error, raise_refusal)
                failures += 1
                if failures > _PATIENCE:
                    raise InputError(
                        f"the upload of {path.name} broke off and could not be taken up again",
                        hint="check the connection, then start it again",
                        code="upload_broken",
                    ) from error
                time.sleep(min(0.5 * 2**failures, 10.0))
                _find_offset(uploader)
            if progress is not None:
                progress(uploader.offset, size)


def _send_next(uploader: Uploader) -> None:
    if uploader.url is None:
        uploader.set_url(uploader.create_url())
    else:
        uploader.upload_chunk()


def _find_offset(uploader: Uploader) -> None:
    if uploader.url is not None:
        try:
            uploader.offset = uploader.get_offset()
        except TusCommunicationError:
            return


def _raise_if_refused(error: TusCommunicationError, raise_refusal: Callable[[int, bytes], None]) -> None:
    # A wrong offset, or another request that still holds the upload, is cured by asking for the offset.
    if error.status_code is not None and 400 <= error.status_code < 500 and error.status_code not in {409, 423}:
        raise_refusal(error.status_code, error.response_content or b"")
