"""Each algorithm against rounding to nearest, on trained networks and rows that it has not seen."""

from __future__ import annotations

import pytest

from quant_lens_engine.evaluation import evaluate
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema import parse_run_spec
from quant_lens_engine.subject import Subject

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["digits-mlp", "digits-cnn", "digits-transformer"])
def example(request):
    """The rows that are measured, those that calibrate, and the loss at int3 rounded to nearest."""
    spec = parse_run_spec({"model": {"example": request.param}, "data": {"example": "digits"}, "schemes": ["w8a8"]})
    subject = Subject.read(spec, {}, None)
    execution = {"device": "cpu", "dtype": "float32", "micro_batch": 128}
    objective = subject.objective(execution)
    calibration = subject.calibration_objective(objective, execution)
    return objective, calibration, evaluate(quantize(objective.model, "int3").live(objective)).loss


@pytest.mark.parametrize("algorithm", ["gptq", "awq", "adaround:steps=200", "bias-correction"])
def test_at_three_bits_the_loss_is_below_that_of_rounding_to_nearest(example, algorithm):
    objective, calibration, nearest = example
    variant = quantize(objective.model, f"int3+{algorithm}", calibration)
    assert evaluate(variant.live(objective)).loss < nearest


def test_training_through_two_bits_wins_back_most_of_what_rounding_loses(example):
    objective, calibration, _ = example
    plain = evaluate(quantize(objective.model, "int2").live(objective)).loss
    trained = evaluate(quantize(objective.model, "int2+qat:learning_rate=0.001", calibration).live(objective)).loss
    assert trained - objective.loss() < 0.5 * (plain - objective.loss())
