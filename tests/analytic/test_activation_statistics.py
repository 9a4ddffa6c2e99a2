"""Statistics of activations against closed forms and against a direct computation of everything at once."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.diagnosis.activation_statistics import float_flow, measure_activations
from quant_lens_engine.diagnosis.layer_watch import WatchedLayer
from quant_lens_engine.diagnosis.moments import Moments
from quant_lens_engine.diagnosis.output_tally import FINE_BINS, OutputTally, Ruler
from quant_lens_engine.measurement import VariantMeasurement
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import float_variant, quantize
from quant_lens_engine.schema import ActivationOptions, Activations, CurvatureOptions, LineOptions

ROWS = 37


def images(rows: int = ROWS, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, 6, 6, generator=generator).double(), torch.arange(rows) % 4


def convolutions() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3, groups=3),
        nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(96, 4),
    ).double()  # fmt: skip


def measured(model: nn.Module, batches: list, scheme: str | None, **options) -> Activations:
    objective = Objective(model, batches, **options)
    variant = float_variant(objective.model) if scheme is None else quantize(objective.model, scheme, objective)
    measurement = VariantMeasurement(objective, CurvatureOptions(), LineOptions())
    return measurement.flow(variant, "activations/x").activations


def outputs_of(objective: Objective, names: list[str], inputs: Tensor) -> dict[str, Tensor]:
    """Every layer's output, all rows at once, by plain hooks that copy."""
    seen: dict[str, Tensor] = {}
    hooks = [
        objective.model.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: output.clone()})
        )
        for name in names
    ]
    for batch in objective.over([(inputs, torch.zeros(len(inputs)).long())]).batches():
        objective.scores(batch)
    for hook in hooks:
        hook.remove()
    return seen


def db(signal: Tensor, noisy: Tensor) -> float:
    return float(10 * torch.log10(signal.square().sum() / (signal - noisy).square().sum()))


def test_moments_of_pieces_are_those_of_the_whole() -> None:
    values = torch.randn(1000, dtype=torch.float64).exp() + 1e3
    pieces, whole = Moments(), Moments()
    whole.add(values)
    for piece in values.split([1, 2, 500, 497]):
        pieces.add(piece)
    apart = values - values.mean()
    kurtosis = float(apart.pow(4).mean() / apart.square().mean() ** 2)
    for found in (pieces, whole):
        assert found.count == 1000
        assert found.mean == pytest.approx(float(values.mean()), rel=1e-14)
        assert found.std == pytest.approx(float(values.std(correction=0)), rel=1e-11)
        assert found.kurtosis == pytest.approx(kurtosis, rel=1e-9)


def test_a_linear_layer_with_known_inputs() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    model[0].weight.data = torch.tensor([[1.0, 0.0], [0.0, 10.0]]).double()
    rows = torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [1.0, -1.0]]).double()
    found = measured(model, [(rows, torch.zeros(4).long())], None).layers[0]
    output = found.output
    assert output is not None
    assert (output.minimum, output.maximum, output.elements, output.channels) == (-10.0, 10.0, 8, 2)
    assert output.mean == pytest.approx((1 - 10) / 8)
    assert output.channel_range_ratio == pytest.approx(20 / 11)  # ranges 2 and 20, median 11
    assert output.histogram is not None
    assert (output.histogram.low, output.histogram.high) == (-10.0, 10.0)
    assert sum(output.histogram.counts) == 8
    assert output.histogram.counts[0] == 2
    assert output.histogram.counts[-1] == 1, "a value on the right edge is in the last bin"
    assert found.sqnr_db is None
    assert found.reason == "the float model is what SQNR compares with"


@pytest.mark.parametrize("scheme", ["int4", "w8a8", "w8a8-dynamic", "int3+gptq"])
def test_sqnr_is_that_of_a_direct_computation(scheme: str) -> None:
    x, y = images()
    batches = [(x[start : start + 10], y[start : start + 10]) for start in range(0, ROWS, 10)]
    objective = Objective(convolutions(), batches)
    variant = quantize(objective.model, scheme, objective)
    flow = VariantMeasurement(objective, CurvatureOptions(), LineOptions()).flow(variant, "activations/x").activations
    names = ["0", "3", "6"]
    assert [layer.name for layer in flow.layers] == names
    assert all(layer.quantized and layer.reason is None for layer in flow.layers)
    plain, rounded = (outputs_of(o, names, x) for o in (objective, variant.live(objective)))
    for layer in flow.layers:
        assert layer.sqnr_db == pytest.approx(db(plain[layer.name], rounded[layer.name]), abs=1e-8)
        assert layer.output is not None
        values = rounded[layer.name].flatten()
        assert layer.output.mean == pytest.approx(float(values.mean()), rel=1e-9)
        assert layer.output.std == pytest.approx(float(values.std(correction=0)), rel=1e-9)
    # by itself: the quantized layer on the float model's input; here the input of the last one
    last = flow.layers[-1]
    given = plain["3"].relu().flatten(1)
    if variant.forward is not None:
        given = variant.forward.quantizers["6"](given)
    alone = F.linear(given, variant.point["6.weight"], variant.point["6.bias"])
    assert last.isolated_sqnr_db == pytest.approx(db(plain["6"], alone), abs=1e-8)
    first = flow.layers[0]
    assert first.isolated_sqnr_db == pytest.approx(first.sqnr_db, abs=1e-9), "nothing before it is quantized"


