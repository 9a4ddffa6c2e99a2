"""A scheme as torchao's configuration: quantized by torchao, the weights are ours to the bit."""

import copy
import itertools
import sys

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import InputError, SchemeError
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import (
    QuantizedVariant,
    available_schemes,
    custom_variant,
    fake_quantize,
    quantize,
    torchao_config,
)
from quant_lens_engine.schema import parse_scheme

torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed, so it was not tried")

from torchao.prototype.mx_formats import nvfp4_tensor  # noqa: E402  (torchao is optional)
from torchao.quantization.qat import QATConfig  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

FP32 = "-fp32scales"
INTEGERS = [
    *(f"int{bits}-{kind}" for bits, kind in itertools.product(range(2, 9), ("full", "asym"))),
    *(f"int{bits}-g{group}-{kind}{FP32}"
      for bits, group, kind in itertools.product((2, 3, 4, 6, 8), (32, 64), ("full", "asym"))),
    "int8-tensor-full",
]  # fmt: skip
FLOATS = ["fp8-e4m3", "fp8-e5m2", "fp8-e4m3-tensor", "fp8-e5m2-tensor", f"fp8-e4m3-g32{FP32}", f"fp8-e5m2-g64{FP32}"]
BLOCKS = ["w4a4-mxfp4", "w6a6-mxfp6-e2m3", "w6a6-mxfp6-e3m2", "w8a8-mxfp8-e4m3", "w8a8-mxfp8-e5m2"]
DYNAMIC = [
    "int8-full-act-int8-full-dynamic", "int8-full-act-int8-asym-dynamic", "int8-tensor-full-act-int8-full-dynamic",
    "int8-tensor-full-act-int8-asym-dynamic", "int8-asym-act-int8-asym-dynamic",
    f"int8-g32-full{FP32}-act-int8-asym-dynamic", "int4-full-act-int8-asym-dynamic",
    f"int4-g32-full{FP32}-act-int8-asym-dynamic", f"int2-g64-asym{FP32}-act-int8-asym-dynamic",
]  # fmt: skip
HALF_SCALES = ["int4-g32-full", "int4-g64-asym", "int8-g32-full", "int8-g32-asym", "int4-full-fp16scales"]
STATIC = ["int8-full-act-int8", "int8-full-act-int8-full", "int8-tensor-full-act-int8", "int8-full-act-int8-percentile"]


