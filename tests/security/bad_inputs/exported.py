"""torch.export archives with something in them that unpickles, or that would be opened as a library."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tests.security.bad_inputs import bad_file
from tests.security.bad_inputs.pickles import planted

Members = dict[str, bytes]


def _archive(path: Path, change: Callable[[Members], None]) -> None:
    whole = io.BytesIO()
    torch.export.save(torch.export.export(nn.Linear(4, 3), (torch.zeros(2, 4),)), whole)
    with zipfile.ZipFile(whole) as file:
        members = {entry.filename.partition("/")[2]: file.read(entry) for entry in file.infolist()}
    change(members)
    with zipfile.ZipFile(path, "w") as file:
        for name, body in members.items():
            file.writestr(f"m/{name}", body)


def _program(canary: Path) -> bytes:
    stream = io.BytesIO()
    torch.save(planted(canary), stream)
    return stream.getvalue()


@bad_file(9, "pt2 with sample inputs that unpickle", "pickle_with_code", "archive_with_pickle", filename="model.pt2")
def sample_inputs(path: Path, canary: Path) -> None:
    _archive(path, lambda members: members.update({"data/sample_inputs/model.pt": _program(canary)}))


@bad_file(10, "pt2 with pickled weights", "archive_with_pickle", filename="model.pt2")
def pickled_weights(path: Path, canary: Path) -> None:
    def change(members: Members) -> None:
        name = "data/weights/model_weights_config.json"
        config = json.loads(members[name])
        for entry in config["config"].values():
            entry["use_pickle"] = True
        members[name] = json.dumps(config).encode()
        members["data/weights/weight_0"] = _program(canary)

    _archive(path, change)


@bad_file(11, "pt2 with opaque objects", "archive_with_objects", filename="model.pt2")
def opaque_objects(path: Path, canary: Path) -> None:
    _archive(path, lambda members: members.update({"data/constants/opaque_obj_0": _program(canary)}))


@bad_file(12, "pt2 with a shared library", "archive_with_library", filename="model.pt2")
def shared_library(path: Path, canary: Path) -> None:
    _archive(path, lambda members: members.update({"data/aotinductor/model/model.so": b"\x7fELF" + bytes(400)}))
