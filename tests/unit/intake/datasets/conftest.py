"""Data files made by hand, and how a refusal must look."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake import read_arrays


@pytest.fixture
def read():
    """Format and arrays of what lies at a path."""

    def look(path: Path):
        return read_arrays(path, "theirs")

    return look


@pytest.fixture
def refused():
    """The error of a file that is refused with ``code``: with a hint, and without a path of this machine."""

    def look(path: Path, code: str, action=None) -> DataError:
        with pytest.raises(DataError) as caught:
            (action or (lambda: read_arrays(path, "theirs")))()
        error = caught.value
        assert error.code == code, error.as_dict()
        assert error.hint
        assert action is not None or error.message.startswith("theirs: ")
        assert str(path.parent) not in json.dumps(error.as_dict())
        return error

    return look


@pytest.fixture
def encode():
    """An array as an encoded image."""
    from PIL import Image

    def write(pixels: np.ndarray, codec: str = "PNG", **options) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, codec, **options)
        return stream.getvalue()

    return write


@pytest.fixture(params=["folder", "stored", "deflated"])
def pack(request, tmp_path):
    """Members by name as a folder, or as a zip: every reader takes all three."""

    def write(members: dict[str, bytes], name: str = "theirs") -> Path:
        path = tmp_path / name
        if request.param == "folder":
            for member, content in members.items():
                (path / member).parent.mkdir(parents=True, exist_ok=True)
                (path / member).write_bytes(content)
            return path
        method = zipfile.ZIP_STORED if request.param == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return path

    return write
