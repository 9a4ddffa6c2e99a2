"""What torch.save writes since 1.6: a zip of a pickle and of one uncompressed member a storage.

Refused by their directory alone: TorchScript and torch.export archives (both carry code), and compressed members
(torch writes none; a bomb does).
"""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, SAVE_HINT, CheckpointFormat
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.intake.formats.pickle_program import follow_pickle
from quant_lens_engine.intake.formats.torch_storages import find_state_dict, place_tensors
from quant_lens_engine.intake.zip_archive import Member, UnsoundArchiveError, read_directory

MAX_PICKLE_BYTES = 64 << 20


def _recognises(head: bytes, path: Path) -> bool:
    return head.startswith(b"PK") and not is_array_archive(path)


def is_array_archive(path: Path) -> bool:
    """Whether a zip holds numpy arrays; an unreadable one does where its name says so."""
    try:
        members = read_directory(path)
    except UnsoundArchiveError:
        with path.open("rb") as file:
            head = file.read(512)
        return b".npy" in head[:300]
    return any(name.endswith(".npy") for name in members)


def _read(path: Path) -> Contents:
    try:
        members = read_directory(path)
    except UnsoundArchiveError as error:
        raise _unsound(error) from None
    _refuse_other_archives(members)
    compressed = [member.name for member in members.values() if not member.stored]
    if compressed:
        raise CheckpointError(
            f"the archive member {compressed[0][:80]!r} is compressed; torch.save writes none so",
            hint=SAVE_HINT,
            code="compressed_member",
        )
    program = [member for name, member in members.items() if PurePosixPath(name).name == "data.pkl"]
    if len(program) != 1:
        found = "no" if not program else f"{len(program)}"
        raise CheckpointError(
            f"a zip archive with {found} data.pkl: not a file of torch.save", hint=SAVE_HINT, code="not_a_checkpoint"
        )
    folder = program[0].name.removesuffix("data.pkl")
    order = members.get(folder + "byteorder")
    if order is not None and _bytes_of(path, order) != b"little":
        raise CheckpointError("its tensors are big-endian", hint="save it on a little-endian machine")
    tensors, under, notes = find_state_dict(follow_pickle(io.BytesIO(_bytes_of(path, program[0]))))
    prefix = folder + "data/"
    storages = {
        name.removeprefix(prefix): (member.offset, member.size)
        for name, member in members.items()
        if name.startswith(prefix)
    }
    return place_tensors(tensors, storages, notes, under)


def _refuse_other_archives(members: dict[str, Member]) -> None:
    parts = {part for name in members for part in PurePosixPath(name).parts[:-1]}
    names = {PurePosixPath(name).name for name in members}
    exported = "archive_format" in names or names & {"serialized_exported_program.json", "aotinductor_pickle_data.json"}
    if exported or any(name.startswith("opaque_obj_") for name in names):
        raise _refused("a torch.export archive (.pt2)", "exported_archive")
    if "constants.pkl" in names or "code" in parts:
        raise _refused("a TorchScript archive", "torchscript")


def _refused(what: str, code: str) -> CheckpointError:
    return CheckpointError(f"{what}: opening it can run code; it was not opened", hint=SAVE_HINT, code=code)


def _bytes_of(path: Path, member: Member) -> bytes:
    if member.size > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"its pickle has {member.size} bytes: more than a state dict needs", hint=SAVE_HINT, code="bad_pickle"
        )
    with path.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def _unsound(error: UnsoundArchiveError) -> CheckpointError:
    code = "zip_bomb" if error.bomb else "truncated_file" if error.truncated else "bad_zip"
    hint = "the file is cut off: upload it again" if error.truncated else SAVE_HINT
    return CheckpointError(f"not a sound torch file: {error}", hint=hint, code=code)


FORMATS.add(
    "torch", CheckpointFormat(_recognises, _read, (".pt", ".pth", ".bin", ".ckpt"), "torch.save of a state dict")
)
