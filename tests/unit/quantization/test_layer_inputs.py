"""What is captured of a layer's inputs, against the layer itself: output = matrix @ columns + bias, exactly."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.filters import FilterLayout
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.quantization.draft import output_error
from quant_lens_engine.quantization.layer_inputs import (
    InputWatch,
    by_column,
    by_feature,
    measure_against_float,
    measure_moments,
    why_no_inputs,
)
from quant_lens_engine.quantization.layer_order import run_order
from quant_lens_engine.quantization.layers import WeightSite, survey_weights
from quant_lens_engine.quantization.rounding import Scaling, per_part


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def over(model: nn.Module, *inputs: Tensor) -> Objective:
    """Regression on zeros of whatever shape the model answers with."""
    torch.manual_seed(0)
    double = model.double().eval()
    with torch.no_grad():
        return Objective(double, [(x, torch.zeros_like(double(x))) for x in inputs], task="regression")


def sites_of(objective: Objective) -> list[WeightSite]:
    return survey_weights(objective.model).sites


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "1d": (lambda: nn.Conv1d(4, 6, 3), (4, 9)),
    "1d strided, dilated, padded": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2), (4, 11)),
    "1d grouped": (lambda: nn.Conv1d(4, 6, 2, groups=2), (4, 7)),
    "1d same": (lambda: nn.Conv1d(4, 6, 4, padding="same", dilation=2), (4, 9)),
    "2d": (lambda: nn.Conv2d(3, 5, (2, 3)), (3, 6, 7)),
    "2d strided": (lambda: nn.Conv2d(3, 5, 3, stride=(2, 3), padding=(1, 2), dilation=(1, 2)), (3, 9, 10)),
    "2d depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 6, 5)),
    "2d grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, stride=2), (4, 7, 7)),
    "2d same, even kernel": (lambda: nn.Conv2d(3, 5, (2, 4), padding="same"), (3, 5, 6)),
    "2d valid": (lambda: nn.Conv2d(3, 5, 3, padding="valid"), (3, 5, 6)),
    "2d reflect": (lambda: nn.Conv2d(3, 5, 3, padding=(1, 2), padding_mode="reflect"), (3, 5, 6)),
    "2d circular same": (lambda: nn.Conv2d(3, 5, (3, 2), padding="same", padding_mode="circular"), (3, 5, 6)),
    "2d replicate": (lambda: nn.Conv2d(3, 5, 3, padding=1, padding_mode="replicate"), (3, 5, 6)),
    "3d": (lambda: nn.Conv3d(2, 3, (2, 3, 2), stride=(1, 2, 1), padding=(1, 0, 1)), (2, 4, 5, 4)),
    "3d grouped, dilated": (lambda: nn.Conv3d(4, 4, 2, groups=2, dilation=2), (4, 4, 5, 4)),
}


def columns_of(objective: Objective, site: WeightSite, batch: int = 0) -> Tensor:
    """All that a layer's matrix is multiplied with ``(parts, positions, elements)``."""
    pieces = list(InputWatch(objective, [site], None).run(batch, None)[site.parameter])
    return torch.cat([piece.values for piece in pieces], dim=1)


