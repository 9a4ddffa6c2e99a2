"""How numbers are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_lens_engine.schema import numbers
from quant_lens_engine.schema.numbers import MINUS, THIN_SPACE

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)


def read_back(text: str) -> float:
    return float(text.replace(MINUS, "-").replace(THIN_SPACE, ""))


@given(FINITE)
def test_three_digits_are_within_half_a_unit_of_the_third(value: float) -> None:
    assert read_back(numbers.number(value)) == pytest.approx(value, rel=5.01e-3, abs=1e-300)


@given(FINITE)
def test_no_hyphen_is_ever_written_for_a_minus(value: float) -> None:
    assert "-" not in numbers.number(value) + numbers.exact(value) + numbers.with_error(value, abs(value) / 3)


@given(st.floats(0.002, 9e5), st.floats(1e-6, 1e5))
def test_a_value_and_its_error_keep_the_value_true(value: float, error: float) -> None:
    shown, spread = numbers.measured(value, error)
    assert read_back(shown) == pytest.approx(value, rel=5.01e-3)
    assert read_back(spread) == pytest.approx(error, rel=0.5), "an error is never written as zero, nor ten times off"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_there_is_a_dash(value: float | None) -> None:
    assert numbers.number(value) == numbers.ABSENT
    assert numbers.measured(value, 1.0) == (numbers.ABSENT, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.996, "10.0"), (0.9996, "1.00"), (999.6, f"1{THIN_SPACE}000"), (0, "0"), (-0.00012, f"{MINUS}1.20e{MINUS}4")],
)
def test_rounding_up_to_the_next_power_keeps_three_digits(value: float, text: str) -> None:
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "< 0.1 s"), (59.6, "1 min"), (600, "10 min"), (7260, "2 h 1 min"), (90000, "1 d 1 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


def test_sizes_step_up_before_they_have_four_digits() -> None:
    assert numbers.size(999_600) == f"1.00{THIN_SPACE}MB"
