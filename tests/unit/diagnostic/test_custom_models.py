"""Quantized models of the caller's own: the model itself for its loss, its dequantized weights for curvature."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.ao.quantization import quantize_fx

from quant_lens_engine import QuantDiagnostic, power_iteration
from quant_lens_engine.curvature import top_eigenvalues
from quant_lens_engine.errors import InputError
from quant_lens_engine.figures import html_report
from quant_lens_engine.quantization import torchao_config

from .conftest import blobs

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


def with_dynamic_activations(model: nn.Module) -> nn.Module:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed, so it was not tried")
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, torchao.Int8DynamicActivationInt8WeightConfig())
    return quantized


def prepared_by_qat(model: nn.Module) -> nn.Module:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed, so it was not tried")
    qat = pytest.importorskip("torchao.quantization.qat")
    config = qat.IntxFakeQuantizeConfig(torch.int8, "per_channel")
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, qat.QATConfig(weight_config=config, step="prepare"))
    return quantized


def eager_static(model: nn.Module) -> nn.Module:
    """The network between two stubs, so that its names stay; its linear layer has its normalisation folded in."""
    ao = torch.ao.quantization
    quantized = ao.fuse_modules(copy.deepcopy(model), [["0", "1"]])
    quantized.insert(0, ao.QuantStub())
    quantized.append(ao.DeQuantStub())
    quantized.qconfig = ao.get_default_qconfig("x86")
    ao.prepare(quantized, inplace=True)
    quantized(blobs()[0])
    converted = ao.convert(quantized)

    class AtItsNames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, child in zip(("start", "0", "1", "2", "3", "end"), converted, strict=True):
                self.add_module(name, child)

        def forward(self, x: Tensor) -> Tensor:
            for child in self.children():
                x = child(x)
            return x

    return AtItsNames()


def fx_static(model: nn.Module) -> nn.Module:
    ao = torch.ao.quantization
    x = blobs()[0]
    prepared = quantize_fx.prepare_fx(copy.deepcopy(model), ao.get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    return quantize_fx.convert_fx(prepared)


def exported(model: nn.Module) -> nn.Module:
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e", reason="torchao is not installed")
    x86 = pytest.importorskip("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
    x = blobs()[0]
    batch = ({0: torch.export.Dim("batch", min=2, max=4096)},)
    graph = torch.export.export(copy.deepcopy(model), (x,), dynamic_shapes=batch).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = pt2e.prepare_pt2e(graph, quantizer)
    prepared(x)
    return pt2e.convert_pt2e(prepared)


KINDS = [dynamic, weight_only, with_dynamic_activations, prepared_by_qat, eager_static, fx_static, exported]


@pytest.mark.parametrize("make", KINDS)
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
    renamed = nn.Sequential(nn.Sequential(*copy.deepcopy(trained)))
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=renamed, name="Renamed")
    result = diagnostic.run_analysis(**QUICK)
    variant = result.variant("Renamed")
    assert variant.evaluation.loss == pytest.approx(result.variant("FP32").evaluation.loss, rel=1e-4)
    assert variant.curvature.lambda_max.value is None
    assert "no 0.weight, 0.bias, 1.weight" in variant.curvature.reason
    assert variant.lines[0].loss == []
    assert result.comparison("Renamed").sharpness_ratio is None
    assert result.comparison("Renamed").verdict.level == "safe"
    assert (variant.quantized_layers, variant.size_bytes, variant.effective_bits) == (None, None, None)
    report = " ".join(diagnostic.report().split())
    assert "under another name" in report
    assert "curvature and landscape were not measured, and size and bits are not known: its weights could not" in report
    assert "† Renamed: loss and accuracy are those of the model itself, with its own kernels; curvature and" in report
    for wrong in ("0 layers", "has not converged", "curvature and landscape are taken in the float model"):
        assert wrong not in report
    page = html_report(result)
    assert "own kernels; no curvature</small>" in page
    assert "own kernels; curvature at dequantized weights" not in page
    assert "0 layers" not in page
    assert any("could not be laid onto the float model's" in note for note in variant.notes)  # page and CSV say them


def test_beside_one_that_can_be_mapped_each_is_told_apart(trained: nn.Module, batches: list) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=nn.Sequential(nn.Sequential(*copy.deepcopy(trained))), name="Renamed")
    diagnostic.add_int8_model(model_int8=dynamic(trained), name="Dynamic")
    diagnostic.run_analysis(**QUICK)
    report = " ".join(diagnostic.report().split())
    assert "† Dynamic: loss and accuracy" in report
    assert "† Renamed: loss and accuracy" in report
    assert report.count("curvature and landscape are taken in the float model at its dequantized weights") == 1


def test_weights_that_were_not_mapped_have_no_point(trained: nn.Module, batches: list) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=nn.Sequential(nn.Sequential(*copy.deepcopy(trained))), name="Renamed")
    with pytest.raises(InputError, match="no dequantized weights") as refused:
        diagnostic.dequantized_state("Renamed")
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


def test_microscaling_in_bfloat16_beside_a_float32_network() -> None:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed, so it was not tried")

    class Network(nn.Module):
        """It computes in its weights' dtype, and answers in its input's."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.tanh(self.first(x.to(self.second.bias.dtype)))).to(x.dtype)

    torch.manual_seed(0)
    model, x = Network().eval(), torch.randn(60, 32)
    own = copy.deepcopy(model).bfloat16()
    torchao.quantize_(own, torchao_config("w8a8-mxfp8-e4m3"))
    batches = [(x, torch.randint(3, (60,)))]
    diagnostic = QuantDiagnostic(model, batches)
    diagnostic.add_int8_model(model_int8=own, name="MXFP8")
    result = diagnostic.run_analysis(**QUICK)
    variant = result.variant("MXFP8")
    assert variant.evaluation.loss == pytest.approx(float(nn.functional.cross_entropy(own(x), batches[0][1])), rel=1e-5)
    assert variant.effective_bits == 8.25
    assert variant.curvature.lambda_max.value == pytest.approx(
        result.variant("FP32").curvature.lambda_max.value, rel=0.1
    )
    assert all(value is not None for value in variant.lines[0].loss)


def test_notes_say_how_a_custom_model_was_read(trained: nn.Module, batches: list) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(model_int8=fx_static(trained))
    notes = diagnostic.run_analysis(**QUICK).variant("Int8").notes
    assert any("folded batch normalisation (1)" in note for note in notes)
