"""quantize(): which weights are rounded, which are listed as skipped, and what is counted."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantization import FakeQuantize, fake_quantize, float_variant, quantize


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def test_convolutions_count_too() -> None:
    variant = quantize(cnn(), "int2")
    assert [layer.name for layer in variant.layers] == ["0", "4"]
    assert [layer.kind for layer in variant.layers] == ["Conv2d", "Linear"]
    assert variant.quantized_layers == 2
    assert [(item.name, "vectors" in item.reason) for item in variant.skipped] == [("1", True)]


def test_sqnr_and_mse_are_those_of_the_weights() -> None:
    model = cnn()
    for layer in quantize(model, "int4").layers:
        weight = model.get_parameter(layer.parameter).detach().double()
        error = weight - fake_quantize(weight.float(), "int4").double()
        assert layer.sqnr_db == pytest.approx(20 * math.log10(float(weight.norm() / error.norm())))
        assert layer.weight_mse == pytest.approx(float(error.square().mean()))


def test_what_is_lost_nowhere_has_no_sqnr() -> None:
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]))
    layer = quantize(model, "int2").layers[0]
    assert layer.sqnr_db is None
    assert layer.weight_mse == 0


def test_tied_weights_are_rounded_once_and_count_as_two_layers() -> None:
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    model[1].weight = model[0].weight
    variant = quantize(model, "int8")
    assert list(variant.point) == ["0.weight"]
    assert len(variant.layers) == 1
    assert variant.quantized_layers == 2
    assert variant.size_bytes == 24 + 6 * 4


def test_frozen_parameters_are_rounded_and_stay_frozen() -> None:
    model = cnn()
    model[0].weight.requires_grad_(False)
    variant = quantize(model, "int3")
    assert not torch.equal(variant.point["0.weight"], model[0].weight)
    assert not model[0].weight.requires_grad
    assert model[4].weight.requires_grad


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Bilinear(2, 3, 4), "no quantizer for weight of Bilinear"),
        (nn.LayerNorm(4), "LayerNorm has only vectors"),
        (parametrizations.weight_norm(nn.Linear(3, 2)), "computed from other parameters"),
    ],
)
def test_every_other_layer_with_weights_is_listed_with_its_reason(module: nn.Module, words: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), module)
    variant = quantize(model, "int8")
    assert [item.name for item in variant.skipped] == ["1"]
    assert words in variant.skipped[0].reason


def test_a_free_parameter_is_listed() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.positions = nn.Parameter(torch.randn(1, 4, 8))
            self.head = nn.Linear(8, 2)

    (skipped,) = quantize(Positions(), "int8").skipped
    assert (skipped.name, skipped.reason) == ("(model)", "no quantizer for positions of Positions")


def test_attention_is_rounded_whole() -> None:
    variant = quantize(nn.TransformerEncoderLayer(8, 2, 16), "int4")
    names = [layer.name for layer in variant.layers]
    assert names == ["self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"]


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(SchemeError, match="no layer") as refused:
        quantize(nn.Sequential(nn.BatchNorm1d(3)), "int8")
    assert refused.value.code == "nothing_to_quantize"


def test_a_mask_of_minus_infinity_is_no_weight() -> None:
    model = nn.Linear(3, 2)
    model.register_buffer("mask", torch.full((2, 2), -math.inf))
    assert quantize(model, "int8").quantized_layers == 1


def test_the_model_comes_back_as_it_was() -> None:
    model = cnn().train()
    model(torch.randn(2, 1, 8, 8)).sum().backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    quantize(model, "int2")
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


def test_the_float_variant_is_the_model() -> None:
    model = cnn().half()
    variant = float_variant(model)
    assert variant.name == "FP32"
    assert variant.effective_bits == 16
    assert variant.requantize is None
    assert all(torch.equal(variant.point[name], parameter) for name, parameter in model.named_parameters())
    assert variant.size_bytes == sum(t.nbytes for t in (*model.parameters(), *model.buffers()))


def test_rounding_can_be_sent_to_another_process() -> None:
    model = cnn()
    variant = quantize(model, "int4-g32")
    again = pickle.loads(pickle.dumps(variant.requantize))
    weights = dict(model.named_parameters())
    assert all(torch.equal(again(weights)[name], variant.point[name]) for name in variant.point)


def test_training_through_a_parametrized_layer() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 1, bias=False)
    parametrize.register_parametrization(layer, "weight", FakeQuantize("int4"))
    x = torch.randn(64, 6)
    y = x @ torch.tensor([[1.0], [-0.5], [0.25], [0.0], [0.75], [-1.0]])
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    losses = []
    for _ in range(50):
        loss = (layer(x) - y).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.01 * losses[0]
    assert len(layer.weight.unique()) <= 15


def test_a_parametrization_rounds_what_it_is_given() -> None:
    """Tensors that share an address, a parameter written in place, replaced, or copied with its layer."""
    rounding, weight = FakeQuantize("int4"), torch.randn(64, 64)
    for factor in range(1, 7):
        moved = weight * factor
        assert torch.equal(rounding(moved), fake_quantize(moved, "int4"))
        del moved
    layer = nn.Linear(8, 4)
    parametrize.register_parametrization(layer, "weight", FakeQuantize("int4"))
    original = layer.parametrizations.weight.original

    def is_rounded(of: nn.Module) -> bool:
        return torch.equal(of.weight, fake_quantize(of.parametrizations.weight.original, "int4"))

    assert is_rounded(layer)
    with torch.no_grad():
        assert layer.weight.data_ptr() == layer.weight.data_ptr(), "not rounded again while it does not change"
        original.add_(1)
    assert is_rounded(layer)
    original.data = torch.randn(4, 8)
    assert is_rounded(layer)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        copied.parametrizations.weight.original.mul_(-2)
    assert is_rounded(copied)
    assert is_rounded(layer)
    original.data.mul_(3)
    layer.parametrizations.weight[0].forget()
    assert is_rounded(layer)
