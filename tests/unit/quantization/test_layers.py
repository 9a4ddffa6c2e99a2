"""Which weights are rounded, in which layout, and which layers a recipe chooses."""

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.filters import layout_of
from quant_lens_engine.landscape import filter_normalized
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import QuantizedVariant, fake_quantize, quantize
from quant_lens_engine.quantization.layers import survey_weights


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Conv1D(nn.Module):
    """Hugging Face's linear layer, with its weight (in, out)."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


Conv1D.__module__, Conv1D.__qualname__ = "transformers.pytorch_utils", "Conv1D"


class Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = Conv1D(6, 4), Conv1D(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(x)))


def test_a_weight_with_inputs_first_has_a_scale_an_output() -> None:
    torch.manual_seed(0)
    model = Gpt()
    variant = quantize(model, "int4")
    for name in ("first", "head"):
        weight = model.get_submodule(name).weight.detach()
        torch.testing.assert_close(variant.point[f"{name}.weight"], fake_quantize(weight.T, "int4").T)
        assert not torch.allclose(variant.point[f"{name}.weight"], fake_quantize(weight, "int4"))
    assert [(layer.name, layer.kind) for layer in variant.layers] == [("first", "Conv1D"), ("head", "Conv1D")]
    groups = quantize(model, "int4-g2").point["first.weight"]
    torch.testing.assert_close(groups, fake_quantize(model.first.weight.detach().T, "int4-g2").T)


@pytest.mark.parametrize(
    "recipe", ["int3+gptq", "int3+awq", "int3+adaround:steps=50", "w4a8+smoothquant", "int3+bias-correction"]
)
def test_algorithms_treat_it_as_the_linear_layer_that_it_is(recipe: str) -> None:
    torch.manual_seed(0)
    model = Gpt()
    twin = nn.ModuleDict({"first": nn.Linear(4, 6), "head": nn.Linear(6, 3)})

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = twin["first"], twin["head"]

        forward = Gpt.forward

    with torch.no_grad():
        for name in ("first", "head"):
            twin[name].weight.copy_(model.get_submodule(name).weight.T)
            twin[name].bias.copy_(model.get_submodule(name).bias)
    rows = [(seeded(20, 4).abs(), torch.arange(20) % 3)]
    ours, theirs = (Objective(network, rows) for network in (model, Twin()))
    one, two = (quantize(objective.model, recipe, objective) for objective in (ours, theirs))
    for name in ("first", "head"):
        torch.testing.assert_close(one.point[f"{name}.weight"].T, two.point[f"{name}.weight"], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.point[f"{name}.bias"], two.point[f"{name}.bias"], atol=1e-5, rtol=1e-4)
    assert one.live(ours).loss() == pytest.approx(two.live(theirs).loss(), rel=1e-4)


class TokenExperts(nn.Module):
    """All experts in two tensors; ``transposed``: (experts, in, out)."""

    def __init__(self, transposed: bool, said: bool | None = None, hidden: int = 6, inner: int = 5) -> None:
        super().__init__()
        gate_up = (3, hidden, 2 * inner) if transposed else (3, 2 * inner, hidden)
        down = (3, inner, hidden) if transposed else (3, hidden, inner)
        self.gate_up_proj, self.down_proj = nn.Parameter(torch.randn(gate_up)), nn.Parameter(torch.randn(down))
        self.transposed = transposed
        if said is not None:
            self.is_transposed = said

    def forward(self, x: Tensor) -> Tensor:
        gate_up, down = self.gate_up_proj, self.down_proj
        if not self.transposed:
            gate_up, down = gate_up.transpose(1, 2), down.transpose(1, 2)
        gate, up = torch.matmul(x, gate_up).chunk(2, -1)
        return torch.matmul(torch.nn.functional.silu(gate) * up, down).sum(0)


def rows_of(weight: Tensor, transposed: bool) -> Tensor:
    return (weight.transpose(1, 2) if transposed else weight).flatten(0, 1)


@pytest.mark.parametrize("said", [None, "as it is"])
@pytest.mark.parametrize("transposed", [False, True])
def test_each_row_of_each_expert_has_a_scale(transposed: bool, said: str | None) -> None:
    torch.manual_seed(0)
    model = TokenExperts(transposed, None if said is None else transposed)
    variant = quantize(model, "int4")
    assert [layer.parameter for layer in variant.layers] == ["gate_up_proj", "down_proj"]
    assert [layer.name for layer in variant.layers] == ["gate_up_proj", "down_proj"]
    for name in ("gate_up_proj", "down_proj"):
        weight = model.get_parameter(name).detach()
        found = rows_of(variant.point[name], transposed)
        torch.testing.assert_close(found, fake_quantize(rows_of(weight, transposed), "int4"))
    assert variant.effective_bits == pytest.approx(4 + 32 * (30 + 18) / (3 * 60 + 3 * 30))


@pytest.mark.parametrize("transposed", [False, True])
def test_where_both_ways_fit_the_module_decides(transposed: bool) -> None:
    """Square projections say nothing by their shape."""
    torch.manual_seed(0)
    model = TokenExperts(transposed, said=transposed, hidden=6, inner=3)
    assert model.gate_up_proj.shape == (3, 6, 6)
    layout = layout_of(model, "gate_up_proj")
    assert (layout.experts, layout.columns) == (True, transposed)


def test_a_scale_of_an_expert_reaches_no_other_expert() -> None:
    torch.manual_seed(0)
    model = TokenExperts(transposed=True)
    before = quantize(model, "int4").point["gate_up_proj"]
    with torch.no_grad():
        model.gate_up_proj[1] *= 100
    after = quantize(model, "int4").point["gate_up_proj"]
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    torch.testing.assert_close(after[1], 100 * before[1])


def test_directions_move_experts_by_the_same_slices() -> None:
    torch.manual_seed(0)
    model = TokenExperts(transposed=True)
    point = {name: parameter.detach() for name, parameter in model.named_parameters()}
    scaled = filter_normalized({name: torch.randn_like(value) for name, value in point.items()}, point, model)
    for name, value in point.items():
        lengths = rows_of(value, transposed=True).norm(dim=1)
        torch.testing.assert_close(rows_of(scaled[name], transposed=True).norm(dim=1).float(), lengths)


def test_a_module_that_is_no_mixture_keeps_its_tensors() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(2, 3, 4))

    variant = quantize(nn.Sequential(nn.Linear(3, 3), Positions()), "int4")
    assert [item.reason for item in variant.skipped] == ["no quantizer for table of Positions"]


@pytest.mark.parametrize(
    ("module", "weights"),
    [
        (nn.LSTM(4, 5, num_layers=2, bidirectional=True, proj_size=3), 12),
        (nn.GRU(4, 5), 2),
        (nn.RNNCell(4, 5), 2),
        (nn.LSTMCell(4, 5, bias=False), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_recurrent_weights_are_rounded_by_rows_and_biases_stay(module: nn.Module, weights: int) -> None:
    variant = quantize(module, "int4")
    assert len(variant.layers) == weights
    for layer in variant.layers:
        expected = fake_quantize(module.get_parameter(layer.parameter).detach(), "int4")
        assert torch.equal(variant.point[layer.parameter], expected)
    biases = [name for name, _ in module.named_parameters() if "bias" in name]
    assert all(torch.equal(variant.point[name], module.get_parameter(name)) for name in biases)


class Language(nn.Module):
    """A tied embedding and head; the head is registered first, and runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 9, bias=False)
        self.embedding = nn.Embedding(9, 6)
        self.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.unused = nn.Linear(6, 9)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedding(x)
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        return self.head(self.attention(hidden, hidden, hidden)[0]).mean(1)


