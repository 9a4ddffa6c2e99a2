"""Attention written out: the same function, with a place at each factor."""

import copy
import functools
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from quant_lens_engine.curvature import HessianOperator
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.model_call import plain_paths
from quant_lens_engine.quantization import fake_quantize, quantize
from quant_lens_engine.quantization.activation import Activation
from quant_lens_engine.quantization.attention import multihead_attention, scaled_dot_product
from quant_lens_engine.quantization.instrumented_forward import InstrumentedForward

LENGTH, KEYS, WIDTH, HEADS, ROWS = 4, 5, 8, 2, 3


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def untouched(_: str, values: Tensor) -> Tensor:
    return values


def banned(*shape: int) -> Tensor:
    """True is left out; the first key is always there."""
    mask = seeded(*shape, seed=7) > 0.5
    mask[..., 0] = False
    return mask


def emptied(mask: Tensor) -> Tensor:
    """``mask`` with no key left at its first index: for a query, or in padding for all queries of a row."""
    mask[0] = True
    return mask


MODULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "learned key and value": {"add_bias_kv": True},
    "zero attention": {"add_zero_attn": True},
    "both at the end": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "other widths": {"kdim": 6, "vdim": 5},
    "other widths, all of it": {"kdim": 6, "vdim": 8, "add_bias_kv": True, "add_zero_attn": True, "bias": False},
}
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "float": {"attn_mask": seeded(LENGTH, KEYS)},
    "boolean": {"attn_mask": banned(LENGTH, KEYS)},
    "a head": {"attn_mask": seeded(ROWS * HEADS, LENGTH, KEYS)},
    "a head, boolean": {"attn_mask": banned(ROWS * HEADS, LENGTH, KEYS)},
    "padding": {"key_padding_mask": banned(ROWS, KEYS)},
    "float padding": {"key_padding_mask": seeded(ROWS, KEYS)},
    "padding and mask": {"key_padding_mask": banned(ROWS, KEYS), "attn_mask": banned(LENGTH, KEYS)},
    "weights a head": {"average_attn_weights": False},
    "no weights": {"need_weights": False},
    "an empty row": {"attn_mask": emptied(banned(LENGTH, KEYS)), "need_weights": False},
    "an empty row, a head": {"attn_mask": emptied(banned(ROWS * HEADS, LENGTH, KEYS)), "need_weights": False},
    "all padding": {"key_padding_mask": emptied(banned(ROWS, KEYS)), "need_weights": False},
    "an empty row, with weights": {"attn_mask": emptied(banned(LENGTH, KEYS))},
    "causal": {"attn_mask": torch.ones(LENGTH, KEYS, dtype=torch.bool).triu(1), "is_causal": True},
}


def attention(options: dict[str, Any]) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, **options).double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def inputs(options: dict[str, Any], rows: int | None = ROWS) -> list[Tensor]:
    found = [
        seeded(rows or 1, LENGTH, WIDTH, seed=1),
        seeded(rows or 1, KEYS, options.get("kdim", WIDTH), seed=2),
        seeded(rows or 1, KEYS, options.get("vdim", WIDTH), seed=3),
    ]
    if rows is None:
        return [tensor[0] for tensor in found]
    return found if options.get("batch_first") else [tensor.transpose(0, 1) for tensor in found]


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", MODULES)
def test_it_is_torchs(kind: str, mask: str) -> None:
    module, given = attention(MODULES[kind]), MASKS[mask]
    taken = inputs(MODULES[kind])
    with plain_paths():
        expected, expected_weights = module(*taken, **given)
    found, weights = multihead_attention(module, untouched, *taken, **given)
    # where weights are asked for, torch's own answer is NaN in an empty row
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert (weights is None) == (expected_weights is None)
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights, equal_nan=True)
    else:
        assert bool(found.isfinite().all())


@pytest.mark.parametrize("kind", ["plain", "batch first", "both at the end", "other widths"])
@pytest.mark.parametrize("mask", ["none", "float", "boolean"])
def test_without_a_batch(kind: str, mask: str) -> None:
    module, given = attention(MODULES[kind]), MASKS[mask]
    taken = inputs(MODULES[kind], rows=None)
    with plain_paths():
        expected = module(*taken, **given)
    torch.testing.assert_close(multihead_attention(module, untouched, *taken, **given), expected)


def test_padding_and_a_mask_a_head_without_a_batch() -> None:
    module = attention({})
    query, key, value = inputs({}, rows=None)
    for given in ({"key_padding_mask": banned(KEYS)}, {"attn_mask": banned(HEADS, LENGTH, KEYS)}):
        with plain_paths():
            expected = module(query, key, value, **given)
        torch.testing.assert_close(multihead_attention(module, untouched, query, key, value, **given), expected)


