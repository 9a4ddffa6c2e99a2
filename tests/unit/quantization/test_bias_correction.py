"""Bias correction: the mean of each channel's output comes back."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def over(model: nn.Module, x: Tensor) -> Objective:
    double = model.double().eval()
    return Objective(double, [(x[:7], double(x[:7]).detach()), (x[7:], double(x[7:]).detach())], task="regression")


def outputs(objective: Objective) -> Tensor:
    with torch.no_grad():
        return torch.cat([objective.output(batch) for batch in objective.batches()])


class Attention(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        key, value = x[..., : self.options.get("kdim", 6)], x[..., : self.options.get("vdim", 6)]
        return self.attention(x, key, value)[0]


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (lambda: nn.Linear(6, 5), (6,), -1),
    "tokens": (lambda: nn.Linear(6, 5), (4, 6), -1),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 6, 6), 1),
    "before a normalisation": (
        lambda: nn.Sequential(nn.Conv1d(3, 4, 2, bias=False), nn.BatchNorm1d(4)), (3, 8), 1,
    ),
    "behind a normalisation": (lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 5)), (6,), -1),
    "two layers": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)), (6,), -1),
    "attention": (Attention, (5, 6), -1),
    "attention of other widths": (lambda: Attention(kdim=4, vdim=3), (5, 6), -1),
}  # fmt: skip


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest) -> tuple[Objective, int]:
    build, shape, axis = LAYERS[request.param]
    torch.manual_seed(0)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.3, 3.0)
            nn.init.normal_(module.weight)
    return over(model, seeded(20, *shape).abs()), axis


@pytest.mark.parametrize("scheme", ["int2", "int3-g4-asym", "nf4", "int3-act-int4-dynamic", "int4-act-int4"])
def test_the_mean_output_of_each_channel_is_that_of_the_float_model(case: tuple[Objective, int], scheme: str) -> None:
    objective, axis = case
    means = {}
    for name in (scheme, f"{scheme}+bias-correction"):
        difference = outputs(quantize(objective.model, name, objective).live(objective)) - outputs(objective)
        means[name] = difference.movedim(axis, -1).flatten(0, -2).mean(0).abs()
    before, after = means.values()
    assert before.max() > 1e-3
    assert after.max() < 1e-9


def test_the_correction_is_the_closed_form() -> None:
    """Δb = (W − Q(W))·E[x] for a single layer."""
    torch.manual_seed(0)
    objective = over(nn.Linear(6, 5), seeded(20, 6) + 1)
    plain, corrected = (quantize(objective.model, name, objective) for name in ("int3", "int3+bias-correction"))
    mean = (seeded(20, 6) + 1).mean(0)
    shift = (objective.model.weight - plain.point["weight"]) @ mean
    torch.testing.assert_close(corrected.point["bias"], (objective.model.bias + shift).detach())
    assert torch.equal(corrected.point["weight"], plain.point["weight"])
    again = corrected.requantize({"bias": objective.model.bias.detach()})
    assert torch.equal(again["bias"], corrected.point["bias"])


def test_the_correction_before_a_normalisation_passes_through_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)).double()
    with torch.no_grad():
        model[1].running_var.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0]))
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    x = seeded(20, 6) + 1
    objective = over(model, x)
    variant = quantize(objective.model, "int3+bias-correction", objective)
    moved = (objective.model[0].weight - variant.point["0.weight"]) @ x.mean(0)
    factors = objective.model[1].weight / (objective.model[1].running_var + 1e-5).sqrt()
    torch.testing.assert_close(variant.point["1.bias"], (objective.model[1].bias + moved * factors).detach())


def test_a_layer_without_a_place_for_it_is_said() -> None:
    torch.manual_seed(0)
    objective = over(nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 2)), seeded(20, 6))
    variant = quantize(objective.model, "int3+bias-correction", objective)
    assert "bias-correction: 0 have neither a bias nor a batch normalisation behind" in variant.notes
    assert not torch.equal(variant.point["2.bias"], objective.point["2.bias"])


def test_only_biases_and_normalisations_move() -> None:
    torch.manual_seed(0)
    objective = over(nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.Linear(4, 2)), seeded(20, 6))
    plain, corrected = (quantize(objective.model, name, objective).point for name in ("int3", "int3+bias-correction"))
    assert {name for name in plain if not torch.equal(plain[name], corrected[name])} == {"0.bias", "2.bias"}