@pytest.fixture
def language() -> Objective:
    torch.manual_seed(0)
    return Objective(Language(), [(torch.arange(36).reshape(12, 3) % 9, torch.arange(12) % 9)])


def test_a_tied_weight_is_rounded_once_and_stays_tied(language: Objective) -> None:
    variant = quantize(language.model, "int4", language)
    assert [layer.parameter for layer in variant.layers].count("head.weight") == 1
    assert "embedding.weight" not in variant.point
    assert variant.quantized_layers == 7
    live = variant.live(language)
    (batch,) = live.batches()
    weight = fake_quantize(language.point["head.weight"], "int4")
    again = language.at({**variant.point, "head.weight": weight})
    assert live.loss() == again.loss()
    assert torch.equal(live.point["head.weight"], weight)
    assert batch.rows == 12


def floating(variant: QuantizedVariant) -> dict[str, str]:
    return {item.name: item.reason for item in variant.skipped}


def rounded(variant: QuantizedVariant) -> set[str]:
    return {layer.name for layer in variant.layers}


EVERYTHING = {"head", "blocks.0", "blocks.1", "attention.in_proj", "attention.out_proj", "unused"}


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ("", EVERYTHING),
        ("+skip:blocks.0", EVERYTHING - {"blocks.0"}),
        ("+skip:blocks.*", EVERYTHING - {"blocks.0", "blocks.1"}),
        ("+skip:blocks.[01]", EVERYTHING - {"blocks.0", "blocks.1"}),
        ("+skip:blocks.?:unused", EVERYTHING - {"blocks.0", "blocks.1", "unused"}),
        ("+skip:head", EVERYTHING - {"head"}),
        ("+skip:first", EVERYTHING - {"head"}),
        ("+skip:embedding", EVERYTHING - {"head"}),
        ("+skip:attention", EVERYTHING - {"attention.in_proj"}),
        ("+skip:attention.out_proj", EVERYTHING - {"attention.out_proj"}),
        ("+skip:kind.Linear", {"attention.in_proj", "attention.out_proj"}),
        ("+skip:kind.*Linear", {"attention.in_proj"}),
        ("+only:kind.MultiheadAttention", {"attention.in_proj"}),
        ("+only:blocks.*:unused", {"blocks.0", "blocks.1", "unused"}),
        ("+only:blocks.*+skip:blocks.1", {"blocks.0"}),
    ],
)
def test_a_choice_of_layers(language: Objective, choice: str, kept: set[str]) -> None:
    variant = quantize(language.model, f"int4{choice}", language)
    assert rounded(variant) == kept
    for name, value in variant.point.items():
        layer = name.removesuffix("_weight").removesuffix(".weight")
        assert torch.equal(value, language.point[name]) == (layer not in kept)
    reasons = floating(variant)
    assert set(reasons) >= EVERYTHING - kept
    for layer in EVERYTHING - kept:
        assert "left in float" in reasons[layer]


