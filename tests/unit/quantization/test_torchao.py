"""Models that torchao quantized, or prepared for QAT, as variants."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import CheckpointError, InputError
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import QuantizedVariant, custom_variant

torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed, so it was not tried")
qat = pytest.importorskip("torchao.quantization.qat")
mx = pytest.importorskip("torchao.prototype.mx_formats")

from torchao.prototype.mx_formats.config import ScaleCalculationMode  # noqa: E402  (torchao is optional)
from torchao.quantization import MappingType, PerAxis, PerGroup, PerRow, PerTensor  # noqa: E402
from torchao.quantization.quantize_.common import KernelPreference  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

WIDTH = 64


class Network(nn.Module):
    """Two linear layers; it computes in its weights' dtype, and answers in its input's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x.to(self.second.bias.dtype)))).to(x.dtype)


def network() -> Network:
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(1))


def quantized(model: nn.Module, config: Any, dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    duplicate = copy.deepcopy(model).to(dtype)
    torchao.quantize_(duplicate, config, **options)
    return duplicate


def at_point(model: nn.Module, variant: QuantizedVariant, x: Tensor) -> Tensor:
    assert variant.unmapped is None
    with torch.no_grad():
        return torch.func.functional_call(model, variant.point, (x,))


def intx(bits: int, **options: Any) -> Any:
    return torchao.IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), **options)


def dynamic_intx(**options: Any) -> Any:
    return torchao.Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, **options)


def in_blocks(element: torch.dtype | str, mode: ScaleCalculationMode = ScaleCalculationMode.FLOOR) -> Any:
    return mx.MXDynamicActivationMXWeightConfig(
        activation_dtype=element, weight_dtype=element, scaling_mode=mode, kernel_preference=KernelPreference.EMULATED
    )


ASYMMETRIC = MappingType.ASYMMETRIC
HQQ = {"intx_choose_qparams_algorithm": "hqq_scale_only"}
FIRST, SECOND = 64 * 32, 32 * 16
ROWS = (32 + 16) / (FIRST + SECOND)
"""Scales a weight, one a row."""

WEIGHT_ONLY: dict[str, tuple[Callable[[], Any], float]] = {  # and the effective bits
    "int8": (lambda: torchao.Int8WeightOnlyConfig(), 8 + 40 * ROWS),
    "int8-tensor": (lambda: torchao.Int8WeightOnlyConfig(granularity=PerTensor()), 8 + 2 * 40 / (FIRST + SECOND)),
    "int8-g32": (lambda: torchao.Int8WeightOnlyConfig(granularity=PerGroup(32)), 8 + 40 / 32),
    **{f"int{bits}": (lambda bits=bits: intx(bits), bits + (32 + bits) * ROWS) for bits in range(1, 9)},
    "int4-g32": (lambda: intx(4, granularity=PerGroup(32)), 4 + 36 / 32),
    "int4-g32-asym": (lambda: intx(4, granularity=PerGroup(32), mapping_type=ASYMMETRIC), 4 + 36 / 32),
    "int4-no-clipping": (lambda: intx(4, mapping_type=MappingType.SYMMETRIC_NO_CLIPPING_ERR), 4 + 36 * ROWS),
    "int4-g32-fp16": (lambda: intx(4, granularity=PerGroup(32), scale_dtype=torch.float16), 4 + 20 / 32),
    "int4-hqq": (lambda: intx(4, granularity=PerGroup(32), **HQQ), 4 + 36 / 32),
    "fp8-e4m3": (lambda: torchao.Float8WeightOnlyConfig(), 8 + 32 * ROWS),
    "fp8-e5m2": (lambda: torchao.Float8WeightOnlyConfig(weight_dtype=torch.float8_e5m2), 8 + 32 * ROWS),
    "fp8-tensor": (lambda: torchao.Float8WeightOnlyConfig(granularity=PerTensor()), 8 + 2 * 32 / (FIRST + SECOND)),
    "fp8-g32": (lambda: torchao.Float8WeightOnlyConfig(granularity=PerGroup(32)), 8 + 32 / 32),
    "nvfp4": (lambda: mx.NVFP4WeightOnlyConfig(), 4 + 8 / 16 + 2 * 32 / (FIRST + SECOND)),
    "nvfp4-one-level": (lambda: mx.NVFP4WeightOnlyConfig(use_dynamic_per_tensor_scale=False), 4 + 8 / 16),
}  # fmt: skip

