"""allocate(): against brute force, and against the published answers of HAWQ-V3."""

import itertools
import json
import math
import os
import random
from pathlib import Path

import pytest

from quant_lens_engine import allocate
from quant_lens_engine.errors import InputError

SHARED = Path(os.environ.get("QUANT_LENS_ORACLES", Path(__file__).resolve().parents[4] / "shared" / "oracles"))
HAWQ = SHARED / "hawq_v3_resnet18.json"

Table = dict[str, dict[str, float]]


def brute_force(sensitivity: Table, cost: Table, budget: float, tied: list[tuple[str, str]]) -> float:
    layers = list(sensitivity)
    best = math.inf
    for schemes in itertools.product(*(sensitivity[layer] for layer in layers)):
        chosen = dict(zip(layers, schemes, strict=True))
        if any(chosen[a] != chosen[b] for a, b in tied):
            continue
        if math.fsum(cost[layer][scheme] for layer, scheme in chosen.items()) <= budget * (1 + 1e-12):
            best = min(best, math.fsum(sensitivity[layer][scheme] for layer, scheme in chosen.items()))
    return best


@pytest.mark.parametrize("seed", range(200))
def test_no_assignment_is_better(seed: int) -> None:
    draw = random.Random(seed)
    layers = [f"layer{i}" for i in range(draw.randint(1, 6))]
    schemes = ["int2", "int4", "int8", "fp16"][: draw.randint(1, 4)]
    scale = 10.0 ** draw.randint(-9, 6)  # a predicted ΔL may be 1e-9 nats, a cost 1e9 BOPs
    unit = 10.0 ** draw.randint(-6, 9)
    spread = draw.choice([1, 6])  # and the layers of one network six orders apart
    sensitivity = {
        layer: {s: scale * 10 ** -(spread * draw.random()) * draw.choice([1, 1, 1, -0.1]) for s in schemes}
        for layer in layers
    }
    cost = {layer: {s: unit * draw.choice([draw.random(), draw.randint(1, 4)]) for s in schemes} for layer in layers}
    tied = [tuple(draw.sample(layers, 2))] if len(layers) > 2 and draw.random() < 0.5 else []
    least = sum(min(values.values()) for values in cost.values())
    most = sum(max(values.values()) for values in cost.values())
    budget = least + draw.random() * (most - least)
    best = brute_force(sensitivity, cost, budget, tied)
    if math.isinf(best):
        with pytest.raises(InputError, match="no assignment"):
            allocate(sensitivity, cost, budget, tied)
        return
    plan = allocate(sensitivity=sensitivity, cost=cost, budget=budget, tied=tied)
    assert list(plan) == layers
    assert all(plan[a] == plan[b] for a, b in tied)
    assert math.fsum(cost[layer][plan[layer]] for layer in layers) <= budget * (1 + 1e-12)
    assert math.fsum(sensitivity[layer][plan[layer]] for layer in layers) == pytest.approx(best, rel=1e-9, abs=0)


@pytest.mark.skipif(not HAWQ.exists(), reason="the published table of HAWQ-V3 is not beside this checkout")
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("metric", ["modelsize", "bops", "latency"])
def test_the_published_answers_of_hawq_v3(metric: str, fraction: float) -> None:
    table = json.loads(HAWQ.read_text())
    layers = [str(i) for i in range(len(table["average_trace"]))]
    costs = {
        "modelsize": lambda i, bits: table["parameters"][i] * int(bits) / 8,
        "bops": lambda i, bits: table["bops"][i] / {"8": 16, "4": 64}[bits],
        "latency": lambda i, bits: table["latency"][bits][i],
    }
    sensitivity = {
        layer: {bits: table["average_trace"][i] * table["perturbation"][bits][i] for bits in ("4", "8")}
        for i, layer in enumerate(layers)
    }
    cost = {layer: {bits: costs[metric](i, bits) for bits in ("4", "8")} for i, layer in enumerate(layers)}
    low, high = (sum(cost[layer][bits] for layer in layers) for bits in ("4", "8"))
    tied = [(str(a), str(b)) for a, b in table["ties"]]
    plan = allocate(sensitivity, cost, low + fraction * (high - low), tied)
    published = table["published_bits"][f"{metric}_{fraction}"]
    assert [int(plan[layer]) for layer in layers] == published


