"""numpy's ``.npz``: a zip of arrays. A zip of ``x.npy`` and ``y.npy`` is one too."""

from __future__ import annotations

from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.numpy_file import named_arrays


def _recognises(given: Given) -> bool:
    return given.is_zip and any(name.endswith(".npy") for name in given.names)


def _read(given: Given) -> Arrays:
    return named_arrays(given.tree("npz"))


DATA_FORMATS.add("npz", DataFormat(_recognises, _read, (".npz",), "numpy archive with the arrays x and y"))
