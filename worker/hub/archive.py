"""One file from the files of a repository: the same bytes for the same commit, whenever and wherever it is made."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quant_lens_engine.schema.hugging_face_folder import OF_A_CLASS
from worker.hub.choice import is_weights
from worker.hub.listing import HubFile
from worker.hub.refusals import HubError

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_BLOCK_BYTES = 1 << 20
_LONGEST_CONFIG_BYTES = 4 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


def one_file(folder: Path, said: Mapping[str, HubFile], look_on: Callable[[], None]) -> tuple[Path, str]:
    """The file that is stored, and its SHA-256 in hexadecimal.

    A zip of all of them, stored and not compressed, as :mod:`quant_lens_engine.intake.formats.hugging_face` reads it;
    or weights as they are, where they are one file and nothing beside them says how to read it.

    Args:
        folder: where the files are; the zip is made beside them.
        said: what the hub says of each, by its name.
        look_on: called often; may raise to end it.

    Raises:
        HubError: ``hash_mismatch``: a file is not what the hub says it is. It is removed.
    """
    names = sorted(said)
    sha256 = {name: _checked(folder / name, said[name], look_on) for name in names}
    weights = [name for name in names if is_weights(name)]
    if len(weights) == 1 and not _is_described(folder, names):
        return folder / weights[0], sha256[weights[0]]
    archive = folder / "model.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as made:
        for name in names:
            _append(made, folder / name, look_on)
    return archive, _digest(archive, hashlib.sha256(), look_on)


def _checked(path: Path, said: HubFile, look_on: Callable[[], None]) -> str:
    sha256 = _digest(path, hashlib.sha256(), look_on)
    if said.sha256 is not None:
        _compare(path, "SHA-256", sha256, said.sha256)
    if said.git_id is not None:
        blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        _compare(path, "git's id", _digest(path, blob, look_on), said.git_id)
    return sha256


def _compare(path: Path, kind: str, found: str, told: str) -> None:
    if found == told:
        return
    path.unlink()
    raise HubError(
        f"{path.name} has {kind} {found}, and the hub says {told}",
        hint="it was damaged on the way: fetch it again, the other files are kept",
        code="hash_mismatch",
    )


def _is_described(folder: Path, names: Sequence[str]) -> bool:
    if "adapter_config.json" in names:
        return True
    config = folder / "config.json"
    if "config.json" not in names or config.stat().st_size > _LONGEST_CONFIG_BYTES:
        return False
    try:
        found = json.loads(config.read_bytes())
    except (ValueError, RecursionError):
        return True  # damaged: the reader says so
    return isinstance(found, dict) and bool(found.keys() & OF_A_CLASS)


def _append(archive: zipfile.ZipFile, path: Path, look_on: Callable[[], None]) -> None:
    member = zipfile.ZipInfo(path.name, _EPOCH)
    member.create_system, member.external_attr, member.file_size = 3, 0o644 << 16, path.stat().st_size
    with path.open("rb") as source, archive.open(member, "w") as target:
        while block := source.read(_BLOCK_BYTES):
            target.write(block)
            look_on()


def _digest(path: Path, found: Hash, look_on: Callable[[], None]) -> str:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
            look_on()
    return found.hexdigest()
