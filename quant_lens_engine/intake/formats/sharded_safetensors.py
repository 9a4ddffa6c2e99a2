"""safetensors in a folder, or in a zip of one: several files with an index that says which tensor lies where.

https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

from quant_lens_engine.intake.formats import FORMATS, CheckpointFormat, tree_of
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.intake.formats.safetensors import read_shard
from quant_lens_engine.intake.formats.shards import ZIP_HINT, ShardKind, read_shards
from quant_lens_engine.intake.given import GivenFile

SAFETENSORS = ShardKind("", ".safetensors", "model", lambda file, start, size: read_shard(file, start, size)[0])
"""The files that ``save_pretrained`` writes, whatever they are called."""


def _recognises(given: GivenFile) -> bool:
    names = [name for name in given.names if "/" not in name] if given.is_folder else given.names
    return any(name.endswith((SAFETENSORS.suffix, SAFETENSORS.index)) for name in names)


def _read(given: GivenFile) -> Contents:
    return read_shards(tree_of(given, "archive", ZIP_HINT), given.path, SAFETENSORS)


FORMATS.add(
    "sharded-safetensors",
    CheckpointFormat(_recognises, _read, (".zip",), "safetensors in several files with an index: a folder, or a zip"),
)
