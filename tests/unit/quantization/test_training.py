"""Fine-tuning through the rounding: one step by hand, and what it owes."""

import math
import re

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import NumericalError, SchemeError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.randomness import generator
from quant_lens_engine.quantization import fake_quantize, quantize


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows(count: int = 48) -> tuple[Tensor, Tensor]:
    x = seeded(count, 6)
    return x, (x[:, 0] + x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 3))


@pytest.fixture
def objective() -> Objective:
    x, y = rows()
    return Objective(network(), [(x[:20], y[:20]), (x[20:40], y[20:40]), (x[40:], y[40:])])


def gradients(model: nn.Module, point: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in point.items()}
    loss = nn.functional.cross_entropy(torch.func.functional_call(model.eval(), leaves, (x,)), y)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def loss_at(model: nn.Module, point: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> float:
    scores = torch.func.functional_call(model.eval(), point, (data[0],))
    return float(nn.functional.cross_entropy(scores, data[1]))


def on_grid(point: dict[str, Tensor], scheme: str) -> dict[str, Tensor]:
    return {name: fake_quantize(tensor, scheme) if tensor.dim() == 2 else tensor for name, tensor in point.items()}


def parts() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What is trained on and what is held out, of 48 rows at seed 0: a fifth is held out."""
    (x, y), order = rows(), torch.randperm(48, generator=generator(0, "held out of training"))
    held_out, seen = order[:10].sort().values, order[10:].sort().values
    return (x[seen], y[seen]), (x[held_out], y[held_out])


@pytest.mark.parametrize("rho", [0.0, 0.05, 2.0])
def test_one_step_is_adams_on_the_gradient_at_the_rounded_weights(objective: Objective, rho: float) -> None:
    """SAM: the gradient of the worst neighbour, ε = ρ g / ‖g‖, at the place it came from (Foret et al. 2021, eq. 2)."""
    (x, y), held_out = parts()
    model = objective.model
    start = {name: tensor.clone() for name, tensor in objective.point.items()}
    gradient = gradients(model, on_grid(start, "int4"), x, y)
    if rho:
        length = math.sqrt(sum(float(part.double().square().sum()) for part in gradient.values()))
        worst = {name: start[name] + rho / length * gradient[name] for name in start}
        gradient = gradients(model, on_grid(worst, "int4"), x, y)
    leaves = [nn.Parameter(tensor.clone()) for tensor in start.values()]
    for leaf, part in zip(leaves, gradient.values(), strict=True):
        leaf.grad = part
    torch.optim.Adam(leaves, lr=0.01).step()
    expected = on_grid({name: leaf.detach() for name, leaf in zip(start, leaves, strict=True)}, "int4")
    assert loss_at(model, expected, held_out) < loss_at(model, on_grid(start, "int4"), held_out)
    recipe = f"int4+qat{'-sam' if rho else ''}:steps=1:batch=48:learning_rate=0.01" + (f":rho={rho}" if rho else "")
    variant = quantize(model, recipe, objective)
    for name, value in expected.items():
        torch.testing.assert_close(variant.point[name], value, atol=2e-5, rtol=1e-4)
        assert not torch.equal(variant.point[name], on_grid(start, "int4")[name])


@pytest.mark.parametrize("recipe", ["int2+qat", "int3-g4-asym+qat-sam", "nf4+qat", "int4-act-int4+qat", "mxfp4+qat"])
def test_the_loss_on_its_rows_falls(objective: Objective, recipe: str) -> None:
    scheme, _, algorithm = recipe.partition("+")
    plain = quantize(objective.model, scheme, objective)
    trained = quantize(objective.model, f"{scheme}+{algorithm}:steps=40:learning_rate=0.01:batch=16", objective)
    before, after = (variant.live(objective).loss() for variant in (plain, trained))
    assert after < 0.7 * before
    _, (x, y) = parts()
    held_out = Objective(objective.model, [(x, y)])
    before, after = (variant.live(held_out).loss() for variant in (plain, trained))
    (note,) = [note for note in trained.notes if "trained on 38 calibration rows" in note]
    told = re.search(r"on the 10 held out the loss fell from (\S+) to (\S+) \(step (\d+)/40\)", note)
    assert told is not None
    assert (float(told[1]), float(told[2])) == pytest.approx((before, after), rel=1e-3)
    assert 0 < int(told[3]) <= 40


def test_what_did_best_on_the_rows_held_out_is_kept(objective: Objective) -> None:
    """Labels that say nothing: learning them by heart helps the rows held out not at all."""
    x, _ = rows()
    y = torch.randint(3, (48,), generator=torch.Generator().manual_seed(5))
    noise = Objective(objective.model, [(x, y)])
    order = torch.randperm(48, generator=generator(0, "held out of training"))[:10].sort().values
    held_out = Objective(objective.model, [(x[order], y[order])])
    losses = []
    for steps in (1, 300):
        recipe = f"int4+qat:learning_rate=0.03:checks=100:steps={steps}"
        losses.append(quantize(objective.model, recipe, noise).live(held_out).loss())
    assert max(losses) <= quantize(objective.model, "int4").live(held_out).loss()
    variant = quantize(objective.model, "int4+qat:learning_rate=0.03:checks=100:steps=300", noise)
    (note,) = variant.notes[-1:]
    assert "fell" not in note
    assert f"no step did better on the 10 held out, where the loss is {losses[-1]:.4g}: the parameters stay" in note
    plain = quantize(objective.model, "int4").point
    assert all(torch.allclose(value, plain[name]) for name, value in variant.point.items())


def test_weights_end_on_the_grid_and_are_rounded_again_from_where_they_moved(objective: Objective) -> None:
    variant = quantize(objective.model, "int3+qat:steps=10:learning_rate=0.01", objective)
    for name in ("0.weight", "4.weight"):
        torch.testing.assert_close(fake_quantize(variant.point[name], "int3"), variant.point[name])
        assert not torch.equal(variant.point[name], fake_quantize(objective.point[name], "int3"))
    again = variant.requantize(objective.point)
    assert all(torch.equal(again[name], variant.point[name]) for name in again)


def test_float_training_rounds_nothing(objective: Objective) -> None:
    variant = quantize(objective.model, "float+qat:steps=20:learning_rate=0.01", objective)
    assert variant.layers == []
    assert variant.quantized_layers == 0
    assert variant.effective_bits == 32
    assert all(not torch.equal(variant.point[name], objective.point[name]) for name in variant.point)
    assert len(variant.point["0.weight"].unique()) == variant.point["0.weight"].numel()
    assert variant.live(objective).loss() < 0.8 * objective.loss()
    again = variant.requantize(objective.point)
    assert all(torch.equal(again[name], variant.point[name]) for name in again)


def test_the_control_takes_the_same_rows_in_the_same_order(objective: Objective) -> None:
    """At sixteen bits training with and without rounding is all but the same."""
    one, two = (
        quantize(objective.model, f"{name}+qat:steps=15:learning_rate=0.01:batch=8", objective).point
        for name in ("float", "int16")
    )
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-3, rtol=1e-2)


def test_the_seed_decides_and_nothing_else(objective: Objective) -> None:
    recipe = "int4+qat:steps=5:batch=8:learning_rate=0.01"
    one, again, other = (quantize(objective.model, recipe, objective, seed=seed).point for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["4.bias"], other["4.bias"])


def test_rows_that_are_evaluated_are_no_rows_to_train_on(objective: Objective) -> None:
    for recipe in ("int4+qat", "float+qat-sam"):
        with pytest.raises(SchemeError) as refused:
            quantize(objective.model, recipe, objective, overlap=True)
        assert refused.value.code == "no_rows_to_train_on"


def test_training_that_diverges_is_said() -> None:
    x, y = rows()
    objective = Objective(network(), [(x, y.float()[:, None] + torch.zeros(48, 3))], task="regression")
    with pytest.raises(NumericalError) as refused:
        quantize(objective.model, "int4+qat:steps=50:learning_rate=1e30", objective)
    assert refused.value.code == "training_diverged"


def test_frozen_weights_stay_and_keep_the_codes_that_were_chosen(objective: Objective) -> None:
    x, y = rows()
    model = network()
    model[0].weight.requires_grad_(False)
    objective = Objective(model, [(x, y)])
    chosen = quantize(objective.model, "int3+gptq", objective).point["0.weight"]
    assert not torch.equal(chosen, fake_quantize(model[0].weight.detach(), "int3"))
    trained = quantize(objective.model, "int3+gptq+qat:steps=5:learning_rate=0.01", objective)
    assert torch.equal(trained.point["0.weight"], chosen)
    assert trained.point["4.weight"].unique().numel() <= 7 * 3


def test_training_starts_from_codes_that_were_chosen(objective: Objective) -> None:
    chosen = quantize(objective.model, "int3+gptq", objective)
    trained = quantize(objective.model, "int3+gptq+qat:steps=1:learning_rate=1e-12:batch=48", objective)
    for name, value in chosen.point.items():
        torch.testing.assert_close(trained.point[name], value)
    _, (x, y) = parts()
    at_chosen = chosen.live(Objective(objective.model, [(x, y)])).loss()
    (note,) = [note for note in trained.notes if "trained on" in note]
    assert f"no step did better on the 10 held out, where the loss is {at_chosen:.4g}" in note


def test_statistics_and_the_model_stay(objective: Objective) -> None:
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    variant = quantize(objective.model, "int4+qat:steps=5:learning_rate=0.1", objective)
    assert all(torch.equal(before[name], tensor) for name, tensor in objective.model.state_dict().items())
    assert set(variant.point) == set(objective.point)
