"""Metrics read what they say they read, in the unit they say."""

import pytest

from quant_lens_engine.errors import InternalFault
from quant_lens_engine.figures import METRICS
from quant_lens_engine.schema import RunResult, Variant
from tests.unit.figures.results import result, usual, variant


@pytest.mark.parametrize("key", METRICS)
def test_a_metric_declares_itself_and_meets_an_unfinished_variant(key: str) -> None:
    metric = METRICS[key]
    assert metric.key == key
    assert metric.meaning.endswith(".")
    assert metric.read(RunResult(), Variant(name="int8")).value is None


def test_accuracy_is_stored_as_a_fraction_and_shown_in_per_cent() -> None:
    metric, found = METRICS["accuracy"], usual()
    measurement = metric.read(found, found.variants[0])
    assert measurement.value == 0.98
    assert metric.written(measurement) == ("98.0", "1.0")
    assert metric.head == "Accuracy (%)"
    assert metric.exactly(measurement).startswith("0.98 ± 0.01 fraction")


def test_lambda_that_did_not_converge_says_so() -> None:
    found = result(variant("FP32", 10.0, converged=False))
    assert METRICS["lambda_max"].read(found, found.variants[0]).note == "not converged"


def test_a_ratio_without_meaning_gives_its_reason() -> None:
    found = result(variant("FP32", 0.1), variant("int2", 40.0))  # spread of 0.5 around 0.1
    measurement = METRICS["sharpness_ratio"].read(found, found.variants[1])
    assert measurement.value is None
    assert "uncertainty of zero" in measurement.note


def test_two_metrics_of_one_key_are_refused() -> None:
    with pytest.raises(InternalFault):
        METRICS.add("loss", METRICS["loss"])


def test_the_ratios_error_is_that_of_both_eigenvalues() -> None:
    found = result(variant("FP32", 10.0), variant("int2", 40.0))  # each with a residual of 0.01
    measurement = METRICS["sharpness_ratio"].read(found, found.variants[1])
    assert measurement.value == 4.0
    assert measurement.error == pytest.approx(4.0 * (0.001**2 + 0.00025**2) ** 0.5)