def test_batches_do_not_matter() -> None:
    x, y = images()
    whole = measured(convolutions(), [(x, y)], "w4a8")
    parts = measured(convolutions(), [(x, y)], "w4a8", micro_batch=7)
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert one.sqnr_db == pytest.approx(other.sqnr_db, rel=1e-6)
        assert one.isolated_sqnr_db == pytest.approx(other.isolated_sqnr_db, rel=1e-6)
        assert one.output is not None
        assert other.output is not None
        for key, value in one.output.model_dump(exclude={"histogram"}).items():
            assert getattr(other.output, key) == pytest.approx(value, rel=1e-6)
        assert one.input is not None
        assert other.input is not None
        assert one.input.model_dump() == pytest.approx(other.input.model_dump(), rel=1e-6)


def test_outputs_that_do_not_fit_are_met_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = images()
    whole = measured(convolutions(), [(x, y)], "int4")
    row = 8 * (6 * 36 + 6 * 16 + 4)
    monkeypatch.setattr("quant_lens_engine.diagnosis.activation_statistics.HELD_BYTES", {"cpu": 5 * row + 1})
    seen = []
    add = OutputTally.add
    monkeypatch.setattr(OutputTally, "add", lambda self, values: (seen.append(len(values)), add(self, values)))
    parts = measured(convolutions(), [(x, y)], "int4")
    assert sorted(set(seen)) == [2, 5, 37], "37 in the float model's first pass, then 5 and the rest"
    assert [layer.sqnr_db for layer in parts.layers] == pytest.approx([layer.sqnr_db for layer in whole.layers])


def test_where_nothing_is_lost_there_is_no_sqnr_and_a_reason() -> None:
    x, y = images()
    model = convolutions()
    model[6].weight.data = model[6].weight.data.sign() * 127  # the scale is 1
    model[6].bias.data.zero_()
    layers = measured(model, [(x, y)], "int8+skip:0:3").layers
    assert [layer.quantized for layer in layers] == [False, False, True]
    assert all(layer.sqnr_db is None and "nothing was lost" in (layer.reason or "") for layer in layers)


def test_a_variant_shares_its_edges_with_the_float_model_and_counts_what_lies_beyond() -> None:
    x, y = images()
    plain, coarse = (measured(convolutions(), [(x, y)], scheme) for scheme in (None, "int2"))
    for one, other in zip(plain.layers, coarse.layers, strict=True):
        assert one.output is not None
        assert other.output is not None
        a, b = one.output.histogram, other.output.histogram
        assert a is not None
        assert b is not None
        assert (a.low, a.high, len(a.counts)) == (b.low, b.high, len(b.counts))
        assert a.below == a.above == 0
        assert sum(a.counts) == one.output.elements
        assert sum(b.counts) + b.below + b.above == other.output.elements
        assert (b.below > 0) == (other.output.minimum < b.low)  # type: ignore[operator]


def test_percentiles_are_exact_to_a_bin_and_outliers_are_counted_on_the_float_models_ruler() -> None:
    values = torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    low, high = (float(end) for end in values.aminmax())
    ruler = Ruler(low, high, float(values.mean()), float(values.std(correction=0)))
    tally = OutputTally(-1, ruler)
    for part in values.split(30_000):
        tally.add(part[:, None])
    found = tally.statistics(64)
    width = (high - low) / FINE_BINS
    for share, seen in ((0.001, found.low_percentile), (0.999, found.high_percentile)):
        assert seen == pytest.approx(float(values.quantile(share)), abs=width)
    assert found.outlier_share == 0
    assert found.kurtosis == pytest.approx(3, abs=0.05)
    assert found.channel_range_ratio is None, "a single channel has no other to compare with"
    scaled = OutputTally(-1, ruler)
    scaled.add(7 * values)
    expected = float(((7 * values - ruler.mean).abs() > 6 * ruler.std).double().mean())
    assert scaled.statistics(64).outlier_share == pytest.approx(expected)
    assert scaled.statistics(64).high_percentile <= 7 * high  # type: ignore[operator]


