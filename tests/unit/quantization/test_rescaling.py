"""Rescalings that leave the function as it is: SmoothQuant, AWQ, equalisation, folded normalisation."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from quant_lens_engine.errors import NumericalError, SchemeError
from quant_lens_engine.filters import layout_of
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import fake_quantize, quantize
from quant_lens_engine.quantization.algorithms import check_recipe
from quant_lens_engine.quantization.algorithms.batchnorm_folding import channel_factors, folded_network
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.layer_chains import find_chains
from quant_lens_engine.quantization.layers import survey_weights
from quant_lens_engine.schema import parse_recipe


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def over(model: nn.Module, x: Tensor) -> Objective:
    double = model.double().eval()
    return Objective(double, [(x, torch.zeros_like(double(x)))], task="regression")


def uneven(model: nn.Module) -> nn.Module:
    """Channels of very different sizes, and normalisations with statistics."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.3, 3.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
        elif getattr(module, "weight", None) is not None:
            with torch.no_grad():
                rows = layout_of(module, "weight").rows(module.weight)
                module.weight.copy_(
                    layout_of(module, "weight").restore(rows * torch.randn(len(rows), 1).exp(), module.weight.shape)
                )
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (
        lambda: nn.Sequential(
            nn.Linear(6, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 5), nn.LeakyReLU(0.1), nn.Linear(5, 3)
        ),
        (6,),
    ),
    "tokens": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), (4, 6)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=3, bias=False),
            nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 4),
        ),
        (3, 8, 8),
    ),
    "pooled": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4)
        ),
        (3, 9),
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 3)
        ),
        (4, 5, 5),
    ),
    "3d": (lambda: nn.Sequential(nn.Conv3d(2, 4, 2), nn.BatchNorm3d(4), nn.ReLU(), nn.Conv3d(4, 2, 2)), (2, 4, 4, 4)),
    "flattened tokens": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)), (3, 6),
    ),
    "flattened from the second axis": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(2), nn.Linear(16, 3)), (3, 6, 6),
    ),
    "a layer of the last axis behind a convolution": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 3)), (3, 6, 6),
    ),
}  # fmt: skip


@pytest.fixture(params=NETWORKS)
def objective(request: pytest.FixtureRequest) -> Objective:
    build, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    return over(uneven(build()), seeded(20, *shape))


def draft_after(objective: Objective, recipe: str) -> Draft:
    """A draft with the algorithms of a recipe applied, and nothing else."""
    parsed = parse_recipe(recipe)
    draft = Draft(objective.model, parsed.scheme, survey_weights(objective.model), objective)
    for _, algorithm, options in check_recipe(parsed):
        algorithm.apply(draft, options)
    return draft


def outputs(objective: Objective) -> Tensor:
    (batch,) = objective.batches()
    with torch.no_grad():
        return objective.output(batch)


@pytest.mark.parametrize(
    "recipe",
    [
        "int16+awq", "int16+equalize", "int16+fold-batchnorm", "int16+fold-batchnorm+equalize+awq",
        "int16-act-int16-dynamic+smoothquant", "int16-act-int16-dynamic+equalize+smoothquant:alpha=0.8",
        "int16-act-int16+fold-batchnorm+equalize+smoothquant",
    ],
)  # fmt: skip
def test_at_sixteen_bits_the_function_stays(objective: Objective, recipe: str) -> None:
    variant = quantize(objective.model, recipe, objective)
    expected, found = outputs(objective), outputs(variant.live(objective))
    assert (found - expected).abs().max() < 5e-4 * expected.abs().max()


@pytest.mark.parametrize("recipe", ["int4+equalize", "int4+fold-batchnorm+equalize"])
def test_an_equalised_network_is_the_same_network(objective: Objective, recipe: str) -> None:
    """Weights and biases scaled as a deployment would: rows of one layer, columns of the next."""
    draft = draft_after(objective, recipe)
    model = copy.deepcopy(objective.model)
    folded = {
        chain.first: chain.normalization for chain in find_chains(model, {s.module for s in draft.survey.sites}, "")
    }
    with torch.no_grad():
        model = folded_network(model, {first: norm for first, norm in folded.items() if norm})
        for site in draft.survey.sites:
            scaling, module = draft.scaling(site), model.get_submodule(site.module)
            weight, norm = module.weight, folded.get(site.module)
            factors = None if norm is None else channel_factors(objective.model, norm)
            rows = scaling.rows
            if rows is not None and factors is not None:
                rows = rows / factors  # the normalisation is in the weight already
            matrix = site.layout.rows(weight)
            scaled = matrix if rows is None else matrix * rows[:, None]
            if scaling.columns is not None:
                scaled = (scaled.reshape(len(scaling.columns), -1, scaled.shape[1]) * scaling.columns[:, None]).flatten(
                    0, 1
                )
            weight.copy_(site.layout.restore(scaled, weight.shape))
            if rows is not None and module.bias is not None:
                module.bias.mul_(rows)
        (batch,) = objective.batches()
        found = model(batch.content[0])
    torch.testing.assert_close(found, outputs(objective))


