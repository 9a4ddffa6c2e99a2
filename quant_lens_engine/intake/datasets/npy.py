"""numpy's ``.npy``: a folder with x.npy and y.npy, or a single file of rows without labels."""

from __future__ import annotations

from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.numpy_file import MAGIC, named_arrays, read_array


def _recognises(given: Given) -> bool:
    return given.head.startswith(MAGIC) or (given.path.is_dir() and any(name.endswith(".npy") for name in given.names))


def _read(given: Given) -> Arrays:
    tree = given.tree("folder")
    if given.path.is_dir():
        return named_arrays(tree)
    (name,) = tree.sizes
    note = "A single array was taken as x: labels go beside it as y.npy, in one folder or zip."
    return Arrays(read_array(tree, name, "x"), notes=(note,))


DATA_FORMATS.add("npy", DataFormat(_recognises, _read, (".npy",), "x.npy and y.npy in a folder, or x.npy alone"))
