"""Images in a folder or a zip, with a labels file or one folder a class; decoded when a row is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO

from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.labels import Labelled, label_members
from quant_lens_engine.intake.datasets.picture import SUFFIXES, Pictures, bad_image
from quant_lens_engine.intake.tree import Tree

_OTHER_KINDS = (".npy", ".pkl", ".arrow", ".wav", ".safetensors", ".parquet")
"""A model card's pictures lie beside such files; they are not the data."""


def _recognises(given: Given) -> bool:
    names = [name.lower() for name in given.names]
    return any(name.endswith(SUFFIXES) for name in names) and not any(name.endswith(_OTHER_KINDS) for name in names)


def _read(given: Given) -> Arrays:
    tree = given.tree("folder" if given.path.is_dir() else "zip")
    labelled = label_members(tree, tree.ending(*SUFFIXES), "images")
    found = _rows(tree, labelled)
    calibration = None if labelled.calibration is None else _rows(tree, labelled.calibration)
    return replace(found, calibration=calibration)


def _rows(tree: Tree, labelled: Labelled) -> Arrays:
    pictures = Pictures(labelled.names, lambda rows: _streams(tree, [labelled.names[row] for row in rows]))
    mixed = ("Grey images among coloured ones were given three equal channels.",) if pictures.is_mixed else ()
    return Arrays(pictures, labelled.y, labelled.notes + mixed)


def _streams(tree: Tree, names: Sequence[str]) -> Iterator[IO[bytes]]:
    for name in names:
        try:
            stream = tree.open(name)
        except Exception as error:  # zipfile's and the system's
            raise bad_image(name, "cannot be opened", error) from None
        with stream:
            yield stream


DATA_FORMATS.add(
    "images",
    DataFormat(_recognises, _read, SUFFIXES, "folder or zip of images with labels.csv, or with one folder a class"),
)
