"""NaN and infinity are found wherever they stand in a file, in every number format of a weight."""

import math

import pytest
import torch
from safetensors.torch import save_file

from quant_lens_engine.intake.checkpoint import open_checkpoint
from quant_lens_engine.intake.formats.layout import _BLOCK_BYTES

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64]
BYTES = [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", DTYPES + BYTES)
def test_one_among_many_is_found_at_every_edge_of_what_is_read_at_once(dtype, tmp_path):
    in_one_block = _BLOCK_BYTES // dtype.itemsize
    count = 2 * in_one_block + 3
    for place in (0, in_one_block - 1, in_one_block, count - 1):
        weights = torch.zeros(count, dtype=dtype)
        weights[place] = math.nan
        save_file({"sound": torch.ones(3, dtype=dtype), "broken": weights}, tmp_path / "model.safetensors")
        assert open_checkpoint(tmp_path / "model.safetensors").non_finite() == ["broken"], place


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_both_infinities_count_and_the_largest_number_does_not(dtype, value, tmp_path):
    largest = torch.finfo(dtype).max
    tensors = {
        "broken": torch.tensor([0.0, value], dtype=dtype),
        "largest": torch.tensor([-largest, largest], dtype=dtype),
        "empty": torch.empty(0, 3, dtype=dtype),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path / "model.safetensors").non_finite() == ["broken"]


def test_the_second_half_of_a_complex_number_counts(tmp_path):
    save_file({"broken": torch.tensor([complex(0, math.inf), 0j])}, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path / "model.safetensors").non_finite() == ["broken"]
