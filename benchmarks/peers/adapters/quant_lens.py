"""This project, through the functions that its own measurements are made of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.peers.answer import Answer, Meter, measured, with_own_error
from benchmarks.peers.hutchinson import RELATIVE_ERRORS
from benchmarks.peers.library import LIBRARIES, Library, TraceMethod
from benchmarks.peers.workloads import Workload
from quant_lens_engine.curvature import HessianOperator
from quant_lens_engine.curvature.density import lanczos_density
from quant_lens_engine.curvature.krylov_trace import krylov_trace
from quant_lens_engine.curvature.lanczos import extreme_spectrum

TOLERANCE = 1e-3


def operator(workload: Workload, meter: Meter) -> HessianOperator:
    """Products that keep the gradient's graphs, counted."""
    chosen = HessianOperator(workload.objective(), "reuse")
    chosen.matvec = meter.counted(chosen.matvec)  # type: ignore[method-assign]
    return chosen


class QuantLens(Library):
    """Lanczos with a bound, Krylov-aware traces, deflated quadratures; the gradient's graph is kept."""

    name = "quant-lens"
    ours = True

    def largest(self, workload: Workload, count: int, seed: int) -> Iterator[Answer]:
        """By its own stop rule: the interval for one value, residuals and a deflated search for several."""

        def values(meter: Meter) -> np.ndarray:
            found = extreme_spectrum(
                operator(workload, meter), top=count, bottom=0, tolerance=TOLERANCE, max_products=1000, seed=seed
            )
            return np.array(found.top.values)

        yield measured(values, f"tolerance {TOLERANCE:g}", stopped=True)

    def traces(self) -> dict[str, TraceMethod]:
        """A Krylov basis and probes that grow together."""
        return {"Krylov": self._trace}

    def _trace(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """Until its standard error is small enough."""
        for relative_error in RELATIVE_ERRORS if workload.quick else RELATIVE_ERRORS[-1:]:

            def value(meter: Meter, relative_error: float = relative_error) -> tuple[float, float]:
                found = krylov_trace(operator(workload, meter), relative_error=relative_error, seed=seed)
                return found.value, found.standard_error

            yield with_own_error(measured(value, f"relative error {relative_error:g}", stopped=True))

    def density(self, workload: Workload, seed: int) -> Iterator[Answer]:
        """One process of 40 steps, whose settled values count as one eigenvalue each; then the default effort."""
        single: dict[str, int] = {"runs": 0, "first_steps": 40}
        for setting, options in (("one process of 40 steps", single), ("36 steps, 3 runs of 12", {})):

            def nodes(meter: Meter, options: dict[str, int] = options) -> tuple[np.ndarray, np.ndarray]:
                found = lanczos_density(operator(workload, meter), seed=seed, **options)
                return found.nodes, found.weights

            yield measured(nodes, setting)


LIBRARIES.add("quant-lens", QuantLens())
