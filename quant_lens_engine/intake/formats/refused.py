"""Files that are recognised only to say why they are not read, and what to give instead."""

from __future__ import annotations

import io
from collections.abc import Callable

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, SAVE_HINT, CheckpointFormat
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.intake.formats.pickle_program import refuse_code
from quant_lens_engine.intake.given import GivenFile

_MAX_LOOK_BYTES = 16 << 20


def _refusal(message: str, code: str, hint: str = SAVE_HINT) -> Callable[[GivenFile], Contents]:
    def read(given: GivenFile) -> Contents:  # noqa: ARG001  (one signature for all formats)
        raise CheckpointError(message, hint=hint, code=code)

    return read


def _read_pickle(given: GivenFile) -> Contents:
    """Say what the pickle would have run; a harmless one has no tensors that could be read safely."""
    with given.path.open("rb") as file:
        refuse_code(io.BytesIO(file.read(_MAX_LOOK_BYTES)))
    raise CheckpointError("a bare pickle, not a file of torch.save", hint=SAVE_HINT, code="not_a_checkpoint")


def _is_pickle(given: GivenFile) -> bool:
    """By its first instruction, which is no legacy file's; the length of a safetensors header can look like it."""
    head = given.head
    header = head[4:9] == b"\0\0\0\0{"
    return head[:1] == b"\x80" and head[1:2] <= b"\x05" and not header and b"\x8a\nl\xfc\x9c" not in head[:16]


def _add(
    name: str, recognises: Callable[[GivenFile], bool], read: Callable[[GivenFile], Contents], what: str
) -> None:  # fmt: skip
    FORMATS.add(name, CheckpointFormat(recognises, read, (), what, refused=True))


_add("tar", lambda given: given.head[257:262] == b"ustar",
     _refusal("a tar archive, the form of torch.save before 0.1.10; it is not opened", "tar_archive"),
     "torch.save before 0.1.10")  # fmt: skip
_add("pickle", _is_pickle, _read_pickle, "a bare pickle")
_add("hdf5", lambda given: given.head.startswith(b"\x89HDF\r\n\x1a\n"),
     _refusal("an HDF5 file (Keras): not read", "unsupported_format"), "HDF5")  # fmt: skip
