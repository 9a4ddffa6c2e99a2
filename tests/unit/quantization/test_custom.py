"""Models that other libraries quantized."""

import copy
import warnings

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.quantization import custom_variant

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def dynamic(model: nn.Module, kinds: set[type[nn.Module]], dtype: torch.dtype = torch.qint8) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, kinds, dtype=dtype)


def randomize(model: nn.Module) -> None:
    """Statistics, slopes and shifts as training leaves them, rather than 0 and 1."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)


def test_quantize_dynamic_gives_back_its_dequantized_weights() -> None:
    model = mlp()
    quantized = dynamic(model, {nn.Linear})
    variant = custom_variant(model, quantized, "Int8")
    assert variant.unmapped is None
    assert variant.own_model is quantized
    assert variant.requantize is None
    for index in (0, 2):
        assert torch.equal(variant.point[f"{index}.weight"], quantized[index].weight().dequantize())
        assert torch.equal(variant.point[f"{index}.bias"], model[index].bias)
    assert variant.quantized_layers == 2
    assert variant.effective_bits == pytest.approx(8 + 2 * 40 / (8 * 16 + 16 * 4))
    assert all(35 < layer.sqnr_db < 50 for layer in variant.layers)
    assert variant.size_bytes < 0.5 * sum(p.nbytes for p in model.parameters())


def test_quantize_dynamic_of_a_recurrent_network() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, 8)
            self.rnn = nn.LSTM(8, 4, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(self.embedding(x))[0][:, -1])

    torch.manual_seed(0)
    model = Recurrent().eval()
    quantized = dynamic(model, {nn.Linear, nn.LSTM})
    variant = custom_variant(model, quantized, "Int8")
    assert variant.unmapped is None
    assert {layer.name for layer in variant.layers} == {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "head"}
    assert ("embedding", "its weight is float in the custom model") in [(s.name, s.reason) for s in variant.skipped]
    tokens = torch.randint(10, (5, 7))
    at_point = torch.func.functional_call(model, variant.point, (tokens,))
    torch.testing.assert_close(at_point, quantized(tokens), atol=0.02, rtol=0)


def test_dynamic_float16_weights() -> None:
    model = mlp()
    variant = custom_variant(model, dynamic(model, {nn.Linear}, torch.float16), "Half")
    assert torch.equal(variant.point["0.weight"], model[0].weight.half().float())
    assert variant.effective_bits == 16


@pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "IntxWeightOnlyConfig", "Float8WeightOnlyConfig"])
def test_torchao_gives_back_its_dequantized_weights(config: str) -> None:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed, so it was not tried")
    model = mlp()
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, getattr(torchao, config)())
    variant = custom_variant(model, quantized, "torchao")
    assert variant.unmapped is None
    x = torch.randn(32, 8)
    at_point = torch.func.functional_call(model, variant.point, (x,))
    torch.testing.assert_close(at_point, quantized(x), atol=0.05, rtol=0.05)
    assert not torch.equal(at_point, model(x))
    assert type(variant.point["0.weight"]) is torch.Tensor
    assert 8 < variant.effective_bits < 16
    assert variant.quantized_layers == 2


def test_normalisation_that_was_folded_in_float_is_taken_out_again() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)).eval()
    randomize(model)
    folded = copy.deepcopy(model)
    folded[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(model[0], model[1])
    folded[1] = nn.Identity()
    variant = custom_variant(model, folded, "Folded")
    assert variant.unmapped is None
    assert variant.own_model is folded
    assert variant.quantized_layers == 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(variant.point[name], parameter.detach(), rtol=1e-6, atol=1e-6)
    assert variant.size_bytes == sum(p.nbytes for p in folded.parameters())


def test_other_running_statistics_leave_no_point() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    other = copy.deepcopy(model)
    other[1].running_mean += 1
    assert "1.running_mean" in (custom_variant(model, other, "Other").unmapped or "")


def test_other_shapes_leave_no_point() -> None:
    narrow = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    assert "0.weight has the shape (12, 8)" in (custom_variant(mlp(), narrow, "Narrow").unmapped or "")


def test_a_layer_that_fake_quantizes_its_float_weights_leaves_no_point() -> None:
    class RoundedLinear(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, (self.weight * 4).round() / 4, self.bias)

    model = mlp()
    other = copy.deepcopy(model)
    other[0] = RoundedLinear(8, 16)
    assert "RoundedLinear" in (custom_variant(model, other, "Own").unmapped or "")


def test_one_tensor_that_became_two_leaves_no_point() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(6, 4)
            self.head = nn.Linear(4, 6, bias=False)
            self.head.weight = self.embedding.weight

    model = Tied().eval()
    quantized = dynamic(model, {nn.Linear})
    assert "embedding.weight and head.weight" in (custom_variant(model, quantized, "Int8").unmapped or "")
    assert custom_variant(model, copy.deepcopy(model), "Copy").size_bytes == 6 * 4 * 4


def test_embeddings_are_counted_as_they_are_packed() -> None:
    model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 3)).eval()
    configs = torch.ao.quantization
    for config, bits in ((configs.float_qparams_weight_only_qconfig, 8),
                         (configs.float_qparams_weight_only_qconfig_4bit, 4)):  # fmt: skip
        quantized = configs.quantize_dynamic(model, {nn.Embedding: config})
        variant = custom_variant(model, quantized, f"Int{bits}")
        assert variant.unmapped is None
        assert torch.equal(variant.point["0.weight"], quantized[0].weight().dequantize())
        assert variant.effective_bits == bits + 64 / 16  # an fp32 scale and an fp32 zero point a row
        assert variant.size_bytes == 20 * 16 * bits // 8 + 20 * 8 + (16 * 3 + 3) * 4


def test_broken_weights_are_named() -> None:
    model, broken = mlp(), mlp()
    with torch.no_grad():
        broken[2].weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"2\.weight"):
        custom_variant(model, broken, "Broken")
