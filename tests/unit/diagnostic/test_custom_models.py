"""Quantized models of the caller's own: the model itself for its loss, its dequantized weights for curvature."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine import QuantDiagnostic, power_iteration
from quant_lens_engine.curvature import top_eigenvalues
from quant_lens_engine.errors import InputError
from quant_lens_engine.figures import html_report

QUICK = {"landscape_steps": 3, "directions": 1, "trace_probes": 4}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def dynamic(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def weight_only(model: nn.Module) -> nn.Module:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed, so it was not tried")
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, torchao.Int8WeightOnlyConfig())
    return quantized


@pytest.mark.parametrize("make", [dynamic, weight_only])
def test_its_own_loss_and_the_curvature_of_its_dequantized_weights(
    trained: nn.Module, batches: list[tuple[Tensor, Tensor]], make: object
) -> None:
    own = make(trained)
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=own)
    result = diagnostic.run_analysis(**QUICK)
    variant = result.variant("Int8")

    y = torch.cat([labels for _, labels in batches])
    with torch.no_grad():
        per_batch = torch.cat([own(part) for part, _ in batches])  # dynamic activations are quantized a batch at a time
    assert variant.evaluation.loss == pytest.approx(float(nn.functional.cross_entropy(per_batch, y)), rel=1e-5)
    assert variant.evaluation.forward == "own"
    assert result.variant("FP32").evaluation.forward == "float"

    loaded = copy.deepcopy(trained)
    loaded.load_state_dict(diagnostic.dequantized_state("Int8"), strict=False)
    expected = top_eigenvalues(loaded, batches, nn.CrossEntropyLoss(), k=1, tol=1e-5).values[0]
    assert variant.curvature.lambda_max.value == pytest.approx(expected, rel=1e-3)
    assert variant.curvature.weights == "dequantized"
    assert result.comparison("Int8").sharpness_ratio == pytest.approx(1, abs=0.1)
    assert not torch.equal(loaded[0].weight, trained[0].weight)

    assert [line.landscape for line in variant.lines] == ["smooth"]
    assert variant.quantized_layers == 2
    report = diagnostic.report()
    assert "Int8 †" in report
    assert "own kernels" in report
    page = html_report(result)
    assert page.count("own kernels; curvature at dequantized weights</small>") == 1


def test_a_model_that_cannot_be_mapped_has_a_loss_and_a_reason(trained: nn.Module, batches: list) -> None:
    folded = copy.deepcopy(trained)
    folded[0] = torch.nn.utils.fusion.fuse_linear_bn_eval(trained[0], trained[1])
    folded[1] = nn.Identity()
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=folded, name="Folded")
    result = diagnostic.run_analysis(**QUICK)
    variant = result.variant("Folded")
    assert variant.evaluation.loss == pytest.approx(result.variant("FP32").evaluation.loss, rel=1e-4)
    assert variant.curvature.lambda_max.value is None
    assert "1.weight, 1.bias" in variant.curvature.reason
    assert variant.lines[0].loss == []
    assert result.comparison("Folded").sharpness_ratio is None
    assert result.comparison("Folded").verdict.level == "safe"
    assert "folded into another layer" in diagnostic.report()
    with pytest.raises(InputError, match="no dequantized weights") as refused:
        diagnostic.dequantized_state("Folded")
    assert refused.value.code == "no_dequantized_weights"


def test_the_custom_model_is_not_changed(trained: nn.Module, batches: list) -> None:
    own = copy.deepcopy(trained).train()
    with torch.no_grad():
        own[0].weight.mul_(8).round_().div_(8)
    before = copy.deepcopy(own.state_dict())
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=own)
    diagnostic.run_analysis(**QUICK)
    assert own.training
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())
    assert torch.equal(diagnostic.dequantized_state("Int8")["0.weight"], own[0].weight)


def test_two_custom_models_need_two_names(trained: nn.Module, batches: list) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=copy.deepcopy(trained))
    with pytest.raises(InputError, match="already"):
        diagnostic.add_int8_model(model_int8=copy.deepcopy(trained))


@pytest.mark.parametrize(("make", "code"), [(dynamic, "no_parameters"), (weight_only, "quantized_model")])
def test_a_quantized_model_in_place_of_the_float_one(
    trained: nn.Module, batches: list, make: object, code: str
) -> None:
    for ask in (
        lambda model: QuantDiagnostic(model, batches).run_analysis(**QUICK),
        lambda model: power_iteration(model, batches, nn.CrossEntropyLoss()),
    ):
        with pytest.raises(InputError) as refused:
            ask(make(nn.Sequential(trained[0], trained[3])))
        assert refused.value.code == code