def outputs(matrix: Tensor, columns: Tensor) -> Tensor:
    """``(positions, channels)``: each part of the channels has columns of its own."""
    return torch.cat([column @ rows.T for rows, column in zip(per_part(matrix, len(columns)), columns, strict=True)], 1)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_is_its_matrix_times_what_was_captured(kind: str) -> None:
    build, shape = CONVOLUTIONS[kind]
    x = seeded(3, *shape)
    objective = over(build(), x)
    (site,) = sites_of(objective)
    module = objective.model
    result = outputs(module.weight.detach().flatten(1), columns_of(objective, site)) + module.bias.detach()
    spatial = module(x).shape[2:]
    torch.testing.assert_close(result.reshape(3, *spatial, -1).movedim(-1, 1), module(x).detach())


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_moments_are_those_of_the_columns(kind: str) -> None:
    build, shape = CONVOLUTIONS[kind]
    objective = over(build(), seeded(3, *shape), seeded(2, *shape, seed=1))
    (site,) = sites_of(objective)
    columns = torch.cat([columns_of(objective, site, batch) for batch in (0, 1)], dim=1)
    moments = measure_moments(objective, [site])[site.parameter]
    torch.testing.assert_close(moments.gram, columns.transpose(1, 2) @ columns)
    torch.testing.assert_close(moments.total, columns.sum(1))
    torch.testing.assert_close(moments.mean, columns.mean(1))
    torch.testing.assert_close(moments.magnitude, columns.abs().sum(1))
    assert torch.equal(moments.largest, columns.abs().amax(1))
    assert moments.count.tolist() == [columns.shape[1]] * len(columns)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_the_output_error_is_that_of_the_layer(kind: str) -> None:
    build, shape = CONVOLUTIONS[kind]
    x = seeded(3, *shape)
    objective = over(build(), x)
    (site,) = sites_of(objective)
    module, difference = objective.model, seeded(*objective.model.weight.shape, seed=2)
    gram = measure_moments(objective, [site])[site.parameter].gram
    before = module(x).detach()
    with torch.no_grad():
        module.weight += difference
    expected = (module(x).detach() - before).square().transpose(0, 1).flatten(1).sum(1)
    torch.testing.assert_close(output_error(difference.flatten(1), gram), expected)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_factors_of_features_are_factors_of_their_columns(kind: str) -> None:
    """W·diag(c) on inputs divided channel by channel is the same layer."""
    build, shape = CONVOLUTIONS[kind]
    module, x = build().double(), seeded(3, *shape)
    factors = seeded(module.in_channels, seed=3).exp()
    columns = by_column(factors, module)
    before = module(x).detach()
    scaled = Scaling(columns=columns).apply(module.weight.detach().flatten(1))
    with torch.no_grad():
        module.weight.copy_(scaled.reshape(module.weight.shape))
    torch.testing.assert_close(module(x / factors.reshape(-1, *[1] * (x.dim() - 2))).detach(), before)
    assert torch.equal(by_feature(columns, module), factors)


def test_a_linear_layer_with_tokens_and_the_rows_of_every_batch() -> None:
    first, second = seeded(3, 5, 4), seeded(2, 5, 4, seed=1)
    objective = over(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)), first, second)
    rows = torch.cat([first, second]).reshape(-1, 4)
    hidden = torch.tanh(objective.model[0](rows)).detach()
    for site, x in zip(sites_of(objective), (rows, hidden), strict=True):
        moments = measure_moments(objective, [site])[site.parameter]
        torch.testing.assert_close(moments.gram[0], x.T @ x)
        torch.testing.assert_close(moments.mean[0], x.mean(0))
        assert moments.cross is None
    both = measure_moments(objective, sites_of(objective), second=False)
    assert set(both) == {"0.weight", "2.weight"}
    assert both["0.weight"].gram is None
    torch.testing.assert_close(both["2.weight"].total[0], hidden.sum(0))


def test_portions_that_fit_in_memory_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = over(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2)), seeded(6, 3, 5, 5))
    whole = measure_moments(objective, sites_of(objective))
    monkeypatch.setattr("quant_lens_engine.quantization.layer_inputs._MOMENT_BYTES", 1)
    monkeypatch.setattr("quant_lens_engine.quantization.layer_inputs._ELEMENTS", 100)
    parts = measure_moments(objective, sites_of(objective))
    assert list(parts) == list(whole)
    for name in whole:
        torch.testing.assert_close(parts[name].gram, whole[name].gram)
        assert torch.equal(parts[name].count, whole[name].count)


class Attention(nn.Module):
    def __init__(self, cross: bool, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)
        self.key_width, self.value_width = options.get("kdim", 6), options.get("vdim", 6)
        self.cross = cross

    def inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.cross:
            return x, x, x
        memory = x.flip(1)[:, :-1] * 2
        return x, memory[..., : self.key_width], memory[..., -self.value_width :] + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(*self.inputs(x), need_weights=False)[0]


