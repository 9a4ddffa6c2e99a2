"""Graphs that PT2E converted, as variants."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import InputError
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import QuantizedVariant, custom_variant

pt2e = pytest.importorskip(
    "torchao.quantization.pt2e.quantize_pt2e", reason="torchao is not installed, so PT2E was not tried"
)

from torchao.quantization.pt2e import move_exported_model_to_eval  # noqa: E402  (torchao is optional)
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86  # noqa: E402
from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 3, bias=bias), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = Block(1, 4, bias=False), Block(4, 4, bias=True)
        self.fc, self.drop, self.head = nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(torch.relu(self.fc(torch.flatten(self.b(self.a(x)), 1)))))


@pytest.fixture
def model() -> Network:
    torch.manual_seed(0)
    network = Network().eval()
    for norm in (network.a.bn, network.b.bn):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return network


@pytest.fixture
def x() -> Tensor:
    return torch.randn(48, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def exported(model: nn.Module, x: Tensor, *, train: bool = False, dynamic: bool = True) -> nn.Module:
    batch = ({0: torch.export.Dim("batch", min=2, max=4096)},) if dynamic else None
    return torch.export.export(copy.deepcopy(model).train(train), (x,), dynamic_shapes=batch).module()


def converted(model: nn.Module, x: Tensor, quantizer: Any, **options: Any) -> nn.Module:
    prepared = pt2e.prepare_pt2e(exported(model, x), quantizer)
    prepared(x)
    return pt2e.convert_pt2e(prepared, **options)


def for_x86(**options: bool) -> Any:
    return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(**options))


def for_xnnpack(**options: Any) -> Any:
    return xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(**options))


def at_point(model: nn.Module, variant: QuantizedVariant, x: Tensor) -> Tensor:
    assert variant.unmapped is None
    with torch.no_grad():
        return torch.func.functional_call(model, variant.point, (x,))


def stored_weights(graph: nn.Module) -> list[Tensor]:
    """The dequantized constants of a graph, in the order of its layers, by the graph's own operators."""
    found = []

    class Watching(torch.fx.Interpreter):
        def run_node(self, node: torch.fx.Node) -> Any:
            value = super().run_node(node)
            if str(node.target).startswith(("aten.conv2d", "aten.linear")):
                found.append(self.env[node.args[1]])
            return value

    Watching(graph).run(torch.zeros(2, 1, 8, 8), enable_io_processing=False)
    return found


QUANTIZERS: dict[str, Callable[[], Any]] = {
    "x86": for_x86,
    "x86-dynamic": lambda: for_x86(is_dynamic=True),
    "xnnpack": lambda: for_xnnpack(is_per_channel=True),
    "xnnpack-tensor": lambda: for_xnnpack(is_per_channel=False),
    "xnnpack-int4": lambda: for_xnnpack(is_per_channel=True, weight_qmin=-8, weight_qmax=7),
}
ALL_LAYERS = ["a.conv", "b.conv", "fc", "head"]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_converted_graphs(name: str, model: Network, x: Tensor) -> None:
    graph = converted(model, x, QUANTIZERS[name]())
    variant = custom_variant(model, graph, name)
    found = at_point(model, variant, x)
    torch.testing.assert_close(graph(x), found, rtol=0, atol=0.05)  # activations of 8 bits
    assert [layer.name for layer in variant.layers] == ALL_LAYERS
    assert all((layer.sqnr_db or 0) > (20 if "int4" in name else 35) for layer in variant.layers)
    first, second, fc, head = stored_weights(graph)
    assert torch.equal(variant.point["fc.weight"], fc)
    assert torch.equal(variant.point["head.weight"], head)
    for block, stored in (("a", first), ("b", second)):
        norm = model.get_submodule(f"{block}.bn")
        factors = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        torch.testing.assert_close(variant.point[f"{block}.conv.weight"] * factors[:, None, None, None], stored)
        assert torch.equal(variant.point[f"{block}.bn.bias"], norm.bias)
    assert torch.equal(variant.point["b.conv.bias"], model.b.conv.bias)
    assert any("a.bn, b.bn" in note for note in variant.notes)
    assert any("kept in a byte" in note for note in variant.notes) == ("int4" in name)


def test_bits_and_bytes_of_a_converted_graph(model: Network, x: Tensor) -> None:
    variant = custom_variant(model, converted(model, x, for_xnnpack(is_per_channel=True)), "Int8")
    weights, channels = 36 + 144 + 512 + 24, 4 + 4 + 8 + 3
    assert variant.effective_bits == pytest.approx(8 + 40 * channels / weights)
    # codes and scales, and the biases of both folded convolutions and of fc; not what the conversion left unread
    assert variant.size_bytes == weights + 5 * channels + 4 * (4 + 4 + 8)
    narrow = custom_variant(model, converted(model, x, QUANTIZERS["xnnpack-int4"]()), "Int4")
    assert narrow.effective_bits == pytest.approx(4 + 36 * channels / weights)


