"""AdaRound: never worse than the nearest code, and the best of all choices where all can be tried."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import fake_quantize, quantize
from quant_lens_engine.quantization.grid import observe_grid
from quant_lens_engine.schema import parse_scheme


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(rows: int, features: int, seed: int = 0) -> Tensor:
    return seeded(rows, features, seed=seed) @ (seeded(features, features, seed=seed + 1) + torch.eye(features))


def learned(weight: Tensor, x: Tensor, recipe: str) -> Tensor:
    model = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    with torch.no_grad():
        model.weight.copy_(weight)
    return quantize(model, recipe, Objective(model, [(x, x @ weight.T)], task="regression")).point["weight"]


def error(weight: Tensor, chosen: Tensor, x: Tensor) -> Tensor:
    """‖(W − Ŵ) X‖² of each channel."""
    return ((weight - chosen) @ x.T).square().sum(1)


@pytest.mark.parametrize("scheme", ["int2", "int3", "int3-asym", "int4-tensor", "int3-g8", "int3-full"])
def test_no_channel_is_worse_than_by_rounding_to_nearest(scheme: str) -> None:
    weight, x = seeded(24, 16), correlated(80, 16)
    found, nearest = learned(weight, x, f"{scheme}+adaround:steps=200"), fake_quantize(weight, scheme)
    ours, theirs = error(weight, found, x), error(weight, nearest, x)
    assert (ours <= theirs * (1 + 1e-9)).all()
    assert ours.sum() < 0.6 * theirs.sum()


@pytest.mark.parametrize("scheme", ["int3", "int3-asym"])
def test_a_weight_goes_up_or_down_and_nowhere_else(scheme: str) -> None:
    weight, x = seeded(24, 16), correlated(80, 16)
    found = learned(weight, x, f"{scheme}+adaround:steps=200")
    grid = observe_grid(weight, parse_scheme(scheme))
    steps = (found - weight) / grid.qparams.scale
    assert (steps.abs() < 1 + 1e-9).all()
    torch.testing.assert_close(grid.nearest(found), found)


def best_of_all(weight: Tensor, x: Tensor, scheme: str) -> Tensor:
    """The least error of each channel over every choice of up and down."""
    grid = observe_grid(weight, parse_scheme(scheme))
    below = (weight / grid.qparams.scale).floor()
    least = torch.full((len(weight),), torch.inf, dtype=weight.dtype)
    for choice in itertools.product([0, 1], repeat=weight.shape[1]):
        tried = grid.nearest((below + torch.tensor(choice)) * grid.qparams.scale)
        least = torch.minimum(least, error(weight, tried, x))
    return least


@pytest.mark.parametrize("scheme", ["int2", "int3-asym", "int4"])
def test_all_choices_tried_bound_it_from_below(scheme: str) -> None:
    """Of 256 choices a channel the very best is found for many, and most of what there is to gain is gained."""
    weight, x = seeded(24, 8), correlated(40, 8)
    found = error(weight, learned(weight, x, f"{scheme}+adaround:steps=300"), x)
    best, nearest = best_of_all(weight, x, scheme), error(weight, fake_quantize(weight, scheme), x)
    assert (found >= best * (1 - 1e-9)).all()
    assert (found <= best * (1 + 1e-9)).sum() > (nearest <= best * (1 + 1e-9)).sum()
    assert (found - best).sum() < 0.3 * (nearest - best).sum()


@pytest.mark.parametrize("scheme", ["int2", "int3-asym", "int4"])
def test_with_two_weights_it_finds_the_best_of_all_choices(scheme: str) -> None:
    weight, x = seeded(24, 2), correlated(40, 2)
    found = error(weight, learned(weight, x, f"{scheme}+adaround:steps=300"), x)
    torch.testing.assert_close(found, best_of_all(weight, x, scheme))


def test_with_orthogonal_inputs_nearest_is_best() -> None:
    weight, x = seeded(8, 10), torch.linalg.qr(seeded(30, 10, seed=1)).Q
    torch.testing.assert_close(learned(weight, x, "int3+adaround:steps=100"), fake_quantize(weight, "int3"))


def test_a_layer_makes_up_for_those_before_it() -> None:
    """What is aimed at is the float layer's output on float inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 6)).double()
    x = correlated(60, 12)
    objective = Objective(model, [(x, torch.zeros(60, 6, dtype=x.dtype))], task="regression")
    point = quantize(model, "int2+adaround:steps=300", objective).point
    hidden = torch.tanh(nn.functional.linear(x, point["0.weight"], model[0].bias)).detach()
    target = (torch.tanh(model[0](x)) @ model[2].weight.T).detach()

    def missed(second: Tensor) -> Tensor:
        return (target - hidden @ second.T).square().sum()

    assert missed(point["2.weight"]) < 0.8 * missed(fake_quantize(model[2].weight.detach(), "int2"))


def test_groups_of_a_convolution_have_inputs_of_their_own() -> None:
    torch.manual_seed(0)
    model = nn.Conv1d(4, 6, 3, groups=2, bias=False).double()
    x = seeded(6, 4, 9)
    objective = Objective(model, [(x, model(x).detach())], task="regression")
    found = quantize(model, "int2+adaround:steps=200", objective).point["weight"]

    def lost(weight: Tensor) -> Tensor:
        missed = (nn.functional.conv1d(x, weight, groups=2) - model(x)).detach()
        return missed.square().transpose(0, 1).flatten(1).sum(1)

    nearest = fake_quantize(model.weight.detach(), "int2")
    assert (lost(found) <= lost(nearest) * (1 + 1e-9)).all()
    assert lost(found).sum() < 0.98 * lost(nearest).sum()