def test_a_large_network_is_solved() -> None:
    draw = random.Random(0)
    layers = [f"layer{i}" for i in range(300)]
    sensitivity = {layer: {str(b): draw.random() * 4.0**-b for b in (2, 3, 4, 6, 8)} for layer in layers}
    cost = {layer: {str(b): float(b * draw.randint(1, 10**6)) for b in (2, 3, 4, 6, 8)} for layer in layers}
    budget = sum(values["4"] for values in cost.values())
    plan = allocate(sensitivity, cost, budget)
    spent = sum(cost[layer][plan[layer]] for layer in layers)
    assert 0.99 * budget < spent <= budget


def test_the_budget_is_kept_to_the_last_digit() -> None:
    """The better pair costs 1e-9 too much, less than a solver's tolerance."""
    sensitivity = {"a": {"4": 1.0, "8": 0.0}, "b": {"4": 1.5, "8": 0.0}}
    cost = {"a": {"4": 0.0, "8": 1.0}, "b": {"4": 0.0, "8": 1.0}}
    assert allocate(sensitivity, cost, 2.0 - 1e-9) == {"a": "4", "b": "8"}
    assert allocate(sensitivity, cost, 2.0) == {"a": "8", "b": "8"}


def test_a_budget_added_up_in_another_order_is_kept() -> None:
    costs = [0.1, 0.2, 0.3, 0.7, 0.9]
    sensitivity = {str(i): {"4": 1.0, "8": 0.0} for i in range(5)}
    cost = {str(i): {"4": 0.0, "8": value} for i, value in enumerate(costs)}
    for order in itertools.permutations(costs):
        assert set(allocate(sensitivity, cost, sum(order)).values()) == {"8"}


def test_an_unlimited_budget_takes_the_best_everywhere() -> None:
    sensitivity = {"a": {"4": 1.0, "8": 0.5}, "b": {"4": -1.0, "8": 0.5}}
    cost = {"a": {"4": 1, "8": 2}, "b": {"4": 1, "8": 2}}
    assert allocate(sensitivity, cost, math.inf) == {"a": "8", "b": "4"}


def test_of_equals_the_cheapest() -> None:
    assert allocate({"a": {"8": 0.0, "4": 0.0}}, {"a": {"8": 2, "4": 1}}, 5) == {"a": "4"}


def test_ties_join_across_pairs() -> None:
    sensitivity = {name: {"4": 1.0, "8": 0.0} for name in "abcd"}
    cost = {name: {"4": 1, "8": 2} for name in "abcd"}
    plan = allocate(sensitivity, cost, 6, tied=[("a", "b"), ("b", "c")])
    assert plan == {"a": "4", "b": "4", "c": "4", "d": "8"}


def test_no_layers_need_no_plan() -> None:
    assert allocate({}, {}, 1.0) == {}


@pytest.mark.parametrize(
    ("sensitivity", "cost", "budget", "tied", "code"),
    [
        ({"a": {"4": 1.0}}, {"a": {"4": 4}}, 3, [], "infeasible_budget"),
        ({"a": {"4": 1.0}}, {"b": {"4": 4}}, 9, [], "bad_allocation"),
        ({"a": {"4": 1.0}}, {"a": {"8": 4}}, 9, [], "bad_allocation"),
        ({"a": {}}, {"a": {}}, 9, [], "bad_allocation"),
        ({"a": {"4": math.nan}}, {"a": {"4": 4}}, 9, [], "bad_allocation"),
        ({"a": {"4": 1.0}}, {"a": {"4": math.inf}}, 9, [], "bad_allocation"),
        ({"a": {"4": 1.0}}, {"a": {"4": 4}}, math.nan, [], "bad_allocation"),
        ({"a": {"4": 1.0}}, {"a": {"4": 4}}, 9, [("a", "z")], "bad_allocation"),
        ({"a": {"4": 1.0}, "b": {"8": 1.0}}, {"a": {"4": 4}, "b": {"8": 4}}, 9, [("a", "b")], "bad_allocation"),
    ],
)
def test_impossible_questions_are_refused(
    sensitivity: Table, cost: Table, budget: float, tied: list[tuple[str, str]], code: str
) -> None:
    with pytest.raises(InputError) as refused:
        allocate(sensitivity, cost, budget, tied)
    assert refused.value.code == code
    assert refused.value.hint


def test_the_least_budget_is_named() -> None:
    with pytest.raises(InputError) as refused:
        allocate({"a": {"4": 1.0, "8": 0.1}}, {"a": {"4": 4, "8": 8}}, 3)
    assert refused.value.details == {"budget": 3, "least": 4}