def test_only_some_layers(model: Network, x: Tensor) -> None:
    graph = converted(model, x, for_xnnpack(is_per_channel=True, is_dynamic=True))  # linear layers alone
    variant = custom_variant(model, graph, "Dynamic")
    assert [layer.name for layer in variant.layers] == ["fc", "head"]
    torch.testing.assert_close(variant.point["a.conv.weight"], model.a.conv.weight.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(graph(x), at_point(model, variant, x), rtol=0, atol=0.02)


def test_weights_that_are_rounded_in_the_graph(model: Network, x: Tensor) -> None:
    graph = converted(model, x, for_xnnpack(is_per_channel=True), fold_quantize=False)
    variant = custom_variant(model, graph, "Unfolded")
    folded = custom_variant(model, converted(model, x, for_xnnpack(is_per_channel=True)), "Folded")
    assert variant.unmapped is None
    assert all(torch.equal(variant.point[name], folded.point[name]) for name in folded.point)
    assert variant.effective_bits == folded.effective_bits


@pytest.mark.slow  # torchao's matching of normalisation behind a convolution takes a minute
@pytest.mark.slow
def test_qat(model: Network, x: Tensor) -> None:
    quantizer = for_xnnpack(is_per_channel=True, is_qat=True)
    prepared = pt2e.prepare_qat_pt2e(exported(model, x, train=True), quantizer)
    prepared(x)  # one pass in training mode moves the running statistics
    move_exported_model_to_eval(prepared)
    graph = pt2e.convert_pt2e(prepared)
    variant = custom_variant(model, graph, "QAT")
    torch.testing.assert_close(graph(x), at_point(model, variant, x), rtol=0, atol=0.1)
    assert [layer.name for layer in variant.layers] == ALL_LAYERS
    assert any("a.conv, b.conv differ" in note for note in variant.notes)
    assert torch.equal(variant.point["fc.bias"], model.fc.bias)


def test_attention_in_a_graph() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(4, 5, 8)
    graph = converted(model, x, for_xnnpack(is_per_channel=True))
    variant = custom_variant(model, graph, "Int8")
    names = [layer.name for layer in variant.layers]
    assert names == ["self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"]
    torch.testing.assert_close(graph(x), at_point(model, variant, x), rtol=0, atol=0.1)


def test_a_layer_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(torch.relu(self.layer(x)))

    torch.manual_seed(0)
    model, x = Twice().eval(), torch.randn(6, 8)
    graph = converted(model, x, for_xnnpack(is_per_channel=True))
    variant = custom_variant(model, graph, "Int8")
    assert [layer.name for layer in variant.layers] == ["layer"]
    torch.testing.assert_close(graph(x), at_point(model, variant, x), rtol=0, atol=0.05)


def test_a_graph_inside_a_network(model: Network, x: Tensor) -> None:
    outer, inner = nn.Sequential(model, nn.Linear(3, 2)), converted(model, x, for_xnnpack(is_per_channel=True))
    own = nn.Sequential(inner, copy.deepcopy(outer[1]))
    variant = custom_variant(outer, own, "Inside")
    assert [layer.name for layer in variant.layers] == [f"0.{name}" for name in ALL_LAYERS]
    torch.testing.assert_close(own(x), at_point(outer, variant, x), rtol=0, atol=0.05)


def test_a_float_graph_is_a_copy(model: Network, x: Tensor) -> None:
    variant = custom_variant(model, exported(model, x), "Float")
    assert variant.unmapped is None
    assert variant.quantized_layers == 0
    assert all(torch.equal(variant.point[name], parameter) for name, parameter in model.named_parameters())


def test_a_prepared_graph_leaves_no_point(model: Network, x: Tensor) -> None:
    prepared = pt2e.prepare_pt2e(exported(model, x), for_x86())
    assert "not converted yet" in (custom_variant(model, prepared, "Prepared").unmapped or "")


def test_a_weight_of_no_layer_is_known_by_its_value() -> None:
    class Free(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.free, self.unlike = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(4, 8))
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(nn.functional.linear(x, self.free) + nn.functional.linear(x, self.unlike))

    torch.manual_seed(0)
    model, x = Free().eval(), torch.randn(6, 8)
    graph = converted(model, x, for_xnnpack(is_per_channel=True))
    variant = custom_variant(model, graph, "Free")
    for name in ("free", "unlike"):
        torch.testing.assert_close(variant.point[name], model.get_parameter(name).detach(), rtol=0, atol=0.02)
    torch.testing.assert_close(graph(x), at_point(model, variant, x), rtol=0, atol=0.1)
    with torch.no_grad():
        model.free.copy_(model.unlike + 0.01)  # which of the two is which cannot be told any more
    assert "belongs to no layer" in (custom_variant(model, graph, "Lost").unmapped or "")


def test_a_graph_is_evaluated_though_it_refuses_eval(model: Network, x: Tensor) -> None:
    graph = converted(model, x, for_x86())
    with pytest.raises(NotImplementedError):
        graph.eval()
    training, code = graph.training, graph.code
    batches = [(x[:20], torch.arange(20) % 3), (x[20:], torch.arange(28) % 3)]
    objective = Objective(model, batches)
    measured = objective.measure(own_model=graph).loss.value
    y = torch.cat([labels for _, labels in batches])
    assert measured == pytest.approx(float(nn.functional.cross_entropy(graph(x).detach(), y)), rel=1e-3)
    assert (graph.training, graph.code) == (training, code)


def test_a_graph_of_one_batch_size_says_so(model: Network, x: Tensor) -> None:
    graph = exported(model, x[:20], dynamic=False)
    batches = [(x[:20], torch.arange(20) % 3), (x[20:], torch.arange(28) % 3)]
    objective = Objective(model, batches)
    objective.loss()  # the float model takes the data
    with pytest.raises(InputError, match="cannot be run here") as refused:
        objective.measure(own_model=graph)
    assert refused.value.code == "custom_model_fails"
    assert "dynamic batch" in refused.value.hint
