"""Layers whose module is never called: a function is given their weight."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.curvature import HessianOperator
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import QuantizedVariant, fake_quantize, quantize
from quant_lens_engine.quantization.layer_inputs import measure_moments
from quant_lens_engine.quantization.layer_order import run_order
from quant_lens_engine.quantization.layers import survey_weights

WIDTH, CLASSES = 12, 3


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Step = Callable[[nn.Linear, Tensor], Tensor]
STEPS: dict[str, Step] = {
    "linear": lambda layer, x: F.linear(x, layer.weight, layer.bias),
    "linear by keyword": lambda layer, x: F.linear(input=x, weight=layer.weight, bias=layer.bias),
    "operator": lambda layer, x: x @ layer.weight.T + layer.bias,
    "matmul": lambda layer, x: torch.matmul(x, layer.weight.t()) + layer.bias,
    "mm": lambda layer, x: torch.mm(x, layer.weight.transpose(0, 1)) + layer.bias,
    "addmm": lambda layer, x: torch.addmm(layer.bias, x, layer.weight.T),
    "module": lambda layer, x: layer(x),
}


class Stepwise(nn.Module):
    def __init__(self, step: Step) -> None:
        super().__init__()
        self.b, self.a, self.step = nn.Linear(WIDTH, CLASSES), nn.Linear(WIDTH, WIDTH), step

    def forward(self, x: Tensor) -> Tensor:
        return self.step(self.b, self.step(self.a, x).relu())


def objective_of(model: nn.Module, x: Tensor | None = None) -> Objective:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = seeded(16, WIDTH) if x is None else x
    return Objective(model.double(), [(x[:9], torch.arange(9) % CLASSES), (x[9:], torch.arange(len(x) - 9) % CLASSES)])


def outputs(objective: Objective) -> Tensor:
    with torch.no_grad():
        return torch.cat([objective.output(batch) for batch in objective.batches()])


def by_row(values: Tensor, scheme: str = "int4") -> Tensor:
    return fake_quantize(values.reshape(-1, values.shape[-1]), scheme).reshape(values.shape)


def rounded_names(variant: QuantizedVariant, objective: Objective) -> list[str]:
    variant.live(objective).loss()
    return [item.name for item in variant.activations]


@pytest.mark.parametrize("kind", STEPS)
def test_inputs_are_rounded_once(kind: str) -> None:
    objective = objective_of(Stepwise(STEPS[kind]))
    variant = quantize(objective.model, "float-act-int4-dynamic", objective)
    model = objective.model
    with torch.no_grad():
        x = torch.cat([batch.content[0] for batch in objective.batches()])
        hidden = by_row(x) @ model.a.weight.T + model.a.bias
        expected = by_row(hidden.relu()) @ model.b.weight.T + model.b.bias
    torch.testing.assert_close(outputs(variant.live(objective)), expected)
    assert rounded_names(variant, objective) == ["a", "b"]
    assert not variant.notes


@pytest.mark.parametrize(
    "recipe", ["w8a8", "w4a8+smoothquant", "w4a4+gptq+bias-correction", "int4+awq", "int3+adaround:steps=100"]
)
@pytest.mark.parametrize("kind", ["linear", "operator"])
def test_recipes_are_those_of_the_called_module(kind: str, recipe: str) -> None:
    objectives = [objective_of(Stepwise(STEPS[name])) for name in (kind, "module")]
    found, expected = (quantize(item.model, recipe, item) for item in objectives)
    assert found.notes == expected.notes
    assert {name: item.shape for name, item in found.point.items()} == {
        name: item.shape for name, item in expected.point.items()
    }
    for name, values in expected.point.items():
        torch.testing.assert_close(found.point[name], values)
    torch.testing.assert_close(outputs(found.live(objectives[0])), outputs(expected.live(objectives[1])))


def test_the_smooth_landscape_has_the_same_hessian() -> None:
    direction, products = seeded(WIDTH * WIDTH + WIDTH + CLASSES * WIDTH + CLASSES), []
    for kind in ("operator", "module"):
        objective = objective_of(Stepwise(STEPS[kind]))
        smooth = quantize(objective.model, "w8a8", objective).smooth(objective)
        products.append(HessianOperator(smooth).matvec(direction))
    torch.testing.assert_close(*products)


def test_the_order_of_running_knows_them() -> None:
    objective = objective_of(Stepwise(STEPS["linear"]))
    assert run_order(objective) == ["a", "b", ""]
    assert {item.name for item in quantize(objective.model, "int4+skip:head", objective).layers} == {"a"}


class Convolutions(nn.Module):
    """By function, as the layer would and with a stride of its own."""

    def __init__(self, strides: bool) -> None:
        super().__init__()
        self.conv, self.strides = nn.Conv2d(2, 4, 3, padding=1, stride=2), strides
        self.turned, self.head = nn.ConvTranspose2d(4, 2, 2), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        stride = 1 if self.strides else self.conv.stride
        x = F.conv2d(x, self.conv.weight, self.conv.bias, stride, padding=1)
        return self.head(F.conv_transpose2d(x, self.turned.weight, self.turned.bias).mean((2, 3)))


@pytest.mark.parametrize("strides", [False, True])
def test_convolutions(strides: bool) -> None:
    objective = objective_of(Convolutions(strides), seeded(16, 2, 6, 6))
    variant = quantize(objective.model, "float-act-int4-dynamic", objective)
    assert rounded_names(variant, objective) == ["conv.other" if strides else "conv", "turned.other", "head"]
    model = copy.deepcopy(objective.model)
    with torch.no_grad():
        x = torch.cat([batch.content[0] for batch in objective.batches()])
        if strides:
            model.conv.stride = (1, 1)
        rows = [fake_quantize(values.reshape(1, -1), "int4").reshape(values.shape) for values in x]
        hidden = model.conv(torch.stack(rows))
        rows = [fake_quantize(values.reshape(1, -1), "int4").reshape(values.shape) for values in hidden]
        expected = model.head(by_row(model.turned(torch.stack(rows)).mean((2, 3))))
    torch.testing.assert_close(outputs(variant.live(objective)), expected)
    site = next(site for site in survey_weights(objective.model).sites if site.layer == "conv")
    moments = measure_moments(objective, [site])["conv.weight"]
    # with another stride the kernel meets other places than the layer's own: algorithms do not take them for its
    assert moments.seen != strides
    if not strides:
        columns = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(moments.gram[0], columns.T @ columns)


class Turned(nn.Module):
    """A decoder that is the encoder's weight turned round, and the weight in parts."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Linear(WIDTH, 6), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        part = F.linear(x, self.encoder.weight[:2])
        return self.head(F.linear(code, self.encoder.weight.T) + part.sum(-1, keepdim=True))