@pytest.mark.parametrize(
    "given",
    [
        {}, {"is_causal": True}, {"attn_mask": seeded(LENGTH, KEYS)}, {"attn_mask": ~banned(LENGTH, KEYS)},
        {"attn_mask": ~banned(ROWS, 1, LENGTH, KEYS)}, {"scale": 0.3}, {"enable_gqa": True},
        {"enable_gqa": True, "is_causal": True, "scale": 2.0},
    ],
    ids=lambda given: " ".join(given) or "plain",
)  # fmt: skip
def test_the_function_is_torchs(given: dict[str, Any]) -> None:
    heads = 2 if given.get("enable_gqa") else 4
    query, key, value = seeded(ROWS, 4, LENGTH, 6), *(seeded(ROWS, heads, KEYS, 6, seed=seed) for seed in (1, 2))
    expected = F.scaled_dot_product_attention(query, key, value, **given)
    torch.testing.assert_close(scaled_dot_product(untouched, query, key, value, **given), expected)


def left_padded() -> Tensor:
    """The first of two rows begins with padding, which under a causal mask has no key (True takes part)."""
    mask = torch.ones(2, 1, LENGTH, LENGTH, dtype=torch.bool).tril()
    mask[0, :, 0] = mask[0, ..., 0] = False
    return mask


@pytest.mark.parametrize("boolean", [True, False])
def test_a_query_without_keys_gets_zeros_and_finite_derivatives(boolean: bool) -> None:
    mask = left_padded()
    bias = mask if boolean else torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)

    def derivatives(attention: Any) -> list[Tensor]:
        factors = [seeded(2, HEADS, LENGTH, 4, seed=seed).requires_grad_() for seed in range(3)]
        output = attention(*factors, attn_mask=bias)
        first = torch.autograd.grad(output.sin().sum(), factors, create_graph=True)
        second = torch.autograd.grad(sum(part.sin().sum() for part in first), factors)
        return [output, *first, *second]

    with sdpa_kernel(SDPBackend.MATH):
        expected = derivatives(F.scaled_dot_product_attention)
    found = derivatives(functools.partial(scaled_dot_product, untouched))
    assert bool((found[0][0, :, 0] == 0).all())
    for one, other in zip(found, expected, strict=True):
        assert bool(one.isfinite().all())
        torch.testing.assert_close(one, other)


class Padded(nn.Module):
    """An encoder over rows padded on the left, under a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True, dropout=0.0)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        padding = torch.zeros(x.shape[:2], dtype=torch.bool)
        padding[0, 0] = True
        return self.head(self.layer(x, src_mask=causal, src_key_padding_mask=padding)[:, -1])


def test_left_padding_under_a_causal_mask() -> None:
    """Value and curvature of the float model, with its attention fused and written out; a static range is found."""
    torch.manual_seed(0)
    objective = objective_of(Padded())
    plain = InstrumentedForward(objective.model, ["layer.self_attn"], lambda _, values: values, products=True)
    written_out = objective.through(plain)
    assert written_out.loss() == pytest.approx(objective.loss(), rel=1e-12)
    direction = seeded(objective.dimension)
    expected, found = (HessianOperator(item).matvec(direction) for item in (objective, written_out))
    assert bool(expected.isfinite().all())
    torch.testing.assert_close(found, expected)
    variant = quantize(objective.model, "w8a8-attn", objective)
    assert variant.live(objective).loss() == pytest.approx(objective.loss(), rel=0.05)


class Sdpa(nn.Module):
    """Attention by the function, with fewer heads of keys and values."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)
        self.head, self.causal = nn.Linear(WIDTH, 3), causal

    def factors(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = (part(x).unflatten(-1, (-1, 2)).transpose(1, 2) for part in (self.query, self.key, self.value))
        return tuple(heads)  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.factors(x), is_causal=self.causal, enable_gqa=True)
        return self.head(mixed.transpose(1, 2).flatten(2)).mean(1)


class WrittenOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x).chunk(3, -1)
        probabilities = torch.softmax(torch.matmul(query, key.transpose(1, 2)) / WIDTH**0.5, -1)
        return self.head(probabilities @ value).mean(1)


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0]).mean(1)


class Encoder(nn.Module):
    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 12, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=True)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x)).mean(1)


def objective_of(model: nn.Module) -> Objective:
    torch.manual_seed(0)
    x = seeded(12, LENGTH, WIDTH)
    return Objective(model.double(), [(x[:7], torch.arange(7) % 3), (x[7:], torch.arange(5) % 3)])


def outputs(objective: Objective) -> Tensor:
    with torch.no_grad(), plain_paths():
        return torch.cat([objective.output(batch) for batch in objective.batches()])