def test_the_reason_names_the_pattern(language: Objective) -> None:
    reasons = floating(quantize(language.model, "int4+skip:blocks.*", language))
    assert reasons["blocks.1"] == "left in float by +skip:blocks.*"
    reasons = floating(quantize(language.model, "int4+only:blocks.0:head", language))
    assert reasons["unused"] == "left in float: it is not among +only:blocks.0:head"


def test_a_weight_that_a_skipped_layer_shares_stays_in_float(language: Objective) -> None:
    reasons = floating(quantize(language.model, "int4+skip:embedding", language))
    assert reasons["embedding"] == "left in float by +skip:embedding"
    assert "shares its weight" in reasons["head"]


def test_first_and_head_are_by_the_order_of_running(language: Objective) -> None:
    """The embedding runs first and the head last, whatever is registered where; what never runs is neither."""
    for pattern, module in (("first", "embedding"), ("head", "head")):
        assert floating(quantize(language.model, f"int4+skip:{pattern}", language))[module].endswith(f"+skip:{pattern}")

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.aux, self.last, self.body, self.stem = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.body(self.stem(x)))

    objective = Objective(Backwards(), [(seeded(5, 4), torch.arange(5) % 4)])
    assert rounded(quantize(objective.model, "int4+skip:first", objective)) == {"aux", "last", "body"}
    assert rounded(quantize(objective.model, "int4+skip:head", objective)) == {"aux", "body", "stem"}
    assert rounded(quantize(objective.model, "int4+only:first:head", objective)) == {"last", "stem"}
    by_name = quantize(objective.model, "int4+only:first:head")
    assert rounded(by_name) == {"aux", "stem"}, "without rows the order is that of the names"
    assert any(note.startswith("first and head by the order in which layers are named") for note in by_name.notes)
    assert not quantize(objective.model, "int4+only:first:head", objective).notes
    assert not quantize(objective.model, "int4+skip:aux").notes


def test_attention_may_run_last() -> None:
    class Ending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.stem = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.stem(x)
            return self.attention(hidden, hidden, hidden)[0].mean(1)

    objective = Objective(Ending(), [(seeded(5, 3, 4), torch.arange(5) % 4)])
    assert rounded(quantize(objective.model, "int4+skip:head", objective)) == {"attention.in_proj", "stem"}
    assert rounded(quantize(objective.model, "int4+skip:first", objective)) == {
        "attention.in_proj", "attention.out_proj",
    }  # fmt: skip


def test_skipped_layers_have_their_inputs_in_float(language: Objective) -> None:
    variant = quantize(language.model, "w8a8+skip:blocks.0:attention", language)
    assert {item.name for item in variant.activations} == {"blocks.1", "attention.out_proj", "head"}


@pytest.mark.parametrize(
    ("pattern", "near"), [("blocks.2", "blocks.0"), ("kind.Linaer", "kind.Linear"), ("atention", "attention")]
)
def test_a_pattern_that_matches_nothing_suggests_what_does(language: Objective, pattern: str, near: str) -> None:
    for word in ("skip", "only"):
        with pytest.raises(SchemeError) as refused:
            quantize(language.model, f"int4+{word}:{pattern}", language)
        assert refused.value.code == "no_such_layer"
        assert pattern in refused.value.message
        assert near in refused.value.hint
        assert refused.value.details["pattern"] == pattern
        assert "head" in refused.value.details["layers"]


def test_a_choice_that_leaves_nothing_is_refused(language: Objective) -> None:
    with pytest.raises(SchemeError) as refused:
        quantize(language.model, "int4+skip:*", language)
    assert refused.value.code == "nothing_to_quantize"


def test_every_layer_is_named_once_with_the_module_that_owns_it() -> None:
    torch.manual_seed(0)
    model = nn.TransformerDecoderLayer(8, 2, 12)
    survey = survey_weights(model)
    assert [site.layer for site in survey.sites] == [
        "self_attn.in_proj", "self_attn.out_proj", "multihead_attn.in_proj", "multihead_attn.out_proj", "linear1",
        "linear2",
    ]  # fmt: skip
    assert len(survey.modules) == survey.layers == 6
    assert all(model.get_submodule(site.module) is not None for site in survey.sites)
    assert {item.name for item in survey.skipped} == {"norm1", "norm2", "norm3"}
