"""What the web process reads itself: upload headers, file names, searches, addresses, recipes, runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

from app.api.errors import Refusal
from app.api.uploads import display_name, read_metadata
from app.routing import parse_query
from quant_lens_engine.errors import InputError, QuantLensError
from quant_lens_engine.schema import parse_run_spec
from quant_lens_engine.schema.recipe import parse_recipe
from quant_lens_engine.schema.scheme import parse_scheme
from tests.fuzz.subjects import Subject, add
from worker.store.search import parse_search


def _text(path: Path) -> str:
    return path.read_bytes().decode("latin-1")  # as a header or an address comes in


def _unicode(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def metadata(path: Path) -> object:
    found = read_metadata(_text(path))
    return display_name(found.get("filename", "a"))


def run(path: Path) -> object:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # FastAPI's own refusal
        return None
    return parse_run_spec(value).model_dump_json()


FACTS = dict.fromkeys(("id", "name", "owner", "state", "tag", "scheme", "model", "data"), ("prod", "done"))
QUERY = b'state:done (tag:prod or "w8 a8") not name:x'
NAME = base64.b64encode("模型.pt".encode())
RUN = {
    "name": "a", "model": {"example": "digits-mlp", "architecture": "auto", "options": {"heads": 2}},
    "data": {"file": "0" * 64, "limit": 64, "transform": {"layout": "NHWC", "scale": 0.5, "mean": [0.1], "std": [0.2]},
             "calibration": {"limit": 8, "file": None}, "text": {"length": 10}},
    "task": "classification",
    "schemes": ["int8", "w8a8+smoothquant", parse_scheme("int4-g128").model_dump(mode="json")],
    "analyses": {"preset": "quick", "line": {"steps": 5, "kinds": ["random", "eigenvector:1"]}, "plane": {"steps": 0}},
    "execution": {"dtype": "float64", "threads": 1}, "seed": 3,
}  # fmt: skip


def _add(name: str, read: Callable[[Path], object], refusals: tuple[type[Exception], ...], *seeds: bytes) -> None:
    add(name, Subject(lambda: {str(number): seed for number, seed in enumerate(seeds)}, read, refusals, "text"))


_add("upload-metadata", metadata, (Refusal,), b"filename " + NAME + b",private,sha256 " + NAME)
_add("file-name", lambda path: display_name(_unicode(path)), (Refusal,), "../a/模型.pt".encode())
_add("search", lambda path: parse_search(_unicode(path))(FACTS), (QuantLensError,), QUERY)
_add("address", lambda path: parse_query(_text(path)), (), b"?runs=a,b&baseline=a&x=%00&y=%F0")
_add("recipe", lambda path: parse_recipe(_unicode(path)), (InputError,), b"w4a8+smoothquant+gptq+skip:head",
     b"int4-g128-asym")  # fmt: skip
add("run", Subject(lambda: {"spec": json.dumps(RUN).encode()}, run, (InputError,)))