def rounded_at(model: nn.Module, scheme: str) -> list[str]:
    """Names of what is rounded, as far as one pass has met it."""
    objective = objective_of(model)
    variant = quantize(objective.model, scheme, objective)
    variant.live(objective).loss()
    return [item.name for item in variant.activations]


MODELS = {"module": Module, "function": Sdpa, "written out": WrittenOut, "encoder": Encoder}


@pytest.mark.parametrize("kind", MODELS)
def test_a_pass_that_is_only_looked_at_is_the_models_own(kind: str) -> None:
    torch.manual_seed(0)
    objective = objective_of(MODELS[kind]())
    names = [name for name, _ in objective.model.named_modules()]
    seen: list[Activation] = []

    def look(activation: Activation, values: Tensor) -> Tensor:
        seen.append(activation)
        return values

    watched = objective.through(InstrumentedForward(objective.model, names, look, products=True, written_out=True))
    torch.testing.assert_close(outputs(watched), outputs(objective))
    assert seen


INSIDE = ["queries", "keys", "values", "probabilities"]


@pytest.mark.parametrize(
    ("kind", "weights_and_activations"),
    [
        ("module", ["attention.in_proj", "attention.out_proj", "head"]),
        ("function", ["query", "key", "value", "head"]),
        ("written out", ["project", "head"]),
        (
            "encoder",
            ["encoder.layers.0.self_attn.in_proj", "encoder.layers.0.self_attn.out_proj", "encoder.layers.0.linear1",
             "encoder.layers.0.linear2", "head"],
        ),
    ],
)  # fmt: skip
def test_where_activations_are_rounded(kind: str, weights_and_activations: list[str]) -> None:
    name = {"module": "attention", "function": "attention1", "encoder": "encoder.layers.0.self_attn"}.get(kind)
    for scheme in ("w8a8", "w8a8-dynamic"):
        assert sorted(rounded_at(MODELS[kind](), scheme)) == sorted(weights_and_activations)
        products = [f"{name}.{role}" for role in INSIDE]
        if name is None:
            products = ["matmul1.left", "matmul1.right", "matmul2.left", "matmul2.right"]
        found = rounded_at(MODELS[kind](), f"{scheme}-attn")
        assert sorted(found) == sorted([*weights_and_activations, *products])
        kept = [] if kind == "written out" else [f"{name}.keys", f"{name}.values"]
        assert sorted(rounded_at(MODELS[kind](), "int8-kv8")) == sorted(kept)
        assert sorted(rounded_at(MODELS[kind](), f"{scheme}-kv8")) == sorted([*weights_and_activations, *kept])


def test_the_inference_path_of_an_encoder_layer_is_not_taken() -> None:
    """It would skip every rounding: the answer would be that of w4 alone."""
    torch.manual_seed(0)
    objective = objective_of(Encoder(2))
    assert torch.backends.mha.get_fastpath_enabled()
    weights, both = (quantize(objective.model, name, objective) for name in ("int4", "int4-act-int4-dynamic"))
    assert all(torch.equal(weights.point[name], both.point[name]) for name in weights.point)
    assert abs(weights.live(objective).loss() - both.live(objective).loss()) > 1e-4
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "scheme", ["float-kv4", "float-kv-fp8-e4m3", "int4-act-int6-dynamic-attn", "w4a8-dynamic-kv4-attn"]
)
def test_attention_by_the_function_is_rounded_by_hand(causal: bool, scheme: str) -> None:
    torch.manual_seed(0)
    objective = objective_of(Sdpa(causal))
    model = copy.deepcopy(objective.model)
    variant = quantize(objective.model, scheme, objective)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(variant.point[name])
    activations = {"int4-act-int6-dynamic-attn": "int6", "w4a8-dynamic-kv4-attn": "int8"}.get(scheme)
    kept = {"float-kv4": "int4", "float-kv-fp8-e4m3": "fp8-e4m3", "w4a8-dynamic-kv4-attn": "int4"}.get(
        scheme, activations
    )

    def by_token(values: Tensor, fmt: str | None) -> Tensor:
        return values if fmt is None else fake_quantize(values.reshape(-1, values.shape[-1]), fmt).reshape(values.shape)

    def layer(part: nn.Linear, x: Tensor) -> Tensor:
        return part(by_token(x, activations))

    with torch.no_grad():
        x = torch.cat([batch.content[0] for batch in objective.batches()])
        query, key, value = (
            layer(part, x).unflatten(-1, (-1, 2)).transpose(1, 2) for part in (model.query, model.key, model.value)
        )
        query, key, value = by_token(query, activations), by_token(key, kept), by_token(value, kept)
        key, value = (part.repeat_interleave(2, 1) for part in (key, value))
        scores = query @ key.transpose(2, 3) / 2**0.5
        if causal:
            scores = scores.masked_fill(torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1), -torch.inf)
        mixed = by_token(torch.softmax(scores, -1), activations) @ value
        expected = layer(model.head, mixed.transpose(1, 2).flatten(2)).mean(1)
    torch.testing.assert_close(outputs(variant.live(objective)), expected)
    assert not torch.allclose(expected, outputs(objective.at(variant.point)), rtol=1e-6)