def test_consecutive_layers_have_the_same_ranges_after_equalisation() -> None:
    torch.manual_seed(0)
    model = uneven(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)))
    draft = draft_after(over(model, seeded(4, 6)), "int4+equalize:tolerance=1e-9:sweeps=500")
    first, second, third = (draft.matrix(site).abs() for site in draft.survey.sites)
    torch.testing.assert_close(first.amax(1), second.amax(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(second.amax(1), third.amax(0), rtol=1e-6, atol=0)
    before = model[0].weight.abs().amax(1).detach(), model[2].weight.abs().amax(0).detach()
    assert not torch.allclose(*before)
    torch.testing.assert_close(draft.smoothing["2"], draft.scaling(draft.survey.sites[1]).columns[0])


def test_one_pair_is_balanced_in_closed_form() -> None:
    """s = √(r₁/r₂): the first layer's rows are divided by it (Nagel et al. 2019, eq. 11)."""
    torch.manual_seed(0)
    model = uneven(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5)))
    draft = draft_after(over(model, seeded(4, 6)), "int4+equalize")
    leaving, entering = model[0].weight.detach().abs().amax(1), model[2].weight.detach().abs().amax(0)
    factors = (leaving / entering).sqrt()
    torch.testing.assert_close(draft.scaling(draft.survey.sites[0]).rows, 1 / factors)
    torch.testing.assert_close(draft.scaling(draft.survey.sites[1]).columns[0], factors)
    variant = quantize(model, "int4-tensor+equalize")
    expected = fake_quantize(model[0].weight / factors[:, None], "int4-tensor") * factors[:, None]
    torch.testing.assert_close(variant.point["0.weight"], expected.detach())


def test_equalisation_finds_what_was_hidden_by_a_rescaling() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 5))
    factors = torch.randn(32).mul(2).exp()
    with torch.no_grad():
        model[0].weight.mul_(factors[:, None])
        model[0].bias.mul_(factors)
        model[2].weight.div_(factors)
    objective = over(model, seeded(50, 6))
    expected = outputs(objective)
    plain, equalised = (
        outputs(quantize(objective.model, name, objective).live(objective)) - expected
        for name in ("int4-tensor", "int4-tensor+equalize")
    )
    assert equalised.norm() < 0.3 * plain.norm()


def test_what_cannot_be_equalised_is_said() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)).double()
    variant = quantize(model, "int4+equalize")
    assert variant.notes == ["equalize: no two layers follow each other through ReLU or pooling alone; nothing changed"]

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) if x.sum() > 0 else x

    with pytest.raises(SchemeError) as refused:
        quantize(Branching(), "int4+equalize")
    assert refused.value.code == "not_traceable"
    assert "Branching" in refused.value.message


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        return self.third(torch.relu(self.second(hidden)) + hidden)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.layer(self.norm(self.layer(x)))))


def test_chains_end_where_another_reads_along() -> None:
    chains = find_chains(Residual(), {"first", "second", "third"}, "test")
    assert [(chain.first, chain.second) for chain in chains] == [("first", None), ("second", None), ("third", None)]
    twice = find_chains(Twice(), {"layer", "head"}, "test")
    assert [(chain.first, chain.normalization, chain.second) for chain in twice] == [("head", None, None)]


# ---- SmoothQuant


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_smoothquant_by_its_formula(alpha: float) -> None:
    torch.manual_seed(0)
    model = uneven(nn.Linear(6, 4)).double()
    x = seeded(30, 6) * seeded(6, seed=1).mul(2).exp()
    variant = quantize(model, f"int4-act-int8-dynamic+smoothquant:alpha={alpha}", over(model, x))
    weight = model.weight.detach()
    factors = x.abs().amax(0) ** alpha / weight.abs().amax(0) ** (1 - alpha)
    expected = fake_quantize(weight * factors, "int4") / factors
    torch.testing.assert_close(variant.point["weight"], expected)
    activation = fake_quantize(x / factors, "int8") * factors
    torch.testing.assert_close(
        outputs(variant.live(over(model, x))), (activation @ expected.T + model.bias).detach(), rtol=1e-9, atol=1e-9
    )


