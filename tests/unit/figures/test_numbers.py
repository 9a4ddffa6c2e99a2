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
    assert abs(read_back(shown) - value) <= max(5.01e-3 * value, 0.0501 * error)
    assert read_back(spread) == pytest.approx(error, rel=0.5), "an error is never written as zero, nor ten times off"


@given(st.floats(-9e5, 9e5), st.floats(1e-6, 9e5))
def test_an_error_of_the_values_size_has_two_digits_and_ends_where_the_value_does(value: float, share: float) -> None:
    error = max(abs(value), 1e-3) * max(share, 1.0)
    shown, spread = numbers.measured(value, error)
    significant = spread.replace(THIN_SPACE, "").split("e")[0].replace(".", "").strip("0")
    assert len(significant) <= 2
    if value and "e" not in shown + spread:
        assert len(shown.partition(".")[2]) == len(spread.partition(".")[2])


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (3.15415, 0.0021, "3.154 ± 0.002"),
        (18.52, 1.06, "18.5 ± 1.1"),
        (0.5, 1e-9, "0.50000 ± 1.0e−9"),
        (1204.4, 53.2, "1 204 ± 53"),
        (123456.0, 5123.0, "123 500 ± 5 100"),
        (0.00307, 0.06001, "0.003 ± 0.060"),
        (0.0001, 0.06, "0.000 ± 0.060"),
        (-0.0001, 0.06, "0.000 ± 0.060"),
        (-0.00307, 0.06001, "−0.003 ± 0.060"),
        (-18.52, 1.06, "−18.5 ± 1.1"),
        (0.0, 0.06, "0 ± 0.060"),
        (0.0, 171.0, "0 ± 170"),
        (9.996, 0.5, "10.0 ± 0.5"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (2.0, 40.0, "2 ± 40"),
        (0.3, 1500.0, "0 ± 1 500"),
        (1.2345e-4, 2.1e-5, "1.23e−4 ± 2.1e−5"),
        (3.14e-5, 2.1e-4, "3e−5 ± 2.1e−4"),
        (3e-9, 2.1e-4, "0 ± 2.1e−4"),
        (3.0712e-4, 2e-8, "3.0712e−4 ± 2e−8"),
        (1.2e6, 3e3, "1.200e6 ± 3e3"),
        (0.25, 0.0, "0.250 ± 0"),
        (-1.2e-5, 0.0, "−1.20e−5 ± 0"),
    ],
)
def test_a_value_ends_where_its_error_does(value: float, error: float, text: str) -> None:
    assert numbers.with_error(value, error).replace(THIN_SPACE, " ") == text


def test_a_sign_is_written_unless_nothing_is_left_of_the_value() -> None:
    assert numbers.with_error(0.00307, 0.06, signed=True) == "+0.003 ± 0.060"
    assert numbers.with_error(0.0001, 0.06, signed=True) == "0.000 ± 0.060"


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
