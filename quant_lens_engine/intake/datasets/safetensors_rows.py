"""safetensors with the tensors x and y: mapped, so that only the rows used are read."""

from __future__ import annotations

from quant_lens_engine.errors import CheckpointError, DataError
from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.mapped_tensors import are_rows, arrays_of, as_data_error, no_rows
from quant_lens_engine.intake.formats import FORMATS

_HINT = "safetensors.torch.save_file({'x': x.contiguous(), 'y': y}, 'data.safetensors')"


def _recognises(given: Given) -> bool:
    if given.head[8:9] != b"{":
        return False
    try:
        return are_rows(FORMATS["safetensors"].read(given).tensors)
    except CheckpointError:
        return False  # the checkpoint format says what is wrong with it


def _read(given: Given) -> Arrays:
    try:
        return arrays_of(given.path, FORMATS["safetensors"].read(given).tensors)
    except CheckpointError as error:
        raise as_data_error(error, _HINT) from None


def _explains(given: Given) -> DataError | None:
    if given.head[8:9] != b"{":
        return None
    try:
        return no_rows(FORMATS["safetensors"].read(given).tensors, _HINT)
    except CheckpointError as error:
        return as_data_error(error, _HINT)


DATA_FORMATS.add(
    "safetensors", DataFormat(_recognises, _read, (".safetensors",), "the tensors x and y", explains=_explains)
)
