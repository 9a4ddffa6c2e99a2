"""``pytorch_model.bin`` of a Hugging Face folder: torch.save of a state dict, one file or several with an index.

It is followed as data, like every other file of torch.save: nothing in it is imported or called. In a zip of the
folder it is an archive within an archive; its tensors are read from their place all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import SAVE_HINT, unsound_archive
from quant_lens_engine.intake.formats.layout import StoredTensor
from quant_lens_engine.intake.formats.shards import ShardKind
from quant_lens_engine.intake.formats.torch_legacy import begins_as_legacy, read_legacy
from quant_lens_engine.intake.formats.torch_zip import read_archive
from quant_lens_engine.intake.zip_archive import UnsoundArchiveError, read_directory


def _tensors(file: Path, start: int, size: int) -> Mapping[str, StoredTensor]:
    with file.open("rb") as stream:
        stream.seek(start)
        head = stream.read(min(size, 16))
    if begins_as_legacy(head):
        return read_legacy(file, start, size).tensors
    if not head.startswith(b"PK"):
        raise CheckpointError("it is no file of torch.save", hint=SAVE_HINT, code="not_a_checkpoint")
    try:
        members = read_directory(file, start, size)
    except UnsoundArchiveError as error:
        raise unsound_archive(error, "torch file", SAVE_HINT) from None
    return read_archive(file, members).tensors


PICKLED = ShardKind("pytorch_model", ".bin", "pytorch_model", _tensors)
"""The files that ``save_pretrained`` wrote before safetensors."""
