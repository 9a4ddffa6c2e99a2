"""One file from the files of a repository: the same bytes for the same commit, whenever and wherever it is made."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from quant_lens_engine.schema.hugging_face_folder import OF_A_CLASS
from worker.hub.choice import is_weights
from worker.hub.remote import HubError

_BLOCK_BYTES = 1 << 20
_LONGEST_CONFIG_BYTES = 4 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


def one_file(
    folder: Path, names: Sequence[str], sha256: Mapping[str, str], look_on: Callable[[], None]
) -> tuple[Path, str]:
    """The file that is stored, and its SHA-256 in hexadecimal.

    A zip of all of them, stored and not compressed, as :mod:`quant_lens_engine.intake.formats.hugging_face` reads it;
    or weights as they are, where they are one file and nothing beside them says how to read it.

    Args:
        folder: where the files are; the zip is made beside them.
        names: the files, sorted.
        sha256: what the hub says of some of them.
        look_on: called often; may raise to end it.

    Raises:
        HubError: ``hash_mismatch``: a file is not what the hub says it is.
    """
    for name in names:
        found = _digest(folder / name, look_on)
        if sha256.get(name, found) != found:
            (folder / name).unlink()
            raise HubError(
                f"{name} has SHA-256 {found}, and the hub says {sha256[name]}",
                hint="it was damaged on the way: fetch it again",
                code="hash_mismatch",
            )
    weights = [name for name in names if is_weights(name)]
    if len(weights) == 1 and not _is_described(folder, names):
        return folder / weights[0], _digest(folder / weights[0], look_on)
    archive = folder / "model.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as made:
        for name in names:
            _append(made, folder / name, look_on)
    return archive, _digest(archive, look_on)


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


def _digest(path: Path, look_on: Callable[[], None]) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
            look_on()
    return found.hexdigest()
