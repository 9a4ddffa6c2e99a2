"""The sample, its labels and its transform."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake import Arrays, apply_transform, draw_calibration, draw_indices, select_rows
from quant_lens_engine.schema import Transform
from quant_lens_engine.schema.calibration import FEWEST_CALIBRATION_ROWS


def select(x, y, **options):
    options = {"transform": Transform(), "limit": None, "seed": 0, "task": "classification"} | options
    return select_rows(Arrays(np.asarray(x), None if y is None else np.asarray(y)), options.pop("transform"), **options)


@given(available=st.integers(1, 500), limit=st.integers(1, 500), seed=st.integers(0, 2**62))
def test_a_sample_is_sorted_without_repetition_and_the_same_each_time(available, limit, seed):
    found = draw_indices(available, limit, seed)
    assert len(found) == min(available, limit)
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < available
    assert np.array_equal(found, draw_indices(available, limit, seed))


def test_another_seed_is_another_sample_and_every_row_has_its_turn():
    drawn = [draw_indices(20, 5, seed) for seed in range(60)]
    assert len({tuple(found) for found in drawn}) > 50
    assert set(np.concatenate(drawn)) == set(range(20))


@given(
    available=st.integers(1, 400), evaluated=st.integers(1, 400), limit=st.integers(1, 300), seed=st.integers(0, 2**62)
)
def test_calibration_rows_are_never_evaluated_unless_it_is_said(available, evaluated, limit, seed):
    taken = draw_indices(available, evaluated, seed)
    drawn, overlap = draw_calibration(available, limit, seed, taken)
    assert (np.diff(drawn) > 0).all()
    assert 0 <= drawn[0] <= drawn[-1] < available
    free = available - len(taken)
    assert overlap == (free < min(limit, FEWEST_CALIBRATION_ROWS))
    assert len(drawn) == min(limit, available if overlap else free)
    if not overlap:
        assert not set(drawn) & set(taken)
    again, _ = draw_calibration(available, limit, seed, taken)
    assert np.array_equal(drawn, again)


@given(available=st.integers(1, 400), limit=st.integers(1, 300), seed=st.integers(0, 2**62))
def test_another_file_has_only_free_rows(available, limit, seed):
    drawn, overlap = draw_calibration(available, limit, seed, None)
    assert not overlap
    assert len(drawn) == min(limit, available)


def test_calibration_rows_are_another_draw_than_the_evaluations():
    drawn = [draw_calibration(100, 20, seed, None)[0] for seed in range(40)]
    assert len({tuple(rows) for rows in drawn}) == 40
    assert not any(np.array_equal(rows, draw_indices(100, 20, seed)) for seed, rows in enumerate(drawn))


def test_rows_and_labels_stay_together():
    x = np.arange(100.0)[:, None]
    found = select(x, np.arange(100) % 7, limit=13, seed=3)
    assert (found.x[:, 0] % 7 == found.y).all()
    assert (found.indices == found.x[:, 0]).all()
    assert found.available == 100
    assert found.classes == 7


def test_the_transform_is_torchvisions():
    """ToTensor and Normalize, written out with torch."""
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    found = apply_transform(x, Transform(layout="NHWC", scale=1 / 255, mean=mean, std=std))
    tensor = torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255
    expected = (tensor - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_grey_images_gain_a_channel():
    assert apply_transform(np.zeros((5, 28, 28), np.uint8), Transform(layout="NHW")).shape == (5, 1, 28, 28)
    assert apply_transform(np.zeros((5, 28, 28), np.uint8), Transform()).shape == (5, 28, 28)


def test_features_have_a_mean_each():
    found = apply_transform(np.ones((2, 3)), Transform(mean=(1.0, 2.0, 3.0), std=(1.0, 1.0, 2.0)))
    assert found.tolist() == [[0.0, -1.0, -1.0]] * 2


def test_float64_keeps_what_float32_would_round():
    x = np.array([[1.0 + 2**-40]])
    assert apply_transform(x, Transform(), "float64")[0, 0] == x[0, 0]
    assert apply_transform(x, Transform(), "float32")[0, 0] == 1


@pytest.mark.parametrize(
    ("shape", "transform", "words"),
    [
        ((4, 28, 28), {"layout": "NHWC"}, "needs 4 axes"),
        ((4, 3, 8, 8), {"layout": "NHW"}, "needs 3 axes"),
        ((4, 8, 8, 3), {"layout": "NHWC", "mean": (0.1, 0.2)}, "mean has 2 numbers, x has 3 channels"),
        ((4, 8, 8, 3), {"layout": "NCHW", "std": (1.0, 1.0, 1.0)}, "std has 3 numbers, x has 8 channels"),
    ],
)
def test_transforms_that_do_not_go_with_the_shape(shape, transform, words):
    with pytest.raises(DataError, match=words) as caught:
        select(np.zeros(shape), np.zeros(4, int), transform=Transform(**transform))
    assert caught.value.code == "bad_transform"


@pytest.mark.parametrize(
    ("x", "y", "code", "words"),
    [
        (np.zeros((3, 2)), np.arange(4), "length_mismatch", "3 rows, y has 4"),
        (np.zeros((3, 2)), np.int64(1), "length_mismatch", "no labels"),
        (np.zeros((0, 2)), np.zeros(0, int), "empty_data", "no rows"),
        (np.zeros((3, 0)), np.zeros(3, int), "empty_data", "no rows"),
        (np.float64(3), np.zeros(1, int), "empty_data", "no rows"),
        (np.zeros((3, 2)), None, "missing_array", "no labels"),
        (np.zeros((3, 2)), np.eye(3), "bad_labels", r"shape \[3, 3\]"),
        (np.zeros((3, 2)), [0.0, 1.5, 2.0], "non_integer_labels", "1.5 at row 1"),
        (np.zeros((3, 2)), [0.0, 1.0, np.nan], "non_integer_labels", "nan at row 2"),
        (np.zeros((3, 2)), [0, -1, 2], "label_out_of_range", "-1 at row 1 is negative"),
    ],
)
def test_labels_that_are_none(x, y, code, words):
    with pytest.raises(DataError, match=words) as caught:
        select(x, y)
    assert caught.value.code == code
    assert caught.value.hint


def test_labels_in_other_clothes():
    for y in ([0.0, 1.0, 2.0], np.arange(3)[:, None], np.arange(3, dtype=np.uint8), [False, True, True]):
        assert select(np.zeros((3, 2)), y).y.dtype == np.int64


def test_non_finite_rows_are_named_by_their_place_in_the_file():
    x = np.zeros((50, 2))
    x[[7, 30], 1] = np.nan, np.inf
    with pytest.raises(DataError, match="in 2 of 50 rows, first in row 7") as caught:
        select(x, np.zeros(50, int))
    assert caught.value.code == "non_finite_data"
    assert caught.value.details == {"array": "x", "rows": [7, 30], "count": 2}


def test_a_scale_that_overflows_is_non_finite_data():
    with pytest.raises(DataError) as caught, np.errstate(over="ignore"):
        select(np.full((2, 2), 1e30), np.zeros(2, int), transform=Transform(scale=1e30))
    assert caught.value.code == "non_finite_data"


def test_self_distillation_needs_no_labels():
    assert select(np.zeros((3, 2)), None, task="self-distillation").y is None


def test_tokens_stay_whole():
    found = select(np.arange(6).reshape(2, 3), np.zeros(2, int), tokens=True)
    assert found.x.dtype == np.int64