STATIC = {"act_quant_scale": torch.full((1, 1), 0.03), "granularity": [PerTensor(), PerRow()]}
WITH_ACTIVATIONS: dict[str, Callable[[], Any]] = {
    "int8": lambda: torchao.Int8DynamicActivationInt8WeightConfig(),
    "int8-asym": lambda: torchao.Int8DynamicActivationInt8WeightConfig(act_mapping_type=ASYMMETRIC),
    "int8-tensor": lambda: torchao.Int8DynamicActivationInt8WeightConfig(granularity=PerTensor()),
    "int8-reduced": lambda: torchao.Int8DynamicActivationInt8WeightConfig(reduce_range=True),
    "int8-static": lambda: torchao.Int8StaticActivationInt8WeightConfig(**STATIC),
    "int8-static-asym": lambda: torchao.Int8StaticActivationInt8WeightConfig(
        **STATIC, act_quant_zero_point=torch.full((1, 1), -3, dtype=torch.int8), act_mapping_type=ASYMMETRIC
    ),
    "int4": lambda: dynamic_intx(),
    "int4-asym": lambda: dynamic_intx(weight_mapping_type=ASYMMETRIC, weight_granularity=PerAxis(0)),
}
BLOCK_FORMATS = {  # element, and bits with the scale
    "mxfp4": (torch.float4_e2m1fn_x2, 4.25), "mxfp6-e2m3": ("fp6_e2m3", 6.25), "mxfp6-e3m2": ("fp6_e3m2", 6.25),
    "mxfp8-e4m3": (torch.float8_e4m3fn, 8.25), "mxfp8-e5m2": (torch.float8_e5m2, 8.25),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHT_ONLY)
def test_weights_only(name: str, x: Tensor) -> None:
    make, bits = WEIGHT_ONLY[name]
    model = network()
    own = quantized(model, make())
    variant = custom_variant(model, own, name)
    torch.testing.assert_close(at_point(model, variant, x), own(x), rtol=1e-4, atol=1e-5)
    for layer in ("first", "second"):
        assert torch.equal(variant.point[f"{layer}.weight"], own.get_submodule(layer).weight.dequantize())
        assert torch.equal(variant.point[f"{layer}.bias"], model.get_submodule(layer).bias)
        assert type(variant.point[f"{layer}.weight"]) is Tensor
    assert variant.effective_bits == pytest.approx(bits)
    assert variant.size_bytes == pytest.approx(bits * (FIRST + SECOND) / 8 + 4 * (32 + 16), abs=1)
    assert [layer.name for layer in variant.layers] == ["first", "second"]
    narrow = name.startswith("int") and int(name[3]) < 8
    assert any("kept in a byte" in note for note in variant.notes) == narrow


@pytest.mark.parametrize("name", WITH_ACTIVATIONS)
def test_weights_and_activations(name: str, x: Tensor) -> None:
    model = network()
    own = quantized(model, WITH_ACTIVATIONS[name]())
    variant = custom_variant(model, own, name)
    found = at_point(model, variant, x)
    torch.testing.assert_close(own(x), found, rtol=0, atol=0.02)  # activations of 8 bits
    assert not torch.equal(own(x), found)
    assert torch.equal(variant.point["first.weight"], own.first.weight.dequantize())
    assert 4 < variant.effective_bits < 9
    plain = custom_variant(model, quantized(model, torchao.Int8WeightOnlyConfig(granularity=PerRow())), "weights")
    if name.startswith("int8-static"):  # what activations need is no part of the weights' bits
        assert variant.effective_bits == plain.effective_bits


