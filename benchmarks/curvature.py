"""Hessian products in gradients, and the products that each way needs for λmax. ``python -m benchmarks.curvature``."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from benchmarks.workload import cpu_ms, gradient, record, workloads
from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.curvature.lanczos import extreme_spectrum
from quant_lens_engine.objective import Objective


def power_iterations(operator: HessianOperator, exact: float, accuracy: float, limit: int = 300) -> int | None:
    """Products until a Rayleigh quotient is within ``accuracy`` of λmax; None where that never happens."""
    vector = torch.randn(operator.dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for products in range(1, limit + 1):
        vector = vector / vector.norm()
        product = operator.matvec(vector)
        if abs(float(vector @ product) - exact) <= accuracy * abs(exact):
            return products
        vector = product
    return None


def figures_of(name: str, objective: Objective) -> dict[str, Any]:
    """CPU time of one model's products, in gradients, and how many are needed."""
    reuse, fresh = HessianOperator(objective, "reuse"), HessianOperator(objective, "fresh")
    vector = torch.randn(objective.dimension, dtype=torch.float64)
    unit = cpu_ms(lambda: gradient(objective))
    calls = 0

    def counted(v: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return reuse.matvec(torch.from_numpy(v).flatten()).numpy()

    shape = (objective.dimension, objective.dimension)
    exact = float(
        eigsh(LinearOperator(shape, counted, dtype=np.float64), k=1, which="LA", tol=1e-3, return_eigenvectors=False)[0]
    )
    arpack = calls
    found = extreme_spectrum(reuse, bottom=0, tolerance=1e-3)
    measured = measure_curvature(objective)
    return {
        "model": name,
        "parameters": objective.dimension,
        "forward, ms": cpu_ms(objective.measure),
        "gradient, ms": unit,
        "product, graph reused, in gradients": cpu_ms(lambda: reuse.matvec(vector)) / unit,
        "product, fresh, in gradients": cpu_ms(lambda: fresh.matvec(vector)) / unit,
        "products for λmax to 1e-3, with its interval": found.products,
        "ARPACK": arpack,
        "power iteration": power_iterations(reuse, exact, 1e-3),
        "products for λmax, λmin to 1e-4, trace": measured.hvps,
        "trace's standard error, %": 100 * measured.trace.standard_error / abs(measured.trace.value),
    }


def main() -> None:
    """Measure every example."""
    torch.set_num_threads(1)
    record("curvature", [figures_of(name, objective) for name, objective in workloads().items()])


if __name__ == "__main__":
    main()