def test_a_constant_output_and_one_that_is_not_finite() -> None:
    tally = OutputTally(-1, Ruler(2.0, 2.0, 2.0, 0.0))
    tally.add(torch.full((3, 4), 2.0))
    found = tally.statistics(64)
    assert (found.minimum, found.maximum, found.std, found.kurtosis) == (2.0, 2.0, 0.0, None)
    assert (found.histogram, found.outlier_share, found.channel_range_ratio) == (None, None, None)
    broken = OutputTally(-1, Ruler(0.0, 1.0, 0.5, 0.1))
    broken.add(torch.tensor([[0.25, math.nan], [math.inf, 0.75]]))
    found = broken.statistics(64)
    assert (found.elements, found.non_finite, found.mean) == (4, 2, 0.5)
    assert found.histogram is not None
    assert sum(found.histogram.counts) == 2


class Several(nn.Module):
    """An embedding, attention, a recurrent layer, a layer that runs twice, and one that never does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.recurrent = nn.LSTM(8, 8, batch_first=True)
        self.twice = nn.Linear(8, 8)
        self.unused = nn.Linear(3, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        found, _ = self.recurrent(self.attention(self.embed(tokens)))
        found = self.twice(self.twice(found).relu())
        return F.linear(found.mean(1), self.embed.weight)


@pytest.mark.parametrize("scheme", [None, "int8", "w8a8-dynamic", "w8a8-attn"])
def test_attention_recurrent_layers_embeddings_and_weights_that_functions_are_given(scheme: str | None) -> None:
    torch.manual_seed(0)
    model = Several()
    tokens = torch.randint(0, 11, (9, 5), generator=torch.Generator().manual_seed(0))
    batches = [(part, part[:, 0]) for part in tokens.split(4)]
    found = measured(model, batches, scheme)
    names = ["embed", "attention.self_attn", "attention.linear1", "attention.linear2", "recurrent", "twice", "unused"]
    assert [layer.name for layer in found.layers] == names
    assert "not called" in (found.layers[-1].reason or "")
    by_name = {layer.name: layer for layer in found.layers[:-1]}
    assert {name: layer.output.elements for name, layer in by_name.items() if layer.output} == {
        "embed": 360, "attention.self_attn": 360, "attention.linear1": 720, "attention.linear2": 360,
        "recurrent": 360, "twice": 720,
    }  # fmt: skip
    if scheme is not None:
        assert all(layer.sqnr_db and layer.isolated_sqnr_db for layer in by_name.values())
        assert by_name["embed"].sqnr_db == pytest.approx(by_name["embed"].isolated_sqnr_db)
    if scheme == "w8a8-dynamic":
        assert by_name["twice"].input is not None
        assert by_name["twice"].input.clipped_share is None
        assert by_name["attention.self_attn"].input is not None


def test_a_static_range_says_what_it_clips() -> None:
    x, y = images()
    calibration = x[:20] * 0.3
    objective = Objective(convolutions(), [(x, y)])
    variant = quantize(objective.model, "w8a8-min-max", objective.over([(calibration, y[:20])]))
    measurement = VariantMeasurement(objective, CurvatureOptions(), LineOptions())
    first = measurement.flow(variant, "activations/x").activations.layers[0]
    assert first.input is not None
    assert (first.input.minimum, first.input.maximum) == (float(x.min()), float(x.max()))
    assert first.input.high == pytest.approx(float(calibration.max()), rel=1e-6)
    outside = (x < first.input.low) | (x > first.input.high)  # type: ignore[operator]
    assert first.input.clipped_share == pytest.approx(float(outside.double().mean()))
    assert first.input.clipped_share > 0.1


def test_hooks_are_gone_afterwards_whatever_happens() -> None:
    x, y = images()
    objective = Objective(convolutions(), [(x, y)])
    layers = [WatchedLayer(name) for name in ("0", "3", "6")]
    flow = float_flow(objective, layers)

    class BrokenError(Exception):
        pass

    def fails(_: Objective) -> Objective:
        broken = objective.at({})
        broken.scores = lambda _: (_ for _ in ()).throw(BrokenError)  # type: ignore[assignment]
        return broken

    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    with pytest.raises(BrokenError):
        measure_activations(objective, layers, flow, live=fails, options=ActivationOptions())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in objective.model.modules())
    after = objective.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_deeper_layers_carry_the_loss_of_those_before() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(6)])
    rows = torch.randn(64, 16)
    layers = measured(model, [(rows, torch.zeros(64).long())], "int4").layers
    together = [layer.sqnr_db or 0.0 for layer in layers]
    assert all(a > b for a, b in pairwise(together)), "a chain of linear layers loses with each of them"
