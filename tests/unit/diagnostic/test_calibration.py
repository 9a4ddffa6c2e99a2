"""QuantDiagnostic with recipes: which rows are looked at, in which dtypes, on which device."""

import copy

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine import QuantDiagnostic
from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantization import fake_quantize

pytestmark = pytest.mark.slow

QUICK = {"landscape_steps": 3, "directions": 1, "trace_probes": 2, "hessian_iters": 4}
RECIPES = ["w8a8", "w4a8-dynamic", "w4a4-nvfp4", "int3+gptq", "w4a8+smoothquant", "int4+awq", "int2+adaround:steps=20"]

Batches = list[tuple[Tensor, Tensor]]


@pytest.fixture
def others() -> Batches:
    generator = torch.Generator().manual_seed(11)
    return [(3 * torch.randn(size, 5, generator=generator), torch.arange(size) % 3) for size in (16, 16, 5)]


def analysed(diagnostic: QuantDiagnostic, *recipes: str):
    for recipe in recipes:
        diagnostic.add_variant(recipe)
    return diagnostic.run_analysis(**QUICK)


def test_rows_given_for_calibration_are_used_and_counted(trained: nn.Module, batches: Batches, others: Batches) -> None:
    result = analysed(QuantDiagnostic(trained, batches, calibration=others), "w8a8")
    assert (result.data.calibration_samples, result.data.overlap) == (37, False)
    x = torch.cat([x for x, _ in others])
    first = result.variant("w8a8").activations[0]
    assert (first.low, first.high) == pytest.approx(tuple(map(float, x.aminmax())), rel=1e-6)


def test_without_them_the_evaluations_rows_are_used_and_that_is_said(trained: nn.Module, batches: Batches) -> None:
    for given in ({}, {"calibration": batches}):
        result = analysed(QuantDiagnostic(trained, batches, **given), "w8a8")
        assert (result.data.calibration_samples, result.data.overlap) == (90, True)
        x = torch.cat([x for x, _ in batches])
        first = result.variant("w8a8").activations[0]
        assert (first.low, first.high) == pytest.approx(tuple(map(float, x.aminmax())), rel=1e-6)


def test_weights_alone_look_at_none(trained: nn.Module, batches: Batches, others: Batches) -> None:
    for given in ({}, {"calibration": others}):
        result = analysed(QuantDiagnostic(trained, batches, **given), "int4", "w8a8-dynamic", "int4-g4+clip")
        assert (result.data.calibration_samples, result.data.overlap) == (0, False)


def test_training_needs_rows_of_its_own(trained: nn.Module, batches: Batches, others: Batches) -> None:
    with pytest.raises(SchemeError) as refused:
        analysed(QuantDiagnostic(trained, batches), "int4+qat:steps=1")
    assert refused.value.code == "no_rows_to_train_on"
    result = analysed(QuantDiagnostic(trained, batches, calibration=others), "int4+qat:steps=1")
    notes = result.variant("int4+qat:steps=1").notes
    assert any("trained on 30 calibration rows; " in note and "on the 7 held out" in note for note in notes)


def test_every_recipe_has_all_of_its_stages(trained: nn.Module, batches: Batches, others: Batches) -> None:
    before = copy.deepcopy(trained.state_dict())
    result = analysed(QuantDiagnostic(trained, batches, calibration=others), *RECIPES)
    assert not result.failures
    for variant in result.variants:
        assert {line.landscape for line in variant.lines} == {"deployed", "smooth"}
        assert variant.curvature.lambda_max.value is not None
        for line in variant.lines:
            assert line.loss[1] == variant.evaluation.loss
    assert all(torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())


def test_the_dequantized_state_is_that_of_the_recipe(trained: nn.Module, batches: Batches) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_variant("w4a8-g2-dynamic", "Mine")
    state = diagnostic.dequantized_state("Mine")
    assert torch.equal(state["0.weight"], fake_quantize(trained[0].weight.detach(), "int4-g2"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_dtypes(trained: nn.Module, batches: Batches, others: Batches, dtype: torch.dtype) -> None:
    model = copy.deepcopy(trained).to(dtype)
    rows, calibration = ([(x.to(dtype), y) for x, y in part] for part in (batches, others))
    result = analysed(QuantDiagnostic(model, rows, calibration=calibration), *RECIPES)
    reference = analysed(QuantDiagnostic(trained, batches, calibration=others), *RECIPES)
    for recipe in RECIPES:
        found, expected = result.variant(recipe).evaluation, reference.variant(recipe).evaluation
        assert found.loss == pytest.approx(expected.loss, abs=0.25)
        assert result.variant(recipe).effective_bits == reference.variant(recipe).effective_bits
    assert next(model.parameters()).dtype == dtype


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_a_gpu_recipes_agree_with_the_cpu(trained: nn.Module, batches: Batches, others: Batches) -> None:
    here, there = (
        analysed(QuantDiagnostic(trained, batches, device=device, calibration=others), *RECIPES)
        for device in ("cpu", "cuda")
    )
    for recipe in RECIPES:
        one, other = here.variant(recipe), there.variant(recipe)
        assert one.evaluation.loss == pytest.approx(other.evaluation.loss, rel=1e-3, abs=1e-3)
        assert [item.name for item in one.activations] == [item.name for item in other.activations]
        assert one.lines[1].loss == pytest.approx(other.lines[1].loss, rel=1e-2, abs=1e-2)