def network(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Channels of many sizes, one of one sign, one with an outlier. None is so small that it meets torchao's floors."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    with torch.no_grad():
        for layer in (model[0], model[2], model[4]):
            layer.weight *= torch.exp2(torch.randint(-4, 5, (layer.out_features, 1)).float())
            layer.weight[1].abs_()
            layer.weight[2, 3] *= 50
    return model.to(dtype).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(24, 128, generator=torch.Generator().manual_seed(1))


def by_torchao(model: nn.Module, scheme: str, calibrated: QuantizedVariant | None = None) -> nn.Module:
    duplicate = copy.deepcopy(model)
    config = torchao_config(scheme, calibrated)
    torchao.quantize_(duplicate, config, **({"filter_fn": None} if calibrated else {}))
    return duplicate


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.weight": module.weight.dequantize()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }


def ours(model: nn.Module, scheme: str, x: Tensor, rows: Objective | None = None) -> tuple[QuantizedVariant, Tensor]:
    """The variant, and what the network with rounded activations answers at its point."""
    variant = quantize(model, scheme, rows)
    assert variant.forward is not None
    with torch.no_grad(), variant.forward.around(0):
        return variant, torch.func.functional_call(variant.forward.model, variant.point, (x,))


@pytest.mark.parametrize("scheme", [*INTEGERS, *FLOATS, *DYNAMIC])
def test_weights_agree_to_the_bit(scheme: str) -> None:
    model = network()
    for name, weight in weights_of(by_torchao(model, scheme)).items():
        assert torch.equal(fake_quantize(model.get_parameter(name).detach(), scheme), weight)


@pytest.mark.parametrize("scheme", BLOCKS)
def test_block_formats_agree_to_the_bit(scheme: str) -> None:
    """In bfloat16: torchao takes these in no other dtype."""
    model = network(torch.bfloat16)
    for name, weight in weights_of(by_torchao(model, scheme)).items():
        assert torch.equal(fake_quantize(model.get_parameter(name).detach(), scheme), weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nvfp4_agrees_to_the_bit(dtype: torch.dtype) -> None:
    model = network(dtype)
    for name, weight in weights_of(by_torchao(model, "nvfp4")).items():
        assert torch.equal(fake_quantize(model.get_parameter(name).detach(), "nvfp4"), weight)


@pytest.mark.parametrize("scheme", [*INTEGERS, *FLOATS, "nvfp4"])
def test_the_exported_model_is_the_same_variant(scheme: str, x: Tensor) -> None:
    model = network()
    own = by_torchao(model, scheme)
    custom, plain = custom_variant(model, own, "torchao"), quantize(model, scheme)
    assert all(torch.equal(custom.point[name], plain.point[name]) for name in plain.point)
    assert [layer.sqnr_db for layer in custom.layers] == [layer.sqnr_db for layer in plain.layers]
    # torchao stores a zero point beside each scale of an integer format, symmetric ones included
    assert 0 <= custom.effective_bits - plain.effective_bits <= (8 / 32 if scheme.startswith("int") else 0)
    with torch.no_grad():
        answer = torch.func.functional_call(model, plain.point, (x,))
        torch.testing.assert_close(own(x), answer, rtol=1e-4, atol=1e-4 * float(answer.abs().max()))


@pytest.mark.parametrize("scheme", DYNAMIC)
def test_dynamic_activations_agree(scheme: str, x: Tensor) -> None:
    """The first layer's codes are the same; then a float32 sum in another order may send a later activation to the
    neighbouring code, one step of 1/255 of its token's range."""
    model = network()
    own = by_torchao(model, scheme)
    _, answer = ours(model[:1], scheme, x)
    torch.testing.assert_close(own[:1](x), answer, rtol=1e-5, atol=1e-6 * float(answer.abs().max()))
    _, whole = ours(model, scheme, x)
    with torch.no_grad():
        distance = (own(x) - whole).norm() / whole.norm()
        float_distance = (whole - model(x)).norm() / whole.norm()
    assert distance < 5e-3
    assert distance < float_distance


@pytest.mark.parametrize("scheme", ["int8-full-act-int8-full-tensor-dynamic", "int8-full-act-int8-asym-tensor-dynamic"])
def test_one_dynamic_scale_a_tensor_agrees_at_batch_size_one(scheme: str, x: Tensor) -> None:
    model = network()[:1]
    own = by_torchao(model, scheme)
    for row in x.split(1):
        _, answer = ours(model, scheme, row)
        torch.testing.assert_close(own(row), answer, rtol=1e-5, atol=1e-6 * float(answer.abs().max()))


@pytest.mark.parametrize("scheme", BLOCKS)
def test_block_formats_of_activations_agree(scheme: str, x: Tensor) -> None:
    """Both multiply dequantized bfloat16 matrices; 2^-8 is that dtype's rounding."""
    model = network(torch.bfloat16)[:1]
    own = by_torchao(model, scheme)
    _, answer = ours(model, scheme, x.bfloat16())
    torch.testing.assert_close(own(x.bfloat16()), answer, rtol=2.0**-8, atol=2.0**-8 * float(answer.abs().max()))


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("scheme", STATIC)
def test_static_activations_take_the_calibrated_ranges(scheme: str, axes: int, x: Tensor) -> None:
    model = network()
    inputs = x if axes == 2 else x[:, None]
    rows = Objective(model, [(inputs, torch.zeros(len(x), 16) if axes == 2 else torch.zeros(len(x), 1, 16))],
                     task="regression")  # fmt: skip
    with pytest.raises(SchemeError) as missing:
        torchao_config(scheme)
    assert missing.value.code == "needs_calibration"
    assert "quantize(model" in missing.value.hint
    variant, answer = ours(model, scheme, inputs, rows)
    own = by_torchao(model, scheme, variant)
    for name, weight in weights_of(own).items():
        assert torch.equal(variant.point[name], weight)
    first = own[:1](inputs)
    _, first_answer = ours(model[:1], scheme, inputs, rows_of(model[:1], inputs))
    if "percentile" not in scheme:
        torch.testing.assert_close(first, first_answer, rtol=1e-5, atol=1e-6 * float(first_answer.abs().max()))
    with torch.no_grad():
        assert (own(inputs) - answer).norm() / answer.norm() < 5e-3


def rows_of(model: nn.Module, x: Tensor) -> Objective:
    with torch.no_grad():
        return Objective(model, [(x, torch.zeros_like(model(x)))], task="regression")


def test_a_calibrated_variant_must_be_the_schemes_own(x: Tensor) -> None:
    model = network()
    variant = quantize(model, "int8-full-act-int8+smoothquant", rows_of(model, x))
    with pytest.raises(SchemeError, match="rounded to nearest") as refused:
        torchao_config("int8-full-act-int8", variant)
    assert refused.value.code == "no_torchao_config"


def test_skipped_layers_stay_in_float(x: Tensor) -> None:
    model = network()
    variant = quantize(model, "int8-full-act-int8+skip:head", rows_of(model, x))
    own = by_torchao(model, "int8-full-act-int8", variant)
    assert type(own[4].weight) is nn.Parameter
    assert torch.equal(own[4].weight, model[4].weight)
    assert torch.equal(own[0].weight.dequantize(), variant.point["0.weight"])


@pytest.mark.parametrize("scheme", HALF_SCALES)
def test_scales_of_fp16_agree_and_codes_nearly(scheme: str) -> None:
    """torchao multiplies with the reciprocal of the scale rounded to fp16, and takes zero points from the scale before
    it was rounded: codes differ near the edges between two, by one step. ``-fp32scales`` agrees to the bit."""
    model, parsed = network(), parse_scheme(scheme)
    own = by_torchao(model, scheme)
    for name, weight in weights_of(own).items():
        stored = own.get_parameter(name)
        assert stored.scale.dtype is torch.float16
        expected = fake_quantize(model.get_parameter(name).detach(), scheme)
        steps = (weight - expected) / stored.scale.float().repeat_interleave(parsed.group_size or weight.shape[1], 1)
        assert float(steps.abs().max()) < 1.001
        assert float((steps != 0).float().mean()) < 0.03


def test_a_group_with_a_tiny_fp16_scale_is_lost_in_torchao_alone() -> None:
    model = nn.Sequential(nn.Linear(32, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.linspace(-1, 1, 32) * 5e-5)  # scale 6.6e-6, whose reciprocal fp16 cannot hold
    theirs = by_torchao(model, "int4-g32-full")[0].weight.dequantize()
    here = fake_quantize(model[0].weight.detach(), "int4-g32-full")
    assert float((here - model[0].weight).norm() / model[0].weight.norm()) < 0.1
    assert float((theirs - model[0].weight).norm() / model[0].weight.norm()) > 0.5


def test_int8_configurations_have_a_smallest_scale() -> None:
    model = nn.Sequential(nn.Linear(32, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(2, 32) * torch.tensor([[1.0], [1e-6]]))
    theirs, here = by_torchao(model, "int8-full")[0].weight, fake_quantize(model[0].weight.detach(), "int8-full")
    assert torch.equal(theirs.dequantize()[0], here[0])
    assert not torch.equal(theirs.dequantize()[1], here[1])
    assert float(theirs.scale[1]) == torch.finfo(torch.float32).eps


def test_scales_of_bfloat16_weights_are_computed_in_bfloat16_by_torchao() -> None:
    model = network(torch.bfloat16)
    own = by_torchao(model, "int8-full")[0].weight
    weight = model[0].weight.detach()
    amax = weight.abs().amax(1, keepdim=True)
    assert torch.equal(own.scale, (amax / 127.5).float())  # a division of bfloat16 numbers
    assert not torch.equal(own.scale, amax.float() / 127.5)
    distance = (own.dequantize().float() - fake_quantize(weight, "int8-full").float()).abs()
    assert float((distance / amax).max()) < 2.0**-6


@pytest.mark.parametrize("scheme", ["w8a8-fp8-dynamic", "fp8-e4m3-tensor-act-fp8-e4m3-tensor-dynamic"])
def test_float8_activations_through_their_fake_quantizers(scheme: str, x: Tensor) -> None:
    """torchao's kernels for these need a GPU; its QAT of the same configuration runs anywhere, with the same
    definition."""
    model = network()[:1]
    own = copy.deepcopy(model)
    torchao.quantize_(own, QATConfig(torchao_config(scheme), step="prepare"))
    variant = custom_variant(model, own, "Prepared")
    assert torch.equal(variant.point["0.weight"], fake_quantize(model[0].weight.detach(), scheme))
    for row in x.split(1):
        _, answer = ours(model, scheme, row)
        torch.testing.assert_close(own(row), answer, rtol=1e-5, atol=1e-6 * float(answer.abs().max()))


@pytest.mark.parametrize("scheme", ["w4a4-nvfp4-dynamic", "w4a4-nvfp4"])
def test_nvfp4_activations_by_their_tensor(scheme: str, x: Tensor) -> None:
    """torchao's kernel needs a Blackwell GPU: its tensor is dequantized, and the product taken here."""
    model = network()[:1]
    config = torchao_config(scheme)
    assert config.use_dynamic_per_tensor_scale == ("dynamic" in scheme)
    if "dynamic" not in scheme:
        own = by_torchao(model, scheme)
        own(x)
        torchao.quantize_(own, type(config)(use_triton_kernel=False, step="convert"))
        assert torch.equal(own[0].weight.dequantize(), fake_quantize(model[0].weight.detach(), "nvfp4"))
        scale = own[0].weight.act_per_tensor_scale
        _, answer = ours(model, scheme, x, rows_of(model, x))
        rounded = nvfp4_tensor.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale).dequantize()
    else:
        x = x[:1]  # one scale a batch there, one a row here
        scale = nvfp4_tensor.per_tensor_amax_to_scale(x.abs().max())
        rounded = nvfp4_tensor.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale).dequantize()
        _, answer = ours(model, scheme, x)
    expected = nn.functional.linear(rounded, fake_quantize(model[0].weight.detach(), "nvfp4"), model[0].bias)
    torch.testing.assert_close(answer, expected.detach(), rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_static_float8_is_written_though_no_kernel_is_here(x: Tensor) -> None:
    model = network()
    config = torchao_config("w8a8-fp8-tensor", quantize(model, "w8a8-fp8-tensor", rows_of(model, x)))
    first = config.fqn_to_config["0"]
    assert type(first).__name__ == "Float8StaticActivationFloat8WeightConfig"
    assert float(first.act_quant_scale) == pytest.approx(float(x.abs().max()) / 448)


def test_square_tiles_of_float8_and_kernels() -> None:
    config = torchao_config("fp8-e4m3-b128-act-fp8-e4m3-g128-dynamic-fp32scales")
    assert [list(part.block_size) for part in config.granularity] == [[1, 128], [128, 128]]
    assert torchao_config("w4a4-mxfp4").kernel_preference.value == "emulated"
    assert torchao_config("w4a4-mxfp4", emulated=False).kernel_preference.value == "auto"
    assert torchao_config("w4a4-nvfp4-dynamic", emulated=False).use_triton_kernel


NO_TWIN = {
    "int8": ("narrow", "int8-full"),
    "int4-g128": ("narrow", "int4-g128-full"),
    "int16": ("16 bits", "int8-full"),
    "int4-tensor-full": ("whole tensor", "int4-full"),
    "int8-tensor-asym": ("whole tensor", "int8-asym"),
    "int4-b32-asym": ("square tile", "int4-g32-asym-fp32scales"),
    "int4-g32-full-e8m0scales": ("powers of two", "int4-g32-full-fp32scales"),
    "nf4-g64": ("codebook", "int4-g64-full"),
    "codebook[-1:0:1]": ("codebook", "int4-full"),
    "fp8-e4m3-g128": ("fp32", "fp8-e4m3-g128-fp32scales"),
    "fp8-e4m3-b128": ("square tile", "fp8-e4m3-g128-fp32scales"),
    "mxfp4": ("stay in float", "w4a4-mxfp4"),
    "mxint8": ("MXINT8", "w8a8-mxfp8-e4m3"),
    "nvfp4-act-fp8-e4m3-dynamic": ("activations are fp8", "w4a4-nvfp4-dynamic"),
    "w4a4-nvfp4-percentile": ("percentile", "w4a4-nvfp4"),
    "w8a8-dynamic": ("narrow", "int8-full-act-int8-full-dynamic"),
    "w8a8": ("narrow", "w8a8-full"),
    "int8-full-act-int8-sym": ("activations have a narrow range", "int8-full-act-int8-full"),
    "int4-full-act-int8-full-dynamic": ("activations are int8-full-dynamic", "int4-full-act-int8-asym-dynamic"),
    "int4-full-act-int4-dynamic": ("activations are int4", "int4-full-act-int8-asym-dynamic"),
    "int4-full-act-fp8-e4m3-dynamic": ("activations are fp8", "int4-full-act-int8-asym-dynamic"),
    "w8a8-fp8": ("other shapes", "w8a8-fp8-tensor"),
    "fp8-e4m3-act-int8-dynamic": ("activations are int8", "w8a8-fp8-dynamic"),
    "w8a8-dynamic-kv8": ("keys and values", "int8-full-act-int8-full-dynamic"),
    "w8a8-dynamic-attn": ("attention", "int8-full-act-int8-full-dynamic"),
    "w16a8": ("weights stay in float", "w8a8-full"),
}


@pytest.mark.parametrize("scheme", NO_TWIN)
def test_what_torchao_does_not_have_is_named_with_the_nearest_that_it_has(scheme: str) -> None:
    words, nearest = NO_TWIN[scheme]
    with pytest.raises(SchemeError, match=words) as refused:
        torchao_config(scheme)
    assert refused.value.code == "no_torchao_config"
    assert refused.value.details["nearest"] == nearest
    assert refused.value.details["scheme"] == parse_scheme(scheme).name
    assert nearest in refused.value.hint


@pytest.mark.parametrize("scheme", [facts.name for facts in available_schemes()])
def test_every_scheme_on_offer_has_a_configuration_or_a_nearest_one(scheme: str) -> None:
    refused = refusal(scheme)
    if refused is None:
        assert type(torchao_config(scheme)).__name__.endswith("Config")
        return
    assert refused.code == "no_torchao_config"
    nearest = refusal(refused.details["nearest"])
    assert nearest is None or nearest.code == "needs_calibration"


def refusal(scheme: str) -> SchemeError | None:
    try:
        torchao_config(scheme)
    except SchemeError as error:
        return error
    return None


def test_without_torchao_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(InputError, match="torchao") as refused:
        torchao_config("int8-full")
    assert refused.value.code == "torchao_not_installed"
    assert "pip install" in refused.value.hint