def test_a_weight_that_is_turned_round_has_an_input_of_its_own() -> None:
    objective = objective_of(Turned())
    variant = quantize(objective.model, "w8a8", objective)
    assert rounded_names(variant, objective) == ["encoder", "encoder.other", "head"]
    (site,) = (site for site in survey_weights(objective.model).sites if site.layer == "encoder")
    moments = measure_moments(objective, [site])["encoder.weight"]
    x = torch.cat([batch.content[0] for batch in objective.batches()])
    torch.testing.assert_close(moments.gram[0], x.T @ x)


class ProductOfWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, 4, bias=False), nn.Linear(4, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.second.weight @ self.first.weight)


def test_a_product_of_weights_is_no_activation_and_what_is_not_followed_is_said() -> None:
    objective = objective_of(ProductOfWeights())
    variant = quantize(objective.model, "w8a8+gptq", objective)
    assert rounded_names(variant, objective) == []
    assert any("first, second" in note and "stays in float" in note for note in variant.notes)
    assert any("gptq passes over first, second" in note and "not followed" in note for note in variant.notes)


class Language(nn.Module):
    """A head tied to the embedding, named before or behind it, or none but the embedding itself."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "head first":
            self.head = nn.Linear(6, 9)
        self.embedding, self.body = nn.Embedding(9, 6), nn.Linear(6, 6)
        if kind != "head first" and kind != "by function":
            self.head = nn.Linear(6, 9)
        if kind != "by function":
            self.head.weight = self.embedding.weight
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(self.embedding(x)))
        if self.kind == "by function":
            return F.linear(hidden, self.embedding.weight).mean(1)
        return (F.linear(hidden, self.head.weight) if self.kind == "not called" else self.head(hidden)).mean(1)


LANGUAGES = {"head first": "head", "embedding first": "head", "by function": "embedding", "not called": "head"}


def language(kind: str) -> Objective:
    torch.manual_seed(0)
    tokens = torch.randint(9, (12, 5), generator=torch.Generator().manual_seed(1))
    model = Language(kind).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return Objective(model, [(tokens, torch.arange(12) % 9)])


@pytest.mark.parametrize("kind", LANGUAGES)
def test_a_tied_head_has_rounded_inputs(kind: str) -> None:
    objective = language(kind)
    variant = quantize(objective.model, "float-act-int4-dynamic", objective)
    model = objective.model
    with torch.no_grad():
        hidden = torch.tanh(model.body(by_row(model.embedding(next(objective.batches()).content[0]))))
        bias = model.head.bias if kind in ("head first", "embedding first") else None
        expected = F.linear(by_row(hidden), model.embedding.weight, bias).mean(1)
    torch.testing.assert_close(outputs(variant.live(objective)), expected)
    assert rounded_names(variant, objective) == ["body", LANGUAGES[kind]]
    assert not variant.notes


@pytest.mark.parametrize("recipe", ["int3+gptq", "int3+awq", "int3+adaround:steps=100"])
@pytest.mark.parametrize("kind", LANGUAGES)
def test_algorithms_look_at_the_inputs_of_a_tied_weight(kind: str, recipe: str) -> None:
    """In whatever order the two are named."""
    objective = language(kind)
    variant, nearest = (quantize(objective.model, name, objective) for name in (recipe, "int3"))
    (parameter,) = (name for name in variant.point if name in ("head.weight", "embedding.weight"))
    assert not torch.equal(variant.point[parameter], nearest.point[parameter])
    assert not any("rounded to nearest" in note or "passes over" in note for note in variant.notes)
    assert [layer.name for layer in variant.layers if layer.parameter == parameter] == [LANGUAGES[kind]]


@pytest.mark.parametrize("kind", ["head first", "embedding first"])
def test_the_bias_of_a_tied_head_is_corrected(kind: str) -> None:
    """The mean output of each class is the float model's: of the head's own inputs, to the last rounding."""
    objective = language(kind)
    variant = quantize(objective.model, "int3+bias-correction+only:head:embedding", objective)
    assert not torch.equal(variant.point["head.bias"], objective.point["head.bias"])
    torch.testing.assert_close(outputs(objective.at(variant.point)).mean(0), outputs(objective).mean(0))


def test_an_embedding_that_is_only_looked_up_is_said() -> None:
    objective = language("head first")
    model = nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(30, 9)).double()
    plain = Objective(model, [(next(objective.batches()).content[0], torch.arange(12) % 9)])
    assert any("looks rows up" in note for note in quantize(model, "int4+gptq", plain).notes)