@pytest.mark.parametrize("mode", [ScaleCalculationMode.FLOOR, ScaleCalculationMode.RCEIL])
@pytest.mark.parametrize("name", BLOCK_FORMATS)
def test_microscaling_in_emulation(name: str, mode: ScaleCalculationMode, x: Tensor) -> None:
    element, bits = BLOCK_FORMATS[name]
    model = network()
    own = quantized(model, in_blocks(element, mode), torch.bfloat16)
    variant = custom_variant(model, own, name)
    found = at_point(model, variant, x)
    assert torch.equal(variant.point["first.weight"], own.first.weight.dequantize().float())
    assert torch.equal(variant.point["first.bias"], own.first.bias.float())
    assert variant.effective_bits == bits
    relative = float((own(x) - found).norm() / found.norm())
    assert 0 < relative < {"mxfp4": 0.3, "mxfp6-e2m3": 0.06, "mxfp6-e3m2": 0.1}.get(name, 0.12)
    assert any("kept in a byte" in note for note in variant.notes) == ("fp6" in name)


def test_nvfp4_after_calibration_has_a_point_and_no_kernel_here(x: Tensor) -> None:
    model = network()
    own = quantized(model, mx.NVFP4DynamicActivationNVFP4WeightConfig(use_triton_kernel=False, step="prepare"))
    assert "NVFP4ObservedLinear" in (custom_variant(model, own, "Observed").unmapped or "")
    own(x)
    torchao.quantize_(own, mx.NVFP4DynamicActivationNVFP4WeightConfig(use_triton_kernel=False, step="convert"))
    variant = custom_variant(model, own, "NVFP4")
    assert variant.unmapped is None
    assert variant.effective_bits == pytest.approx(4.5 + 2 * 32 / (FIRST + SECOND))
    assert torch.equal(variant.point["first.weight"], own.first.weight.dequantize())
    if not torch.cuda.is_available():
        assert_cannot_run(model, own, x)


def test_a_kernel_that_this_machine_does_not_have_is_a_typed_error(x: Tensor) -> None:
    if torch.cuda.is_available():
        pytest.skip("a machine with a GPU may have the kernel")
    config = in_blocks(torch.float8_e4m3fn)
    config.kernel_preference = KernelPreference.AUTO
    model = network()
    own = quantized(model, config, torch.bfloat16)
    assert custom_variant(model, own, "MX").unmapped is None
    assert_cannot_run(model, own, x)


def assert_cannot_run(model: nn.Module, own: nn.Module, x: Tensor) -> None:
    objective = Objective(model, [(x, torch.arange(len(x)) % 16)])
    objective.loss()
    with pytest.raises(InputError, match="cannot be run here") as refused:
        objective.measure(own_model=own)
    assert refused.value.code == "custom_model_fails"
    assert "device" in refused.value.hint


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchao.Int4WeightOnlyConfig(group_size=32),
        lambda: torchao.Float8DynamicActivationFloat8WeightConfig(),
        lambda: torchao.Float8DynamicActivationInt4WeightConfig(),
        lambda: mx.NVFP4DynamicActivationNVFP4WeightConfig(use_triton_kernel=False),
    ],
)
def test_configurations_that_torchao_refuses_on_this_cpu(make: Callable[[], Any]) -> None:
    """They never become a model that could be brought: the day one does, it belongs into the lists above."""
    if torch.cuda.is_available():
        pytest.skip("a machine with a GPU may have the kernel")
    with pytest.raises((AssertionError, ImportError, NotImplementedError, RuntimeError)):
        quantized(network(), make(), torch.bfloat16)


def test_a_factor_moved_out_of_the_activations_is_part_of_the_weight(x: Tensor) -> None:
    """SmoothQuant and AWQ in torchao: the layer computes W·diag(f)·x."""
    model = network()
    own = quantized(model, torchao.Int8WeightOnlyConfig())
    factor = torch.rand(WIDTH, generator=torch.Generator().manual_seed(2)) + 0.5
    own.first.weight.act_pre_scale = factor
    variant = custom_variant(model, own, "Smoothed")
    assert torch.equal(variant.point["first.weight"], own.first.weight.dequantize() * factor)
    torch.testing.assert_close(at_point(model, variant, x), own(x), rtol=1e-4, atol=1e-5)
    assert variant.effective_bits == pytest.approx(8 + 40 * ROWS)