@pytest.mark.parametrize(
    ("cross", "options"), [(False, {}), (True, {}), (True, {"kdim": 4, "vdim": 5}), (True, {"kdim": 4})], ids=str
)
def test_projections_of_attention(cross: bool, options: dict[str, int]) -> None:
    x = seeded(3, 5, 6)
    objective = over(Attention(cross, **options), x)
    attention = objective.model.attention
    inputs = [part.reshape(-1, part.shape[-1]) for part in objective.model.inputs(x)]
    weights = (
        [attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight]
        if options
        else attention.in_proj_weight.chunk(3)
    )
    expected = [part @ weight.detach().T for part, weight in zip(inputs, weights, strict=True)]
    sites = sites_of(objective)
    moments = measure_moments(objective, sites)
    if options:
        for site, part, result in zip(sites[:3], inputs, expected, strict=True):
            columns = columns_of(objective, site)
            torch.testing.assert_close(outputs(objective.point[site.parameter], columns), result)
            torch.testing.assert_close(moments[site.parameter].gram[0], part.T @ part)
    elif cross:
        found = moments["attention.in_proj_weight"]
        for number, part in enumerate(inputs):
            torch.testing.assert_close(found.gram[number], part.T @ part)
            torch.testing.assert_close(found.mean[number], part.mean(0))
        assert found.count.tolist() == [len(part) for part in inputs]
    else:
        columns = columns_of(objective, sites[0])
        torch.testing.assert_close(outputs(attention.in_proj_weight.detach(), columns), torch.cat(expected, 1))
    context = columns_of(objective, sites[-1])[0]
    result = context @ attention.out_proj.weight.T + attention.out_proj.bias
    torch.testing.assert_close(result.reshape(3, 5, 6), objective.model(x))