def test_static_ranges_are_those_of_the_smoothed_activation() -> None:
    torch.manual_seed(0)
    model = nn.Conv1d(3, 4, 3).double()
    x = seeded(20, 3, 9) * torch.tensor([1.0, 30.0, 0.1], dtype=torch.float64)[:, None]
    variant = quantize(model, "w8a8+smoothquant", over(model, x))
    factors = x.abs().amax((0, 2)) ** 0.5 / model.weight.detach().abs().amax((0, 2)) ** 0.5
    smoothed = x / factors[:, None]
    (activation,) = variant.activations
    assert (activation.low, activation.high) == pytest.approx((float(smoothed.min()), float(smoothed.max())), rel=1e-6)


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.alone = nn.Linear(5, 4), nn.Linear(5, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.alone(self.query(x)) * self.key(x)


@pytest.mark.parametrize("name", ["int4-act-int8+smoothquant", "int4+awq"])
def test_layers_that_read_the_same_tensor_share_their_factors(name: str) -> None:
    torch.manual_seed(0)
    objective = over(uneven(Heads()), seeded(30, 5) * seeded(5, seed=1).exp())
    draft = draft_after(objective, name)
    query, key, alone = (draft.scaling(site).columns for site in draft.survey.sites)
    assert torch.equal(query, key)
    assert query.shape == (1, 5)
    assert alone.shape == (1, 4)
    if "smooth" in name:
        (batch,) = objective.batches()
        weight = torch.stack([objective.model.query.weight.abs().amax(0), objective.model.key.weight.abs().amax(0)])
        largest = batch.content[0].abs().amax(0)
        torch.testing.assert_close(query[0], (largest / weight.amax(0)).sqrt().detach())


class CrossAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, kdim=4, vdim=5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x.flip(1)[..., :4] * 3, x[..., 1:] / 3)[0]


def test_query_key_and_value_of_other_widths_have_factors_of_their_own() -> None:
    objective = over(CrossAttention(), seeded(6, 5, 6))
    draft = draft_after(objective, "int4-act-int8+smoothquant")
    assert {name: len(factors) for name, factors in draft.smoothing.items()} == {
        "attention.query": 6, "attention.key": 4, "attention.value": 5, "attention.out_proj": 6,
    }  # fmt: skip
    for name in ("int16-act-int16-dynamic-attn+smoothquant", "int16-act-int16+smoothquant", "int16+awq"):
        variant = quantize(objective.model, name, objective)
        torch.testing.assert_close(outputs(variant.live(objective)), outputs(objective), atol=2e-4, rtol=1e-3)


def test_an_outlier_channel_is_tamed() -> None:
    torch.manual_seed(0)
    model = nn.Linear(16, 8).double()
    x = seeded(100, 16)
    x[:, 3] *= 100
    objective = over(model, x)
    expected = outputs(objective)
    plain, smooth = (
        (outputs(quantize(model, name, objective).live(objective)) - expected).norm()
        for name in ("w8a8-dynamic", "w8a8-dynamic+smoothquant")
    )
    assert smooth < 0.3 * plain


# ---- AWQ


def relative_error(weight: Tensor, rounded: Tensor, x: Tensor) -> float:
    return float(((weight - rounded) @ x.T).square().sum() / (weight @ x.T).square().sum())


@pytest.mark.parametrize("scheme", ["int3", "int4-g4", "nf4-g8", "mxfp4", "int4-tensor"])
def test_awq_takes_the_best_of_its_exponents(scheme: str) -> None:
    torch.manual_seed(0)
    model = uneven(nn.Linear(16, 12, bias=False)).double()
    x = seeded(100, 16) * seeded(16, seed=1).exp()
    weight = model.weight.detach()
    found = quantize(model, f"{scheme}+awq:steps=10", over(model, x)).point["weight"]
    magnitude = x.abs().mean(0)
    tries = [fake_quantize(weight, scheme)]
    for step in range(1, 10):
        factors = magnitude ** (step / 10)
        factors = factors / (factors.max() * factors.min()).sqrt()
        tries.append(fake_quantize(weight * factors, scheme) / factors)
    errors = [relative_error(weight, tried, x) for tried in tries]
    assert relative_error(weight, found, x) == pytest.approx(min(errors), rel=1e-9)
    assert min(errors) < errors[0], "the case has something to gain"


def test_awq_is_never_worse_than_no_scaling() -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        model = nn.Linear(8, 6, bias=False).double()
        x, weight = seeded(40, 8, seed=seed), model.weight.detach()
        found = quantize(model, "int3+awq", over(model, x)).point["weight"]
        assert relative_error(weight, found, x) <= relative_error(weight, fake_quantize(weight, "int3"), x)


# ---- folded normalisation


