"""Static and FX quantization: normalisation folded into the layers before it, and taken out again."""

import copy

import pytest
import torch
import torch.ao.quantization as ao
import torch.nn.functional as F
from torch import Tensor, nn
from torch.ao.quantization.quantize_fx import convert_fx, convert_to_reference_fx, prepare_fx

from quant_lens_engine.quantization import QuantizedVariant, custom_variant

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")

ENGINES = [engine for engine in ("fbgemm", "x86", "qnnpack") if engine in torch.backends.quantized.supported_engines]


class Network(nn.Module):
    """A convolution without a bias, one in groups without γ and β behind it, a linear layer, each with its
    normalisation; and a plain layer."""

    def __init__(self, affine: bool = True) -> None:
        super().__init__()
        self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
        self.conv, self.bn, self.relu = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4, affine=affine)
        self.fc, self.bn3 = nn.Linear(64, 16), nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.conv(self.quant(x))))
        x = torch.flatten(self.bn2(self.conv2(x)), 1)
        return self.dequant(self.head(self.bn3(self.fc(x))))


class Untraceable(Network):
    """Its path depends on its values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if float(x.abs().sum()) > 0 else x


def network(kind: type[Network] = Network, **options: bool) -> Network:
    torch.manual_seed(0)
    model = kind(**options).eval()
    for norm in (model.bn, model.bn2, model.bn3):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        if norm.affine:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return model


@pytest.fixture
def x() -> Tensor:
    return torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _engine_restored():
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


def eager(model: Network, x: Tensor, engine: str) -> nn.Module:
    torch.backends.quantized.engine = engine
    quantized = ao.fuse_modules(copy.deepcopy(model), [["conv", "bn", "relu"], ["conv2", "bn2"], ["fc", "bn3"]])
    quantized.qconfig = ao.get_default_qconfig(engine)
    ao.prepare(quantized, inplace=True)
    quantized(x)
    return ao.convert(quantized, inplace=True)


def fx_prepared(model: nn.Module, x: Tensor, mapping: ao.QConfigMapping | None = None) -> nn.Module:
    torch.backends.quantized.engine = "x86"
    prepared = prepare_fx(copy.deepcopy(model), mapping or ao.get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    return prepared


def at_point(model: nn.Module, variant: QuantizedVariant, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.func.functional_call(model, variant.point, (x,))


def folded_function(model: Network, quantized: nn.Module, x: Tensor) -> Tensor:
    """What the deployed layers compute with their dequantized weights and stored biases, activations in float."""

    def weights(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
        value = layer.get_weight() if hasattr(layer, "get_weight") else layer.weight()
        bias = layer.bias() if callable(layer.bias) else layer.bias
        return value.dequantize() if value.is_quantized else value, bias

    with torch.no_grad():
        first = quantized.conv[0] if isinstance(quantized.conv, nn.Sequential) else quantized.conv
        x = F.relu(F.conv2d(x, *weights(first)))
        x = F.conv2d(x, *weights(quantized.conv2), groups=2).flatten(1)
        return F.linear(F.linear(x, *weights(quantized.fc)), *weights(quantized.head))


def assert_is_the_deployed_function(model: Network, quantized: nn.Module, variant: QuantizedVariant, x: Tensor) -> None:
    assert variant.unmapped is None
    found = at_point(model, variant, x)
    torch.testing.assert_close(found, folded_function(model, quantized, x), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        own, plain = quantized(x), model(x)
    # activations of 8 bits, three roundings deep; the bound is a twentieth of the outputs' range
    torch.testing.assert_close(own, found, rtol=0, atol=0.05 * float(plain.max() - plain.min()))
    assert not torch.equal(found, plain)


@pytest.mark.parametrize("engine", ENGINES)
def test_eager_static_with_folded_normalisation(engine: str, x: Tensor) -> None:
    model = network(affine=False)
    quantized = eager(model, x, engine)
    variant = custom_variant(model, quantized, "Int8")
    assert_is_the_deployed_function(model, quantized, variant, x)
    for norm, layer in (("bn", "conv"), ("bn3", "fc")):
        for key in ("weight", "bias"):
            assert torch.equal(variant.point[f"{norm}.{key}"], model.get_parameter(f"{norm}.{key}"))
        module = model.get_submodule(norm)
        factors = (module.weight / torch.sqrt(module.running_var + module.eps)).detach()
        stored = quantized.get_submodule(layer).weight().dequantize()
        shape = (-1, *(1,) * (stored.dim() - 1))
        torch.testing.assert_close(variant.point[f"{layer}.weight"] * factors.reshape(shape), stored)
    assert torch.equal(variant.point["conv2.bias"], model.conv2.bias)
    assert torch.equal(variant.point["head.weight"], quantized.head.weight().dequantize())
    assert [layer.name for layer in variant.layers] == ["conv", "conv2", "fc", "head"]
    assert variant.quantized_layers == 4
    assert 8 < variant.effective_bits < 9
    assert any("bn, bn2, bn3" in note for note in variant.notes)
    assert variant.size_bytes < 0.4 * sum(p.nbytes for p in model.parameters())


@pytest.mark.parametrize("engine", ENGINES)
def test_eager_static_without_folding(engine: str, x: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(ao.QuantStub(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), ao.DeQuantStub()).eval()
    model[2].running_var.uniform_(0.5, 2)
    torch.backends.quantized.engine = engine
    quantized = copy.deepcopy(model)
    quantized.qconfig = ao.get_default_qconfig(engine)
    ao.prepare(quantized, inplace=True)
    quantized(x)
    ao.convert(quantized, inplace=True)
    variant = custom_variant(model, quantized, "Int8")
    assert variant.unmapped is None
    assert [layer.name for layer in variant.layers] == ["1"]
    assert torch.equal(variant.point["1.weight"], quantized[1].weight().dequantize())
    assert torch.equal(variant.point["2.weight"], model[2].weight)
    torch.testing.assert_close(quantized(x), at_point(model, variant, x), rtol=0, atol=0.1)
    assert variant.notes == []


def test_fx(x: Tensor) -> None:
    model = network()
    prepared = fx_prepared(model, x)
    quantized, reference = convert_fx(copy.deepcopy(prepared)), convert_to_reference_fx(copy.deepcopy(prepared))
    variant = custom_variant(model, quantized, "Int8")
    assert_is_the_deployed_function(model, quantized, variant, x)
    same = custom_variant(model, reference, "Reference")
    assert same.unmapped is None
    assert all(torch.equal(same.point[name], variant.point[name]) for name in variant.point)
    assert same.effective_bits == variant.effective_bits
    assert_is_the_deployed_function(model, reference, same, x)


def test_fx_with_a_layer_left_in_float(x: Tensor) -> None:
    model = network()
    mapping = ao.get_default_qconfig_mapping("x86").set_module_name("conv2", None)
    variant = custom_variant(model, convert_fx(fx_prepared(model, x, mapping)), "Mixed")
    assert variant.unmapped is None
    assert [layer.name for layer in variant.layers] == ["conv", "fc", "head"]
    torch.testing.assert_close(variant.point["conv2.weight"], model.conv2.weight.detach(), rtol=1e-6, atol=1e-7)
    assert ("conv2", "its weight is float in the custom model") in [(s.name, s.reason) for s in variant.skipped]


def test_a_transposed_convolution(x: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(1, 4, 3), nn.BatchNorm2d(4)).eval()
    model[1].running_var.uniform_(0.5, 2)
    nn.init.normal_(model[1].weight)
    quantized = convert_fx(fx_prepared(model, x, ao.get_default_qconfig_mapping("qnnpack")))
    variant = custom_variant(model, quantized, "Int8")
    assert variant.unmapped is None
    stored = quantized.get_submodule("0").weight().dequantize()
    expected = F.conv_transpose2d(x, stored, quantized.get_submodule("0").bias())
    torch.testing.assert_close(at_point(model, variant, x), expected.detach(), rtol=1e-4, atol=1e-5)


def test_embeddings_normalisation_and_free_parameters_in_fx() -> None:
    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.norm = nn.Embedding(20, 16), nn.LayerNorm(16)
            self.positions, self.head = nn.Parameter(torch.randn(5, 16)), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.embedding(x) + self.positions)).mean(1)

    torch.manual_seed(0)
    model, tokens = Text().eval(), torch.randint(20, (64, 5))
    mapping = ao.QConfigMapping().set_global(ao.get_default_qconfig("x86"))
    mapping.set_object_type(nn.Embedding, ao.float_qparams_weight_only_qconfig)
    quantized = convert_fx(fx_prepared(model, tokens, mapping))
    variant = custom_variant(model, quantized, "Int8")
    assert variant.unmapped is None
    assert [layer.name for layer in variant.layers] == ["embedding", "head"]
    assert torch.equal(variant.point["positions"], model.positions)
    torch.testing.assert_close(quantized(tokens), at_point(model, variant, tokens), rtol=0, atol=0.05)


def test_functions_on_parameters_of_a_modules_own(x: Tensor) -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel, self.offset = nn.Parameter(torch.randn(4, 1, 3, 3)), nn.Parameter(torch.randn(4))
            self.matrix, self.head = nn.Parameter(torch.randn(16, 144)), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(F.conv2d(x, self.kernel, self.offset, [1, 1], [0, 0], [1, 1], 1)).flatten(1)
            return self.head(F.relu(F.linear(x, self.matrix)))

    torch.manual_seed(0)
    model = Functions().eval()
    quantized = convert_fx(fx_prepared(model, x))
    variant = custom_variant(model, quantized, "Int8")
    assert variant.unmapped is None
    assert {layer.parameter for layer in variant.layers} == {"kernel", "matrix", "head.weight"}
    assert torch.equal(variant.point["offset"], model.offset)
    torch.testing.assert_close(variant.point["matrix"], model.matrix.detach(), rtol=0, atol=0.05)
    plain = model(x).detach()
    bound = 0.05 * float(plain.max() - plain.min())
    torch.testing.assert_close(quantized(x), at_point(model, variant, x), rtol=0, atol=bound)


def test_a_network_that_was_trained_further_keeps_its_own_function(x: Tensor) -> None:
    model = network()
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained.bn.running_mean += 0.3
        trained.bn.running_var *= 1.5
        trained.bn.bias -= 0.1
        trained.conv2.bias += 0.2
    quantized = eager(trained, x, "fbgemm")
    variant = custom_variant(model, quantized, "Int8")
    assert_is_the_deployed_function(model, quantized, variant, x)
    assert torch.equal(variant.point["bn.weight"], model.bn.weight)
    assert not torch.equal(variant.point["bn.bias"], model.bn.bias)
    assert not torch.equal(variant.point["bn2.bias"], model.bn2.bias)
    assert torch.equal(variant.point["bn3.bias"], model.bn3.bias)
    assert any("conv, conv2 differ" in note for note in variant.notes)


def test_without_a_shift_the_difference_goes_into_the_bias(x: Tensor) -> None:
    model = network(affine=False)
    trained = copy.deepcopy(model)
    with torch.no_grad():
        trained.conv2.bias += 0.2
    quantized = eager(trained, x, "fbgemm")
    variant = custom_variant(model, quantized, "Int8")
    assert_is_the_deployed_function(model, quantized, variant, x)
    torch.testing.assert_close(variant.point["conv2.bias"], trained.conv2.bias.detach(), rtol=1e-5, atol=1e-6)


def test_a_channel_that_is_switched_off_keeps_its_weights(x: Tensor) -> None:
    model = network()
    with torch.no_grad():
        model.bn.weight[2] = 0
    quantized = eager(model, x, "fbgemm")
    variant = custom_variant(model, quantized, "Int8")
    assert torch.equal(variant.point["conv.weight"][2], model.conv.weight[2])
    assert_is_the_deployed_function(model, quantized, variant, x)


def test_a_switched_off_channel_with_weights_leaves_no_point(x: Tensor) -> None:
    model = network()
    quantized = eager(model, x, "fbgemm")
    with torch.no_grad():
        model.bn.weight[2] = 0
    assert "γ is 0" in (custom_variant(model, quantized, "Int8").unmapped or "")


def test_an_untraceable_network_is_taken_by_its_names_where_the_biases_agree(x: Tensor) -> None:
    model = network(Untraceable)
    quantized = eager(model, x, "fbgemm")
    variant = custom_variant(model, quantized, "Int8")
    assert_is_the_deployed_function(model, quantized, variant, x)
    with torch.no_grad():
        model.bn2.running_mean += 1
    assert "cannot be traced" in (custom_variant(model, quantized, "Int8").unmapped or "")


def test_normalisation_in_front_of_a_layer_leaves_no_point() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    other = nn.Sequential(nn.Identity(), copy.deepcopy(model[1]))
    assert "no 0, and no layer" in (custom_variant(model, other, "Gone").unmapped or "")


def test_what_is_prepared_for_training_leaves_no_point() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    fused = ao.fuse_modules_qat(copy.deepcopy(model).train(), [["0", "1", "2"]])
    assert "prepared for training" in (custom_variant(model, fused, "Fused").unmapped or "")
    fused.qconfig = ao.get_default_qat_qconfig("fbgemm")
    prepared = ao.prepare_qat(fused)
    assert custom_variant(model, prepared, "Prepared").unmapped is not None
