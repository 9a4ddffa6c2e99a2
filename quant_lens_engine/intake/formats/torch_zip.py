"""What torch.save writes since 1.6: a zip of a pickle and of one uncompressed member a storage.

Refused by its directory alone: compressed members (torch writes none; a bomb does).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, SAVE_HINT, CheckpointFormat, member_names, members_of
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.intake.formats.pickle_program import follow_pickle
from quant_lens_engine.intake.formats.torch_storages import find_parts, place_parts
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.zip_archive import Member

MAX_PICKLE_BYTES = 64 << 20
PROGRAM = "data.pkl"
"""The member that says what the storages are."""


_EXPORTED = {"archive_format", "serialized_exported_program.json", "aotinductor_pickle_data.json"}


def _recognises(given: GivenFile) -> bool:
    return given.is_zip and not is_array_archive(given) and not is_exported_archive(given)


def is_exported_archive(given: GivenFile) -> bool:
    """Whether a sound zip is one of torch.export's."""
    names = member_names(given)
    return bool(names & _EXPORTED) or any(name.startswith("opaque_obj_") for name in names)


def is_array_archive(given: GivenFile) -> bool:
    """Whether a zip holds numpy arrays; an unreadable one does where its name says so."""
    names = member_names(given) or given.names
    return any(name.endswith(".npy") for name in names)


def sound_directory(given: GivenFile) -> dict[str, Member]:
    """The members of an archive that torch wrote: every one of them is stored as it is.

    Raises:
        CheckpointError: ``bad_zip``, ``zip_bomb``, ``truncated_file``; ``compressed_member``.
    """
    members = members_of(given, "torch file", SAVE_HINT)
    refuse_compressed(members)
    return members


def refuse_compressed(members: Mapping[str, Member]) -> None:
    """Refuse an archive that torch did not write.

    Raises:
        CheckpointError: ``compressed_member``.
    """
    compressed = [member.name for member in members.values() if not member.stored]
    if compressed:
        raise CheckpointError(
            f"the archive member {compressed[0][:80]!r} is compressed; torch.save writes none so",
            hint=SAVE_HINT,
            code="compressed_member",
        )


def _read(given: GivenFile) -> Contents:
    return read_archive(given.path, members_of(given, "torch file", SAVE_HINT))


def read_archive(path: Path, members: Mapping[str, Member]) -> Contents:
    """The state dicts of an archive that torch wrote.

    Args:
        path: the file that it is, or lies in.
        members: of the archive, each with its place in that file.

    Raises:
        CheckpointError: what is wrong with it.
    """
    refuse_compressed(members)
    program = [member for name, member in members.items() if PurePosixPath(name).name == PROGRAM]
    if len(program) != 1:
        found = "no" if not program else f"{len(program)}"
        raise CheckpointError(
            f"a zip archive with {found} data.pkl: not a file of torch.save", hint=SAVE_HINT, code="not_a_checkpoint"
        )
    folder = program[0].name.removesuffix(PROGRAM)
    order = members.get(folder + "byteorder")
    if order is not None and bytes_of(path, order) != b"little":
        raise CheckpointError("its tensors are big-endian", hint="save it on a little-endian machine")
    parts = find_parts(follow_pickle(io.BytesIO(bytes_of(path, program[0]))))
    prefix = folder + "data/"
    storages = {
        name.removeprefix(prefix): (member.offset, member.size)
        for name, member in members.items()
        if name.startswith(prefix)
    }
    return place_parts(parts, storages)


def bytes_of(path: Path, member: Member) -> bytes:
    """A stored member's bytes.

    Raises:
        CheckpointError: ``bad_pickle``: they are more than a state dict's pickle has.
    """
    if member.size > MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"its pickle has {member.size} bytes: more than a state dict needs", hint=SAVE_HINT, code="bad_pickle"
        )
    with path.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


FORMATS.add(
    "torch",
    CheckpointFormat(_recognises, _read, (".pt", ".pth", ".bin", ".ckpt"), "torch.save of a state dict", general=True),
)