def test_embeddings_and_convolutions() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 32), nn.Linear(32, 4)).eval()
    tokens = torch.randint(20, (6, 5))
    own = quantized(
        model, intx(4, granularity=PerGroup(32)), filter_fn=lambda module, _: isinstance(module, nn.Embedding)
    )
    variant = custom_variant(model, own, "Int4")
    assert [layer.name for layer in variant.layers] == ["0"]
    torch.testing.assert_close(at_point(model, variant, tokens), own(tokens))

    image = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)).eval()
    own = quantized(image, intx(4), filter_fn=lambda module, _: isinstance(module, nn.Conv2d))
    variant = custom_variant(image, own, "Int4")
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(at_point(image, variant, x), own(x), rtol=1e-4, atol=1e-5)
    assert variant.effective_bits == 4 + 36 / 4  # torchao has one scale for each input position's 4 channels


def test_a_dead_channel_is_nan_in_torchao_and_named() -> None:
    model = network()
    with torch.no_grad():
        model.first.weight[3] = 0
    with pytest.raises(CheckpointError, match=r"first\.weight"):
        custom_variant(model, quantized(model, torchao.Float8WeightOnlyConfig()), "FP8")


QAT: dict[str, tuple[Callable[[], Any], torch.dtype]] = {
    "int4": (lambda: intx(4), torch.float32),
    "int4-g32": (lambda: intx(4, granularity=PerGroup(32)), torch.float32),
    "int2-g32": (lambda: intx(2, granularity=PerGroup(32)), torch.float32),
    "int8-act-int4": (lambda: dynamic_intx(), torch.float32),
    "mxfp4": (lambda: in_blocks(torch.float4_e2m1fn_x2), torch.bfloat16),
    "mxfp8": (lambda: in_blocks(torch.float8_e4m3fn), torch.bfloat16),
}


@pytest.mark.parametrize("name", QAT)
def test_prepared_by_qat_and_then_converted(name: str, x: Tensor) -> None:
    make, dtype = QAT[name]
    model = network()
    own = quantized(model, qat.QATConfig(make(), step="prepare"), dtype)
    prepared = custom_variant(model, own, "Prepared")
    found = at_point(model, prepared, x)
    tolerance = 1e-5 if name.startswith(("int4", "int2")) else 0.02 if name.startswith("int8") else 0.3
    torch.testing.assert_close(own(x), found, rtol=0, atol=tolerance)
    assert prepared.quantized_layers == 2
    assert any("prepared for QAT" in note for note in prepared.notes)

    torchao.quantize_(own, qat.QATConfig(make(), step="convert"))
    converted = custom_variant(model, own, "Converted")
    assert all(torch.equal(converted.point[key], prepared.point[key]) for key in prepared.point)
    assert converted.effective_bits == pytest.approx(prepared.effective_bits)
    assert converted.size_bytes == prepared.size_bytes


def intx_fake(bits: str, **options: Any) -> Any:
    return qat.IntxFakeQuantizeConfig(getattr(torch, bits), **options)


FAKE_QUANTIZERS: dict[str, tuple[Callable[[], Any], float]] = {
    "int4-g16": (lambda: intx_fake("int4", group_size=16), 4 + 36 / 16),
    "int8": (lambda: intx_fake("int8", granularity="per_channel"), 8 + 40 * ROWS),
    "uint4-asym": (lambda: intx_fake("uint4", granularity="per_channel", is_symmetric=False), 4 + 36 * ROWS),
    "int4-bf16-scales": (lambda: intx_fake("int4", group_size=32, scale_precision=torch.bfloat16), 4 + 20 / 32),
    "int4-learned": (lambda: intx_fake("int4", group_size=32, is_dynamic=False, range_learning=True), 4 + 36 / 32),
    "fp8": (lambda: qat.Float8FakeQuantizeConfig(torch.float8_e4m3fn, PerRow()), 8 + 32 * ROWS),
    "fp8-tensor": (lambda: qat.Float8FakeQuantizeConfig(torch.float8_e5m2, PerTensor()), 8 + 64 / (FIRST + SECOND)),
    "int4-of-a-kernel": (
        lambda: qat.fake_quantize_config.Int4WeightFakeQuantizeConfig(group_size=32, activation_dtype=torch.bfloat16),
        4 + 36 / 32,
    ),
}