def test_attention_by_the_module_is_rounded_by_hand() -> None:
    torch.manual_seed(0)
    objective = objective_of(Module())
    variant = quantize(objective.model, "float-act-int6-dynamic-kv4-attn", objective)

    def by_token(values: Tensor, fmt: str) -> Tensor:
        return fake_quantize(values.reshape(-1, values.shape[-1]), fmt).reshape(values.shape)

    model = objective.model
    with torch.no_grad():
        x = torch.cat([batch.content[0] for batch in objective.batches()])
        projected = F.linear(by_token(x, "int6"), model.attention.in_proj_weight, model.attention.in_proj_bias)
        query, key, value = projected.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = by_token(query, "int6"), by_token(key, "int4"), by_token(value, "int4")
        probabilities = torch.softmax(query @ key.transpose(2, 3) / (WIDTH / HEADS) ** 0.5, -1)
        mixed = (by_token(probabilities, "int6") @ value).transpose(1, 2).flatten(2)
        attended = model.attention.out_proj(by_token(mixed, "int6"))
        expected = model.head(by_token(attended, "int6")).mean(1)
    torch.testing.assert_close(outputs(variant.live(objective)), expected)


def test_coarser_factors_lose_more() -> None:
    torch.manual_seed(0)
    objective = objective_of(Sdpa())
    expected = outputs(objective)
    lost = {
        name: float((outputs(quantize(objective.model, name, objective).live(objective)) - expected).norm())
        for name in ("float-kv8", "float-kv4", "float-kv2", "float-act-int8-dynamic", "float-act-int8-dynamic-attn")
    }
    assert lost["float-kv8"] < lost["float-kv4"] < lost["float-kv2"]
    assert lost["float-act-int8-dynamic"] != lost["float-act-int8-dynamic-attn"]


def test_a_weight_is_no_factor_of_attention() -> None:
    """Though it has three axes, like an expert's; neither it nor its views are rounded as activations."""

    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, WIDTH, 3))

        def forward(self, x: Tensor) -> Tensor:
            by_expert = torch.matmul(x[:, None], self.weight).mean((1, 2))
            return by_expert + torch.bmm(x[:2], self.weight.transpose(1, 2).transpose(1, 2)).mean()

    assert rounded_at(nn.Sequential(nn.Linear(WIDTH, WIDTH), Mixing()), "w8a8-dynamic-attn") == ["0"]


def test_where_there_is_no_attention_the_note_says_what_is_seen() -> None:
    objective = objective_of(nn.Sequential(nn.Linear(WIDTH, 3), nn.Flatten()))
    for scheme, matmul in (("w8a8-attn", True), ("int8-kv8", False)):
        (note,) = quantize(objective.model, scheme, objective).notes
        assert "F.scaled_dot_product_attention" in note
        assert ("matmul" in note) == matmul


def test_static_ranges_of_factors_are_calibrated() -> None:
    torch.manual_seed(0)
    objective = objective_of(Sdpa())
    variant = quantize(objective.model, "float-act-int8-attn", objective)
    ranges = {item.name: (item.low, item.high) for item in variant.activations}
    with torch.no_grad():
        x = torch.cat([batch.content[0] for batch in objective.batches()])
        query, key, _ = objective.model.factors(x)
    assert ranges["attention1.queries"] == pytest.approx(tuple(map(float, query.aminmax())), rel=1e-6)
    assert ranges["attention1.keys"] == pytest.approx(tuple(map(float, key.aminmax())), rel=1e-6)
    assert 0 < ranges["attention1.probabilities"][0] < ranges["attention1.probabilities"][1] <= 1


def test_names_are_the_same_in_every_pass() -> None:
    objective = objective_of(nn.Sequential(Encoder(2).encoder, Sdpa()))
    variant = quantize(objective.model, "w8a8-dynamic-attn", objective)
    live = variant.live(objective)
    passes = []
    for _ in range(2):
        live.loss()
        passes.append([item.name for item in variant.activations])
    assert passes[0] == passes[1]
    assert len(passes[0]) == len(set(passes[0])) == 2 * 8 + 8
    assert all(one != other for one, other in itertools.combinations(passes[0], 2))
