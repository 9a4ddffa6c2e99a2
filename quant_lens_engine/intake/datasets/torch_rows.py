"""``torch.save`` of ``{"x": …, "y": …}``, or of ``(x, y)``: the pickle is followed, never opened."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Any

from quant_lens_engine.errors import CheckpointError, DataError
from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.mapped_tensors import are_rows, arrays_of, as_data_error, no_rows
from quant_lens_engine.intake.formats.layout import StoredTensor
from quant_lens_engine.intake.formats.pickle_program import PickledDict, TensorReference, follow_pickle
from quant_lens_engine.intake.formats.torch_storages import place_tensors
from quant_lens_engine.intake.tree import Tree, ZipTree

MAX_PICKLE_BYTES = 1 << 20
"""Two tensors take a kilobyte."""
_HINT = "torch.save({'x': x, 'y': y}, 'data.pt'), with x and y as tensors"


def _recognises(given: Given) -> bool:
    if not given.is_zip or not any(PurePosixPath(name).name == "data.pkl" for name in given.names):
        return False
    try:
        return are_rows(_tensors(given.tree()))
    except (CheckpointError, DataError):
        return False  # the checkpoint format says what is wrong with it


def _read(given: Given) -> Arrays:
    try:
        return arrays_of(given.path, _tensors(given.tree()))
    except CheckpointError as error:
        raise as_data_error(error, _HINT) from None


def _tensors(tree: Tree) -> dict[str, StoredTensor]:
    """Each tensor's place in the archive.

    Raises:
        CheckpointError: a pickle with code, or one that disagrees with the archive.
        DataError: ``not_data``.
    """
    if not isinstance(tree, ZipTree):
        raise DataError("it is no archive of torch.save", hint=_HINT, code="not_data")
    programs = [name for name in tree.members if PurePosixPath(name).name == "data.pkl"]
    if len(programs) != 1 or tree.sizes.get(programs[0], MAX_PICKLE_BYTES) >= MAX_PICKLE_BYTES:
        raise DataError("its pickle is more than that of two tensors", hint=_HINT, code="not_data")
    folder = programs[0].removesuffix("data.pkl")
    order = folder + "byteorder"
    compressed = [member.name for member in tree.members.values() if not member.stored]
    if compressed or (order in tree.sizes and _content(tree, order) != b"little"):
        raise DataError("it is compressed or big-endian; torch.save writes neither here", hint=_HINT, code="not_data")
    root = follow_pickle(io.BytesIO(_content(tree, programs[0])))
    prefix = folder + "data/"
    storages = {
        name.removeprefix(prefix): (member.offset, member.size)
        for name, member in tree.members.items()
        if name.startswith(prefix)
    }
    return dict(place_tensors(_named(root), storages, [], None).tensors)


def _content(tree: Tree, name: str) -> bytes:
    try:
        return tree.read(name, MAX_PICKLE_BYTES)
    except Exception as error:  # a checksum that is wrong, an error of the system
        reason = f"{name[:80]!r} cannot be read ({error.__class__.__name__})"
        raise DataError(reason, hint="the file is damaged: upload it again", code="bad_zip") from None


def _named(root: Any) -> dict[str, TensorReference]:
    """The tensors of a dict by their names; of a pair, as x and y."""
    if isinstance(root, tuple | list):
        pairs = list(zip(("x", "y"), root, strict=True)) if len(root) == 2 else []
    else:
        pairs = list(root.named()) if isinstance(root, PickledDict) else []
    named = {name: value for name, value in pairs if isinstance(value, TensorReference)}
    if len({name for name, _ in pairs}) != len(pairs):
        raise DataError("it names a tensor twice", hint=_HINT, code="duplicate_tensor")
    return named


def _explains(given: Given) -> DataError | None:
    if not given.is_zip or not any(PurePosixPath(name).name == "data.pkl" for name in given.names):
        return None
    try:
        return no_rows(_tensors(given.tree()), _HINT)
    except CheckpointError as error:
        return as_data_error(error, _HINT)
    except DataError as error:
        return error


DATA_FORMATS.add(
    "torch",
    DataFormat(_recognises, _read, (".pt", ".pth"), "torch.save of {'x': x, 'y': y} or of (x, y)", explains=_explains),
)