@pytest.mark.parametrize("name", FAKE_QUANTIZERS)
def test_fake_quantizers_of_weights(name: str, x: Tensor) -> None:
    make, bits = FAKE_QUANTIZERS[name]
    model = network()
    own = quantized(model, qat.QATConfig(weight_config=make(), step="prepare"))
    if "learned" in name:
        qat.initialize_fake_quantizers(own, (x,))
        with torch.no_grad():
            own.first.weight_fake_quantizer.scale *= 0.8
    before = {key: value.clone() for key, value in own.state_dict().items()}
    variant = custom_variant(model, own, name)
    torch.testing.assert_close(at_point(model, variant, x), own(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(variant.point["first.weight"], own.first.weight_fake_quantizer(own.first.weight))
    assert not torch.equal(variant.point["first.weight"], model.first.weight)
    assert variant.effective_bits == pytest.approx(bits)
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())


def test_a_fake_quantizer_is_left_as_it_was() -> None:
    model = network()
    own = quantized(model, qat.QATConfig(weight_config=intx_fake("int4", group_size=16), step="prepare"))
    custom_variant(model, own, "Prepared")
    assert own.first.weight_fake_quantizer.scale is None


def test_a_fake_quantizer_that_is_switched_off_rounds_nothing(x: Tensor) -> None:
    model = network()
    own = quantized(model, qat.QATConfig(weight_config=intx_fake("int4", group_size=16), step="prepare"))
    own.apply(qat.linear.disable_linear_fake_quant)
    variant = custom_variant(model, own, "Off")
    assert variant.quantized_layers == 0
    assert variant.effective_bits is None
    assert torch.equal(at_point(model, variant, x), own(x))


def test_embeddings_prepared_by_qat() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 32), nn.Linear(32, 4)).eval()
    tokens = torch.randint(20, (6, 5))
    config = qat.QATConfig(weight_config=intx_fake("int4", group_size=32), step="prepare")
    own = quantized(model, config, filter_fn=lambda module, _: isinstance(module, nn.Embedding | nn.Linear))
    variant = custom_variant(model, own, "Prepared")
    assert [layer.kind for layer in variant.layers] == ["Embedding", "Linear"]
    torch.testing.assert_close(at_point(model, variant, tokens), own(tokens))


@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_the_older_quantizers_prepared_and_converted(kind: str, x: Tensor) -> None:
    if kind == "linear":
        model: nn.Module = network()
        quantizer, inputs = qat.Int8DynActInt4WeightQATQuantizer(groupsize=32), x
    else:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(20, 32), nn.Linear(32, 4)).eval()
        quantizer, inputs = qat.Int4WeightOnlyEmbeddingQATQuantizer(group_size=32), torch.randint(20, (6, 5))
    own = quantizer.prepare(copy.deepcopy(model))
    prepared = custom_variant(model, own, "Prepared")
    torch.testing.assert_close(own(inputs), at_point(model, prepared, inputs), rtol=0, atol=0.02)
    own = quantizer.convert(own)
    converted = custom_variant(model, own, "Converted")
    torch.testing.assert_close(own(inputs), at_point(model, converted, inputs), rtol=0, atol=0.02)
    assert all(torch.equal(converted.point[key], prepared.point[key]) for key in prepared.point)
    assert converted.effective_bits == 4 + 36 / 32
    assert any("kept in a byte" in note for note in converted.notes)


def test_attention_that_torchao_quantized() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    own = quantized(model, intx(4))
    variant = custom_variant(model, own, "Int4")
    assert {layer.name for layer in variant.layers} >= {"linear1", "linear2"}
    x = torch.randn(2, 5, 16)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        torch.testing.assert_close(at_point(model, variant, x), own(x), rtol=1e-4, atol=1e-5)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_a_fake_quantizer_that_attention_passes_by_rounds_nothing() -> None:
    """``nn.MultiheadAttention`` reads its output projection's weight, and never calls the layer."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    config = qat.QATConfig(weight_config=intx_fake("int2", group_size=16), step="prepare")
    own = quantized(model, config, filter_fn=lambda module, _: isinstance(module, nn.Linear))
    assert type(own.self_attn.out_proj) is qat.FakeQuantizedLinear
    variant = custom_variant(model, own, "Prepared")
    assert [layer.name for layer in variant.layers] == ["linear1", "linear2"]
    x = torch.randn(2, 5, 16)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        torch.testing.assert_close(at_point(model, variant, x), own(x), rtol=1e-4, atol=1e-5)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