def fusable(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fuse(copy.deepcopy(model))


@pytest.mark.parametrize("name", ["cnn", "3d"])
def test_a_folded_network_is_torchs(name: str) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = uneven(build()).double().eval()
    names = {module for module, _ in model.named_modules()}
    folded = {chain.first: chain.normalization for chain in find_chains(model, names, "") if chain.normalization}
    mine, theirs = folded_network(model, folded), fusable(model)
    assert folded
    for layer in folded:
        torch.testing.assert_close(mine.get_submodule(layer).weight, theirs.get_submodule(layer).weight)
        torch.testing.assert_close(mine.get_submodule(layer).bias, theirs.get_submodule(layer).bias)
    x = seeded(5, *shape)
    torch.testing.assert_close(mine(x), model(x))


@pytest.mark.parametrize("name", ["cnn", "pooled", "transposed", "3d"])
@pytest.mark.parametrize("scheme", ["int4-tensor", "int3", "fp8-e4m3-b4", "nf4-g8"])
def test_what_is_rounded_is_the_folded_weight(name: str, scheme: str) -> None:
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    objective = over(uneven(build()), seeded(10, *shape))
    model = objective.model
    variant = quantize(model, f"{scheme}+fold-batchnorm", objective)
    names = {module for module, _ in model.named_modules()}
    folded = {chain.first: chain.normalization for chain in find_chains(model, names, "") if chain.normalization}
    network = folded_network(model, folded)
    for layer, norm in folded.items():
        layout = layout_of(model.get_submodule(layer), "weight")
        rows = layout.rows(network.get_submodule(layer).weight.detach())
        expected = fake_quantize(rows, scheme) / channel_factors(model, norm)[:, None]
        torch.testing.assert_close(layout.rows(variant.point[f"{layer}.weight"]), expected)
    assert any(f"fold-batchnorm: {len(folded)} layers" in note for note in variant.notes)


def powers_of_two() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-200)).double()
    with torch.no_grad():
        model[1].running_var.copy_(torch.tensor([0.25, 1.0, 4.0, 16.0]))
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 8.0, 1.0]))
    return model


@pytest.mark.parametrize("scheme", ["int4", "int4-asym", "mxfp4"])
def test_a_scale_a_channel_takes_the_factor_up(scheme: str) -> None:
    """To the bit, where the factor is a power of two; an asymmetric grid is another one under a change of sign."""
    objective = over(powers_of_two(), seeded(6, 3, 7, 7))
    plain, folded = (
        quantize(objective.model, name, objective).point["0.weight"] for name in (scheme, f"{scheme}+fold-batchnorm")
    )
    same = [0, 2, 3] if scheme == "int4-asym" else [0, 1, 2, 3]
    assert torch.equal(plain[same], folded[same])


def test_a_scale_a_tensor_does_not() -> None:
    objective = over(powers_of_two(), seeded(6, 3, 7, 7))
    plain, folded = (
        quantize(objective.model, name, objective).point["0.weight"]
        for name in ("int4-tensor", "int4-tensor+fold-batchnorm")
    )
    assert not torch.allclose(plain, folded)


def test_channels_that_a_normalisation_switches_off_are_rounded_as_they_are() -> None:
    objective = over(powers_of_two(), seeded(6, 3, 7, 7))
    with torch.no_grad():
        objective.model[1].weight[1] = 0
    variant = quantize(objective.model, "int4-tensor+fold-batchnorm", objective)
    assert torch.isfinite(variant.point["0.weight"]).all()
    assert channel_factors(objective.model, "1").tolist() == [2.0, 1.0, 4.0, 0.25]


def test_folding_that_is_not_exact_is_refused() -> None:
    """Outputs of 1 ± 1e-7 are steps in single precision; folded, they are not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 2, 1), nn.BatchNorm1d(2, eps=1e-20), nn.Flatten(), nn.Linear(8, 3)).eval()
    x, y = torch.randn(16, 1, 4), torch.randint(3, (16,))
    with torch.no_grad():
        model[0].weight.mul_(1e-7)
        model[0].bias.fill_(1)
        model[1].running_var.fill_(1e-14)
        model[1].running_mean.fill_(1)
    with pytest.raises(NumericalError) as refused:
        quantize(model, "int8+fold-batchnorm", Objective(model, [(x, y)]))
    assert refused.value.code == "folding_is_not_exact"


def test_a_network_without_normalisation_says_that_nothing_was_folded() -> None:
    objective = over(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), seeded(5, 4))
    variant = quantize(objective.model, "int4+fold-batchnorm", objective)
    assert "nothing was folded" in variant.notes[0]
    plain = quantize(objective.model, "int4")
    assert all(torch.equal(variant.point[name], plain.point[name]) for name in plain.point)


def test_an_embedding_before_a_normalisation_is_not_folded() -> None:
    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.norm, self.head = nn.Embedding(9, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.embedding(x)))

    objective = Objective(Looked(), [(torch.arange(9), torch.arange(9) % 3)])
    assert "nothing was folded" in quantize(objective.model, "int4+fold-batchnorm", objective).notes[0]
