"""Variants that start from the float model's spectrum, as the engine decides, and the same ones cold."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from benchmarks.peers.workloads import Workload
from quant_lens_engine.curvature import CurvatureMeasurement, HessianOperator, start_pays
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema.analyses import CurvatureOptions

SCHEMES = ("int8", "int6", "int4", "int3", "int2")
OPTIONS = CurvatureOptions(max_products=600)
ASKED = {"top": 5, "bottom": 5, "tolerance": OPTIONS.tolerance, "inner_tolerance": 10 * OPTIONS.tolerance}
NEAR = 1e-3


@dataclass(frozen=True)
class Warm:
    """Products of one variant.

    Attributes:
        started: whether the engine lets it start from the float model.
        missed: eigenvalues of the five largest and of the smallest that a warm start did not find.
    """

    workload: str
    scheme: str
    cold: int
    warm: int
    started: bool
    missed: int

    def plain(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def variants(workload: Workload) -> list[Warm]:
    """Each scheme, cold and as the engine would start it."""
    objective = workload.objective()
    measurement = CurvatureMeasurement(objective, OPTIONS, hvp_plan="reuse")
    start = measurement.taught("FP32")
    rows = []
    for scheme in SCHEMES:
        at = objective.at(quantize(objective.model, scheme).point)
        cold = extreme_spectrum(HessianOperator(at, "reuse"), max_products=OPTIONS.max_products, **ASKED)
        pays = start is not None and start_pays(OPTIONS, objective, at)
        warm = cold
        if pays:
            warm = extreme_spectrum(
                HessianOperator(at, "reuse"), max_products=OPTIONS.max_products, start=start, **ASKED
            )
        missed = _missed(warm, *(_exact(at) if workload.quick else (cold.top.values, cold.bottom.values)))
        rows.append(Warm(workload.name, scheme, cold.products, warm.products, pays, missed))
    return rows


def _missed(found: Spectrum, largest: list[float], smallest: list[float]) -> int:
    magnitude = max(abs(largest[0]), abs(smallest[0]))

    def off(value: float, exact: float) -> bool:
        return abs(value - exact) > NEAR * max(abs(exact), 0.01 * magnitude)

    tops = sum(off(*pair) for pair in zip(found.top.values, largest, strict=True))
    return tops + off(found.bottom.values[0], smallest[0])


def _exact(objective: Objective) -> tuple[list[float], list[float]]:
    """By ARPACK to machine precision, at both ends."""
    operator = HessianOperator(objective, "reuse")

    def product(vector: np.ndarray) -> np.ndarray:
        import torch

        return operator.matvec(torch.from_numpy(np.ascontiguousarray(vector.reshape(-1)))).numpy()

    matrix = LinearOperator((objective.dimension,) * 2, product, dtype=np.float64)
    ends = [
        np.sort(eigsh(matrix, k=5, which=which, tol=1e-9, ncv=60, return_eigenvectors=False)) for which in ("LA", "SA")
    ]
    return ends[0][::-1].tolist(), ends[1].tolist()
