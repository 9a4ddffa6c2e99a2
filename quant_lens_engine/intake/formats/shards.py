"""Weights in several files of a folder, or of a zip of one, with an index that says which tensor lies where.

The index is Hugging Face's: ``{"metadata": {…}, "weight_map": {tensor: file}}``. In a zip the members must be stored,
not compressed: tensors are read from their place in the archive, and nothing is unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import member_bytes
from quant_lens_engine.intake.formats.layout import MAX_TENSORS, Contents, StoredTensor
from quant_lens_engine.intake.json_object import json_object
from quant_lens_engine.intake.tree import Tree

MAX_INDEX_BYTES = 64 << 20
MAX_SHARDS = 1000
ZIP_HINT = "zip the folder without compression: zip -0 -r model.zip folder"
"""What a zip of a model is, in one line."""
_NUMBER = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})")


@dataclass(frozen=True)
class ShardKind:
    """What the files of one kind of weights are called, and how one of them is read.

    Attributes:
        stem: of the one file, or of a numbered series; a file whose name does not begin with it is another matter.
            Empty: any name will do.
        suffix: of each file.
        usual: what the index is usually called, without its suffix.
        read: ``(file, first byte, bytes) -> tensors``, found and not read.
    """

    stem: str
    suffix: str
    usual: str
    read: Callable[[Path, int, int], Mapping[str, StoredTensor]]

    @property
    def index(self) -> str:
        """How the name of an index ends."""
        return f"{self.suffix}.index.json"

    def files(self, tree: Tree) -> list[str]:
        """The shards in a tree."""
        return [name for name in tree.sizes if name.endswith(self.suffix) and self._is_ours(name)]

    def indexes(self, tree: Tree) -> list[str]:
        """The indexes in a tree."""
        return [name for name in tree.sizes if name.endswith(self.index) and self._is_ours(name)]

    def _is_ours(self, name: str) -> bool:
        return PurePosixPath(name).name.startswith(self.stem)


def read_shards(tree: Tree, path: Path, kind: ShardKind) -> Contents:
    """The tensors of every shard in ``tree``, found and not read.

    Args:
        tree: a folder, or a zip of one.
        path: where it is: tensors in other files than this one say which.
        kind: which files are meant.

    Raises:
        CheckpointError: ``no_tensors``; ``missing_shard``; ``wrong_index`` where index and shards disagree;
            ``compressed_member``; whatever is wrong with a shard.
    """
    shards = kind.files(tree)
    index = _the_index(kind, kind.indexes(tree))
    if index is not None:
        wanted = _weight_map(tree, index)
        shards = list(dict.fromkeys(wanted.values()))
    else:
        wanted = None
        _refuse_unrelated(kind, shards)
    _refuse_missing(tree, shards)
    found: dict[str, StoredTensor] = {}
    for shard in shards:
        for name, stored in _shard_tensors(tree, shard, path, kind).items():
            if name in found:
                raise _wrong_index(f"the tensor {name[:80]!r} lies in two shards, the second is {shard!r}")
            if wanted is not None and wanted.get(name) != shard:
                raise _wrong_index(f"{shard!r} holds the tensor {name[:80]!r}, which the index does not place there")
            found[name] = stored
    lost = [name for name in wanted or () if name not in found]
    if lost:
        raise _wrong_index(f"the index lists {lost[0][:80]!r}, which {wanted and wanted[lost[0]]!r} does not hold")
    several = f"{len(shards)} shards were read" if len(shards) > 1 else f"{shards[0]} was read"
    return Contents(found, notes=(f"{several}{' by the index ' + index if index else ''}.",))


def _the_index(kind: ShardKind, indexes: list[str]) -> str | None:
    plain = [name for name in indexes if PurePosixPath(name).name == kind.usual + kind.index]
    candidates = plain or indexes
    if len(candidates) > 1:
        raise _wrong_index(
            f"there are {len(candidates)} indexes: {', '.join(candidates[:3])}; keep the one that is meant"
        )
    return candidates[0] if candidates else None


def _weight_map(tree: Tree, index: str) -> dict[str, str]:
    """Tensor to shard, as named in the tree."""
    if tree.sizes[index] > MAX_INDEX_BYTES:
        raise _wrong_index(f"the index has {tree.sizes[index]} bytes: more than one needs")
    weight_map = json_object(member_bytes(tree, index, MAX_INDEX_BYTES), "the index", _wrong_index).get("weight_map")
    pairs = weight_map.items() if isinstance(weight_map, dict) else ()
    if not pairs or not all(isinstance(shard, str) for _, shard in pairs):
        raise _wrong_index("the index has no weight_map from tensor to file")
    if len(pairs) > MAX_TENSORS or len({shard for _, shard in pairs}) > MAX_SHARDS:
        raise _wrong_index(f"the index lists more than {MAX_TENSORS} tensors or {MAX_SHARDS} shards")
    folder = PurePosixPath(index).parent
    return {name: str(folder / shard) for name, shard in pairs}


def _refuse_unrelated(kind: ShardKind, shards: list[str]) -> None:
    """Without an index: one file, or all of a numbered series."""
    matches = [_NUMBER.fullmatch(shard.removesuffix(kind.suffix)) for shard in shards]
    if len(shards) == 1 and matches == [None]:
        return
    series = {(match["stem"], match["count"]) for match in matches if match}
    numbers = sorted(int(match["number"]) for match in matches if match)
    if not shards or None in matches or len(series) != 1:
        raise CheckpointError(
            f"{len(shards)} {kind.suffix} files without an index: {', '.join(shards[:4])}",
            hint=f"add {kind.usual}{kind.index}, or keep the one file that is meant",
            code="missing_index",
        )
    count = int(next(iter(series))[1])
    if numbers != list(range(1, count + 1)):
        missing = sorted(set(range(1, count + 1)) - set(numbers))
        raise _missing_shard([f"number {number} of {count}" for number in missing[:5]])


def _refuse_missing(tree: Tree, shards: list[str]) -> None:
    missing = [shard for shard in shards if shard not in tree.sizes]
    if missing:
        raise _missing_shard(missing)


def _shard_tensors(tree: Tree, shard: str, path: Path, kind: ShardKind) -> Mapping[str, StoredTensor]:
    place = tree.place(shard)
    if place is None:
        raise CheckpointError(
            f"the archive member {shard[:80]!r} is compressed", hint=ZIP_HINT, code="compressed_member"
        )
    file, start = place
    try:
        tensors = kind.read(file, start, tree.sizes[shard])
    except CheckpointError as error:
        error.about(shard)
        raise
    return tensors if file == path else {name: replace(stored, file=file) for name, stored in tensors.items()}


def _missing_shard(missing: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{len(missing)} shards are missing: {', '.join(missing[:5])}",
        hint="put every shard that the index names beside it; links in a folder are not followed",
        code="missing_shard",
        details={"missing": missing},
    )


def _wrong_index(reason: str) -> CheckpointError:
    return CheckpointError(reason, hint="save it again with save_pretrained", code="wrong_index")
