"""GPTQ against the same idea written out with exact least squares, and against brute force."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import fake_quantize, quantize
from quant_lens_engine.quantization.algorithms.gptq import inverse_factor
from quant_lens_engine.quantization.grid import observe_grid
from quant_lens_engine.schema import parse_scheme

TINY = 1e-9
"""A damping that changes nothing but keeps a factorisation possible."""


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(rows: int, features: int, seed: int = 0) -> Tensor:
    return seeded(rows, features, seed=seed) @ (seeded(features, features, seed=seed + 1) + torch.eye(features))


def layer(weight: Tensor) -> nn.Linear:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    with torch.no_grad():
        module.weight.copy_(weight)
    return module


def rounded(weight: Tensor, x: Tensor, recipe: str) -> Tensor:
    model = layer(weight)
    objective = Objective(model, [(x, x @ weight.T)], task="regression")
    return quantize(model, recipe, objective).point["weight"]


def error(weight: Tensor, chosen: Tensor, x: Tensor) -> Tensor:
    """‖(W − Ŵ) X‖² of each channel."""
    return ((weight - chosen) @ x.T).square().sum(1)


def solved_again(weight: Tensor, x: Tensor, scheme: str, damping: float, order: list[int]) -> Tensor:
    """Fix a column at its nearest value, solve for all that are still free by least squares, and so on."""
    gram = x.T @ x
    hessian = gram + damping * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    grid = observe_grid(weight, parse_scheme(scheme))
    chosen, current = weight.clone(), weight.clone()
    for place, column in enumerate(order):
        index = torch.tensor([column])
        chosen[:, index] = grid.nearest(current[:, index], index)
        fixed, free = order[: place + 1], order[place + 1 :]
        if free:
            moved = (chosen - weight)[:, fixed] @ hessian[fixed][:, free]
            current[:, free] = weight[:, free] - torch.linalg.solve(hessian[free][:, free], moved.T).T
    return chosen


@pytest.mark.parametrize("scheme", ["int3", "int4-asym", "int3-tensor", "nf4", "mxfp4", "nvfp4", "fp8-e4m3-b4"])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_rounding_and_solving_in_turn(scheme: str, seed: int) -> None:
    weight, x = seeded(5, 12, seed=seed + 10), correlated(40, 12, seed)
    expected = solved_again(weight, x, scheme, 0.01, list(range(12)))
    for block in (1, 5, 128):
        found = rounded(weight, x, f"{scheme}+gptq:block={block}")
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(expected, fake_quantize(weight, scheme))


@pytest.mark.parametrize("scheme", ["int3", "int4-asym", "int3-g4", "mxfp4", "nf4-g6"])
def test_act_order_begins_with_the_largest_inputs(scheme: str) -> None:
    weight, x = seeded(5, 12, seed=3), correlated(40, 12) * seeded(12, seed=4).exp()
    order = x.square().sum(0).argsort(descending=True, stable=True).tolist()
    assert order != list(range(12))
    expected = solved_again(weight, x, scheme, 0.01, order)
    torch.testing.assert_close(rounded(weight, x, f"{scheme}+gptq:act_order=true"), expected)


def test_act_order_does_not_see_how_columns_are_numbered() -> None:
    weight, x = seeded(5, 12, seed=3), correlated(40, 12)
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    plain, other = (
        rounded(weight[:, order], x[:, order], "int3+gptq:act_order=true") for order in (torch.arange(12), shuffled)
    )
    torch.testing.assert_close(other, plain[:, shuffled])


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_observed_when_their_turn_comes(seed: int) -> None:
    weight, x = seeded(5, 12, seed=seed + 10), correlated(40, 12, seed)
    gram = x.T @ x
    hessian = gram + TINY * gram.diagonal().mean() * torch.eye(12, dtype=gram.dtype)
    scheme = parse_scheme("int3-g5")
    chosen, current = weight.clone(), weight.clone()
    for first in (0, 5, 10):
        group = list(range(first, min(first + 5, 12)))
        grid = observe_grid(current[:, group], scheme)
        for place, column in enumerate(group):
            index = torch.tensor([place])
            chosen[:, [column]] = grid.nearest(current[:, [column]], index)
            free = list(range(column + 1, 12))
            if free:
                moved = (chosen - weight)[:, : column + 1] @ hessian[: column + 1][:, free]
                current[:, free] = weight[:, free] - torch.linalg.solve(hessian[free][:, free], moved.T).T
    torch.testing.assert_close(rounded(weight, x, f"int3-g5+gptq:damping={TINY}"), chosen)


@pytest.mark.parametrize("scheme", ["int3", "int4-g4-asym", "nf4", "mxfp4", "nvfp4", "fp8-e5m2", "int2-full"])
def test_the_layer_loses_less_than_by_rounding_to_nearest(scheme: str) -> None:
    for seed in range(5):
        weight, x = seeded(16, 32, seed=seed + 10), correlated(200, 32, seed)
        found = error(weight, rounded(weight, x, f"{scheme}+gptq"), x).sum()
        assert found < 0.9 * error(weight, fake_quantize(weight, scheme), x).sum()


@pytest.mark.parametrize("scheme", ["int3", "int4-g4-asym", "nf4-g8", "mxfp4", "nvfp4", "fp8-e4m3-tensor"])
@pytest.mark.parametrize("options", ["", ":act_order=true", ":block=3"])
def test_with_orthogonal_inputs_nothing_can_be_made_up(scheme: str, options: str) -> None:
    weight = seeded(6, 16)
    x = torch.linalg.qr(seeded(30, 16, seed=1)).Q * seeded(16, seed=2).exp()
    torch.testing.assert_close(
        rounded(weight, x, f"{scheme}+gptq{options}"), fake_quantize(weight, scheme), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("scheme", ["int2", "int2-asym", "int2-full"])
def test_two_weights_are_the_best_behind_the_first(scheme: str) -> None:
    """The first goes to its nearest code; of all codes the second takes the one that then loses least."""
    for seed in range(20):
        weight, x = seeded(1, 2, seed=seed), correlated(20, 2, seed)
        found = rounded(weight, x, f"{scheme}+gptq:damping={TINY}")
        grid = observe_grid(weight, parse_scheme(scheme))
        codes = sorted({float(grid.nearest(weight * factor)[0, 1]) for factor in torch.linspace(-9, 9, 400)})
        first = grid.nearest(weight)[0, 0]
        tries = [torch.tensor([[first, code]], dtype=weight.dtype) for code in codes]
        assert float(error(weight, found, x)) == pytest.approx(min(float(error(weight, t, x)) for t in tries))
        assert found[0, 0] == first


def test_brute_force_bounds_it_from_below() -> None:
    """Three weights of two bits: never better than the best of all 27 choices, and often as good."""
    best_found = 0
    for seed in range(20):
        weight, x = seeded(1, 3, seed=seed), correlated(20, 3, seed)
        scale = weight.abs().max()
        everything = torch.tensor(list(itertools.product([-1, 0, 1], repeat=3)), dtype=weight.dtype) * scale
        best = error(weight.expand(27, 3), everything, x).min()
        found = error(weight, rounded(weight, x, f"int2+gptq:damping={TINY}"), x)[0]
        assert found >= best * (1 - 1e-6)
        best_found += bool(found <= best * (1 + 1e-6))
    assert best_found >= 12


def test_inputs_that_are_always_zero_correct_nothing() -> None:
    weight, x = seeded(20, 6, seed=5), correlated(30, 6)
    x[:, 2] = 0
    weight[:, 2] /= 10  # it sets no scale
    found, nearest = rounded(weight, x, f"int3+gptq:damping={TINY}"), fake_quantize(weight, "int3")
    kept = [0, 1, 3, 4, 5]
    alone = rounded(weight[:, kept], x[:, kept], f"int3+gptq:damping={TINY}")
    assert not torch.allclose(alone, nearest[:, kept])
    torch.testing.assert_close(found[:, kept], alone)
    torch.testing.assert_close(found[:, 2], nearest[:, 2])
    torch.testing.assert_close(rounded(weight, torch.zeros(5, 6, dtype=x.dtype), "int3+gptq"), nearest)


def test_fewer_rows_than_columns_are_damped() -> None:
    weight, x = seeded(4, 20), correlated(3, 20)
    found = rounded(weight, x, "int3+gptq:damping=0.001")
    assert torch.isfinite(found).all()
    assert error(weight, found, x).sum() < 0.2 * error(weight, fake_quantize(weight, "int3"), x).sum()


def test_the_factor_is_cholesky_of_the_inverse() -> None:
    x = correlated(40, 7)
    gram = x.T @ x
    damped = gram + 0.1 * gram.diagonal().mean() * torch.eye(7, dtype=x.dtype)
    factor = inverse_factor(gram, 0.1)
    torch.testing.assert_close(factor.T @ factor, torch.linalg.inv(damped))
    assert torch.equal(factor, factor.triu())


def test_inputs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NumericalError) as refused:
        inverse_factor(torch.full((2, 2), torch.inf), 0.01)
    assert refused.value.code == "non_finite_activations"


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.second, self.first = nn.Linear(6, 3).double(), nn.Linear(8, 6).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def test_a_layer_sees_inputs_from_layers_that_are_rounded_already() -> None:
    torch.manual_seed(0)
    model, x = TwoLayers(), correlated(50, 8)
    objective = Objective(model, [(x, torch.zeros(50, 3, dtype=x.dtype))], task="regression")
    first = quantize(model, "int3+gptq", objective).point
    torch.testing.assert_close(first["first.weight"], rounded(model.first.weight.detach(), x, "int3+gptq"))
    behind = torch.tanh(nn.functional.linear(x, first["first.weight"], model.first.bias)).detach()
    torch.testing.assert_close(first["second.weight"], rounded(model.second.weight.detach(), behind, "int3+gptq"))
    apart = quantize(model, "int3+gptq:sequential=false", objective).point
    hidden = torch.tanh(model.first(x)).detach()
    torch.testing.assert_close(apart["second.weight"], rounded(model.second.weight.detach(), hidden, "int3+gptq"))


def test_a_layer_sees_its_input_as_it_is_rounded() -> None:
    weight, x = seeded(4, 8), correlated(50, 8)
    model = layer(weight)
    objective = Objective(model, [(x, x @ weight.T)], task="regression")
    found = quantize(model, "int3-act-int4-dynamic+gptq", objective).point["weight"]
    torch.testing.assert_close(found, rounded(weight, fake_quantize(x, "int4"), "int3+gptq"))


def test_groups_of_a_convolution_are_solved_apart() -> None:
    torch.manual_seed(0)
    whole = nn.Conv2d(4, 6, 3, groups=2, bias=False).double()
    x = seeded(5, 4, 7, 7)
    found = quantize(whole, "int3+gptq", Objective(whole, [(x, whole(x).detach())], task="regression")).point["weight"]
    for group in range(2):
        part = nn.Conv2d(2, 3, 3, bias=False).double()
        with torch.no_grad():
            part.weight.copy_(whole.weight[3 * group : 3 * group + 3])
        own = x[:, 2 * group : 2 * group + 2]
        objective = Objective(part, [(own, part(own).detach())], task="regression")
        torch.testing.assert_close(
            found[3 * group : 3 * group + 3], quantize(part, "int3+gptq", objective).point["weight"]
        )


@pytest.mark.parametrize("recipe", ["int3+gptq", "int3-g5-asym+gptq", "nvfp4+gptq", "int3-tensor+clip+gptq:block=2"])
def test_what_was_chosen_is_a_fixed_point_and_lies_on_the_grid(recipe: str) -> None:
    weight, x = seeded(6, 17), correlated(60, 17)
    model = layer(weight.float()).float()
    objective = Objective(model, [(x.float(), torch.zeros(60, 6))], task="regression")
    variant = quantize(model, recipe, objective)
    decided = variant.requantize.roundings["weight"]
    assert torch.equal(decided.grid.nearest(variant.point["weight"]), variant.point["weight"])
    again = variant.requantize({"weight": weight.float()})["weight"]
    assert torch.equal(again, variant.point["weight"])
    elsewhere = variant.requantize({"weight": weight.float() + 0.3})["weight"]
    assert torch.equal(decided.grid.nearest(elsewhere), elsewhere)
    assert any("deployed landscape" in note for note in variant.notes)
