"""Bit allocation: one scheme a layer, least total sensitivity within a budget, provably optimal.

The integer program of HAWQ-V3 (Yao et al. 2021, arXiv:2011.10680), a multiple-choice knapsack::

    minimise  Σ s[l, c] x[l, c]    over x in {0, 1}
    subject to  Σ_c x[l, c] = 1  for every layer l,   Σ k[l, c] x[l, c] ≤ budget

solved by HiGHS with a gap of zero. Its tolerances are absolute, so both rows of numbers are brought to a common scale
first, and every answer's cost is added up again in exact arithmetic: one that overspends is cut off and the program
solved again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from quant_lens_engine.errors import InputError, InternalFault

Table = Mapping[str, Mapping[str, float]]
"""A number for each layer and scheme."""

_OBJECTIVE_SCALE = 1e6
"""Largest scaled sensitivity: HiGHS' absolute gap of 1e-6 is then 1e-12 of it."""

_ROUNDING = 1e-12
"""Relative rounding of a sum of costs: a budget that a caller added up in another order is still kept."""


@dataclass(frozen=True)
class _Choice:
    """One scheme for one group of tied layers."""

    group: int
    scheme: str
    sensitivity: float
    cost: float


def allocate(sensitivity: Table, cost: Table, budget: float, tied: Iterable[tuple[str, ...]] = ()) -> dict[str, str]:
    """The scheme of each layer that minimises the total sensitivity within the budget.

    Args:
        sensitivity: ``{layer: {scheme: s}}``, in any unit that adds up over layers (a predicted ΔL in nats, Ω); may be
            negative.
        cost: ``{layer: {scheme: k}}`` for the same layers and schemes (bytes, BOPs, ms).
        budget: the total cost allowed, in the unit of ``cost``.
        tied: layers that must get the same scheme (fused QKV, residual inputs); pairs that share a layer join.

    Returns:
        ``{layer: scheme}`` in the order of ``sensitivity``. No other assignment within the budget has a smaller sum.

    Raises:
        InputError: ``infeasible_budget``, with the least budget there is; ``bad_allocation`` for tables that do not
            fit each other, numbers that are not finite, and tied layers without a common scheme.

    Example:
        >>> sensitivity = {"a": {"int4": 0.9, "int8": 0.1}, "b": {"int4": 0.2, "int8": 0.1}}
        >>> cost = {"a": {"int4": 4, "int8": 8}, "b": {"int4": 4, "int8": 8}}
        >>> allocate(sensitivity, cost, budget=12)
        {'a': 'int8', 'b': 'int4'}
    """
    _check_tables(sensitivity, cost, budget)
    groups = _join(list(sensitivity), tied)
    choices = [
        choice
        for index, layers in enumerate(groups)
        for choice in _undominated(_choices(index, layers, sensitivity, cost))
    ]
    least = math.fsum(min(c.cost for c in choices if c.group == index) for index in range(len(groups)))
    if not _within(least, budget):
        raise InputError(
            f"no assignment costs {budget:g} or less: the cheapest scheme everywhere costs {least:g}",
            hint=f"raise the budget to {least:g}, or offer cheaper schemes",
            code="infeasible_budget",
            details={"budget": budget, "least": least},
        )
    chosen = _solve(choices, len(groups), budget) if groups else []
    scheme_of = {layer: choice.scheme for choice in chosen for layer in groups[choice.group]}
    return {layer: scheme_of[layer] for layer in sensitivity}


def _check_tables(sensitivity: Table, cost: Table, budget: float) -> None:
    if set(sensitivity) != set(cost):
        raise _bad("sensitivity and cost name different layers", sorted(set(sensitivity) ^ set(cost)))
    for layer, schemes in sensitivity.items():
        if not schemes or set(schemes) != set(cost[layer]):
            raise _bad("sensitivity and cost name different schemes, or none", [layer])
        if not all(math.isfinite(value) for value in (*schemes.values(), *cost[layer].values())):
            raise _bad("a sensitivity or cost is not finite", [layer])
    if math.isnan(budget):
        raise _bad("the budget is not a number", [])


def _bad(what: str, layers: list[str]) -> InputError:
    where = f": {', '.join(layers[:5])}" if layers else ""
    hint = "give one finite number for every layer and scheme in both tables; leave out a scheme that has none"
    return InputError(f"{what}{where}", hint=hint, code="bad_allocation", details={"layers": layers})


def _join(layers: list[str], tied: Iterable[tuple[str, ...]]) -> list[list[str]]:
    """The layers in groups that share one scheme, each in the order of ``layers``."""
    group = {layer: {layer} for layer in layers}
    for members in tied:
        unknown = [member for member in members if member not in group]
        if unknown:
            raise _bad("tied layers that have no sensitivity", unknown)
        joined = set().union(*(group[member] for member in members))
        group.update(dict.fromkeys(joined, joined))
    seen: set[str] = set()
    groups = []
    for layer in layers:
        if layer not in seen:
            groups.append([other for other in layers if other in group[layer]])
            seen |= group[layer]
    return groups


def _choices(index: int, layers: list[str], sensitivity: Table, cost: Table) -> list[_Choice]:
    common = [scheme for scheme in sensitivity[layers[0]] if all(scheme in sensitivity[layer] for layer in layers)]
    if not common:
        raise _bad("tied layers have no scheme in common", layers)
    return [
        _Choice(
            index,
            scheme,
            math.fsum(sensitivity[layer][scheme] for layer in layers),
            math.fsum(cost[layer][scheme] for layer in layers),
        )
        for scheme in common
    ]


def _undominated(choices: list[_Choice]) -> list[_Choice]:
    """Without choices that cost as much as another and hurt as much; of two equals the first stays."""
    kept: list[_Choice] = []
    for choice in sorted(choices, key=lambda c: (c.cost, c.sensitivity)):
        if not kept or choice.sensitivity < kept[-1].sensitivity:
            kept.append(choice)
    return kept


def _solve(choices: list[_Choice], groups: int, budget: float) -> list[_Choice]:
    base = [min(c.cost for c in choices if c.group == index) for index in range(groups)]
    best = [min(c.sensitivity for c in choices if c.group == index) for index in range(groups)]
    extra = np.array([c.cost - base[c.group] for c in choices])
    regret = np.array([c.sensitivity - best[c.group] for c in choices])
    spare = budget - math.fsum(base)
    unit = extra.max(initial=0.0) or 1.0
    members = csr_array(
        (np.ones(len(choices)), ([c.group for c in choices], np.arange(len(choices)))), shape=(groups, len(choices))
    )
    spending = LinearConstraint(extra[None, :] / unit, -np.inf, min(spare / unit, extra.sum() / unit))
    constraints = [LinearConstraint(members, 1, 1), spending]
    while True:
        answer = milp(
            regret * (_OBJECTIVE_SCALE / (regret.max(initial=0.0) or 1.0)),
            integrality=np.ones(len(choices), dtype=np.int64),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": 0.0},
        )
        if answer.x is None or answer.status != 0:
            raise InternalFault(f"the integer program was not solved: {answer.message}")
        taken = np.round(answer.x)
        chosen = [choice for choice, one in zip(choices, taken, strict=True) if one]
        if len(chosen) == groups and _within(math.fsum(choice.cost for choice in chosen), budget):
            return chosen
        constraints.append(LinearConstraint(taken[None, :], -np.inf, groups - 1))


def _within(cost: float, budget: float) -> bool:
    return cost <= budget or math.isclose(cost, budget, rel_tol=_ROUNDING)
