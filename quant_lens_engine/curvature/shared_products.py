"""One set of products, read several times: the runs behind a density, and the probes of every trace.

The processes that showed that no eigenvalue was missed are the density's first runs; the first product of each run is a
probe of the trace, read through the basis of the first process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from quant_lens_engine.curvature.density import SETTLED, Quadrature, first_quadrature, quadrature
from quant_lens_engine.curvature.krylov import (
    TOGETHER,
    Krylov,
    Ritz,
    SymmetricOperator,
    each_product,
    exact_diagonal,
    step_together,
)
from quant_lens_engine.curvature.lanczos import Spectrum, orthonormal
from quant_lens_engine.curvature.probe_kind import PILOT, apart_pays, can_choose, spreads
from quant_lens_engine.curvature.row_groups import SumOperator, each_sweep
from quant_lens_engine.curvature.spectrum_end import error_of
from quant_lens_engine.curvature.traces import FEWEST_PROBES, BlockTraces, still_needed
from quant_lens_engine.objective.randomness import rademacher


def known_indices(spectrum: Spectrum, ritz: Ritz) -> list[int]:
    """The Ritz values of the first process that stand for the eigenvalues found, where they are near enough."""
    count = len(ritz.values)
    low, high = spectrum.bottom.wanted, spectrum.top.wanted
    wanted = sorted({*range(min(low, count)), *range(max(0, count - high), count)})
    magnitude = float(np.abs(ritz.values).max())
    return [
        index
        for index in wanted
        if error_of(ritz, index, spectrum.first.others)
        <= SETTLED * max(abs(float(ritz.values[index])), 0.01 * magnitude)
    ]


def density_runs(
    operator: SymmetricOperator,
    spectrum: Spectrum,
    *,
    runs: int,
    steps: int,
    seed: int,
    on_product: Callable[[], None] = lambda: None,
) -> list[Quadrature]:
    """A quadrature of the spectrum from each process, the first one included if its start was random.

    Processes of the search are taken up where they stopped; they are appended to ``spectrum.searches`` where new.
    """
    first = spectrum.first
    ritz = first.ritz()
    known = known_indices(spectrum, ritz)
    values = ritz.values[known]
    deflated = orthonormal(first.vectors(ritz, known)) if known else None
    for run in range(len(spectrum.searches) + 1, runs + 1):
        spectrum.searches.append(Krylov(operator, seed, run=run, deflated=deflated, known=values))
    chosen = spectrum.searches[:runs]
    while growing := [process for process in chosen if process.products < steps and not process.full]:
        step_together(growing)
        on_product()
    found = [quadrature(process, process.known) for process in chosen if not process.restarts]
    if isinstance(first, Krylov) and not first.restarts:
        found.insert(0, first_quadrature(first, known, found))
    return found


def sampled_traces(
    operator: SymmetricOperator,
    spectrum: Spectrum,
    traces: BlockTraces,
    *,
    relative_error: float,
    probes: int,
    seed: int,
    on_product: Callable[[], None] = lambda: None,
) -> BlockTraces:
    """Add the runs' first products, then probes, until the trace's standard error is ``relative_error`` of it.

    Where the fewest probes are not enough, nor twice as many would be, an operator that is a sum over groups of rows is
    given probes of each group, if these need fewer products. A dimension up to ``probes`` is summed over unit vectors
    instead, exactly.
    """
    if traces.exact:
        return traces
    if operator.dimension <= probes:
        traces.settle(*exact_diagonal(operator, on_product))
        return traces
    for process in spectrum.searches:
        # what a search found depends on its start, which is then no random probe of the rest any more
        chose = any(process is finder for finder in spectrum.finders)
        if not chose and not process.restarts and process.products and traces.holds(process.deflated):
            traces.add(*process.first_product())
    index = pilot = 0
    while needed := min(still_needed(traces.whole, relative_error), probes - pilot - index):
        many = traces.probes >= FEWEST_PROBES and needed > FEWEST_PROBES
        if many and not pilot and isinstance(operator, SumOperator) and can_choose(operator, probes - index):
            pilot = PILOT
            found = spreads(operator, traces.basis, traces.whole.known, seed)
            most, exact, taken = probes - pilot - index, operator.dimension - len(traces.basis), traces.probes
            on_product()
            if apart_pays(found, relative_error=relative_error, most=most, exact=exact, together=taken):
                return _swept(operator, traces, relative_error, most, seed, on_product)
            continue
        together = range(index, index + min(needed, TOGETHER))
        for probe, product in each_product(operator, partial(rademacher, operator.dimension, seed, "probe"), together):
            traces.add(probe, product)
        index = together.stop
        on_product()
    return traces


def _swept(
    operator: SumOperator,
    traces: BlockTraces,
    relative_error: float,
    most: int,
    seed: int,
    on_product: Callable[[], None],
) -> BlockTraces:
    """Sweeps with probes of each group of rows; none of the other probes is used for the traces any more."""
    index = 0
    while needed := min(still_needed(traces.whole, relative_error) if index else FEWEST_PROBES, most - index):
        sweeps = range(index, index + min(needed, TOGETHER))
        for products in each_sweep(operator, traces.basis, seed, sweeps):
            traces.add_sweep(products)
        index = sweeps.stop
        on_product()
    return traces