class Shared(nn.Module):
    """Query, key and value read one tensor; one layer is called twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.unused = (nn.Linear(4, 4) for _ in range(4))
        self.twice = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.query(x) * self.key(x) + self.value(x)
        return self.twice(torch.tanh(self.twice(input=mixed)))


def test_layers_that_read_the_same_tensor_are_found() -> None:
    objective = over(Shared(), seeded(5, 4))
    groups = InputWatch(objective, sites_of(objective), None).shared_inputs()
    assert [[site.layer for site in group] for group in groups] == [["query", "key", "value"], ["unused"], ["twice"]]


def test_keys_and_values_of_one_width_are_read_together() -> None:
    class Memory(Attention):
        def inputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            memory = x[..., :4]
            return x, memory, memory

    objective = over(Memory(True, kdim=4, vdim=4), seeded(3, 5, 6))
    groups = InputWatch(objective, sites_of(objective), None).shared_inputs()
    assert [[site.layer.rpartition(".")[2] for site in group] for group in groups] == [
        ["q_proj"], ["k_proj", "v_proj"], ["out_proj"],
    ]  # fmt: skip


def test_every_call_of_a_layer_counts_and_no_call_is_said() -> None:
    x = seeded(5, 4)
    objective = over(Shared(), x)
    moments = measure_moments(objective, sites_of(objective))
    model = objective.model
    mixed = (model.query(x) * model.key(x) + model.value(x)).detach()
    both = torch.cat([mixed, torch.tanh(model.twice(mixed)).detach()])
    torch.testing.assert_close(moments["twice.weight"].gram[0], both.T @ both)
    assert moments["twice.weight"].count.tolist() == [10]
    assert not moments["unused.weight"].seen
    assert moments["query.weight"].seen


def test_a_network_that_writes_into_what_a_layer_took() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.tanh(x)
            hidden += self.first(hidden)
            return self.second(hidden.relu_())

    x = seeded(5, 4)
    objective = over(InPlace(), x, seeded(3, 4, seed=1))
    hidden = torch.tanh(x)
    torch.testing.assert_close(columns_of(objective, sites_of(objective)[0])[0], hidden)
    later = (hidden + objective.model.first(hidden)).relu().detach()
    torch.testing.assert_close(columns_of(objective, sites_of(objective)[1])[0], later)
    watch = InputWatch(objective, sites_of(objective), None)
    found = {name: next(pieces).values[0] for name, pieces in watch.run(0, None).items()}
    torch.testing.assert_close(found["first.weight"], hidden)
    torch.testing.assert_close(found["second.weight"], later)
    assert len(watch.shared_inputs()) == 2, "the same memory at another time is another tensor"


def test_inputs_at_another_point_and_crosswise_with_the_float_ones() -> None:
    x = seeded(20, 4)
    objective = over(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), x)
    point = objective.point | {"0.weight": objective.point["0.weight"] * 2}
    site = sites_of(objective)[1]
    model = objective.model
    there = torch.tanh(F.linear(x, point["0.weight"], model[0].bias)).detach()
    here = torch.tanh(model[0](x)).detach()
    torch.testing.assert_close(measure_moments(objective, [site], point=point)["2.weight"].gram[0], there.T @ there)
    crossed = measure_against_float(objective, site, point)
    torch.testing.assert_close(crossed.gram[0], there.T @ there)
    torch.testing.assert_close(crossed.cross[0], here.T @ there)


def test_inputs_behind_rounded_activations_are_rounded() -> None:
    objective = over(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), seeded(20, 4))
    variant = quantize(objective.model, "w16a4-dynamic")
    (site,) = (site for site in sites_of(objective) if site.layer == "0")
    columns = torch.cat(
        [piece.values for piece in InputWatch(objective, [site], variant.forward).run(0, None)["0.weight"]]
    )[0]
    scale = columns.abs().amax(1, keepdim=True) / 7
    torch.testing.assert_close(columns / scale, (columns / scale).round())


def test_short_dtypes_do_not_shorten_the_moments() -> None:
    """256² is beyond fp16, and 8 bits of mantissa lose what 4096 additions of 1 gain."""
    moments = {}
    for dtype, size in ((torch.float16, 256.0), (torch.bfloat16, 1.0)):
        model = nn.Linear(2, 1, bias=False).to(dtype)
        rows = torch.full((4096, 2), size).to(dtype)
        objective = Objective(model, [(rows, torch.zeros(4096, 1))], task="regression")
        moments[dtype] = measure_moments(objective, sites_of(objective))["weight"]
    assert moments[torch.float16].gram[0, 0, 1] == 4096 * 256.0**2
    assert moments[torch.bfloat16].gram[0, 0, 1] == 4096


def test_layers_whose_inputs_are_no_matrix_say_why() -> None:
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 4), "transposed": nn.ConvTranspose1d(4, 4, 2), "lstm": nn.LSTM(4, 4),
            "cell": nn.GRUCell(4, 4), "linear": nn.Linear(4, 4), "conv": nn.Conv1d(4, 4, 2),
        }
    )  # fmt: skip
    reasons = {site.module: why_no_inputs(model, site) for site in survey_weights(model).sites}
    assert {name for name, reason in reasons.items() if reason is None} == {"linear", "conv"}
    assert "overlap" in reasons["transposed"]
    assert "looks rows up" in reasons["embedding"]
    expert = WeightSite("x", "linear", "Experts", "linear.weight", FilterLayout(experts=True))
    assert "expert" in why_no_inputs(model, expert)


def test_layers_run_in_the_order_of_their_calls() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body, self.stem, self.unused = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(self.stem(x)))

    assert run_order(over(Backwards(), seeded(3, 4))) == ["stem", "body", "head", ""]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_a_network_that_keeps_a_computed_weight_can_be_watched() -> None:
    """After a pass with gradients the weight of an old-style weight_norm is no leaf, which torch does not copy."""
    objective = over(nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)), seeded(3, 4))
    loss = objective.terms(next(objective.batches()), {n: p.requires_grad_() for n, p in objective.point.items()})
    assert loss.losses.requires_grad
    assert run_order(objective) == ["0", "1", ""]


def test_an_empty_input_adds_nothing() -> None:
    class Routed(nn.Module):
        """The second expert never has a row."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            nobody = x[:0]
            return torch.cat([self.one(x), self.two(nobody)])

    objective = over(Routed(), seeded(5, 4))
    moments = measure_moments(objective, sites_of(objective))
    assert moments["one.weight"].seen
    assert not moments["two.weight"].seen
    for name in ("w8a8", "w8a8-dynamic", "int8-act-int8-tensor-dynamic", "w4a4-mxfp4", "w4a4-nvfp4"):
        variant = quantize(objective.model, name, objective)
        assert torch.isfinite(torch.tensor(variant.live(objective).loss()))


def test_fewer_positions_are_filled_up_with_zeros_that_do_not_count() -> None:
    objective = over(Attention(True), seeded(2, 5, 6))
    found = measure_moments(objective, sites_of(objective))["attention.in_proj_weight"]
    query, key, _ = objective.model.inputs(seeded(2, 5, 6))
    torch.testing.assert_close(found.mean[0], query.reshape(-1, 6).mean(0))
    torch.testing.assert_close(found.mean[1], key.reshape(-1, 6).mean(0))
