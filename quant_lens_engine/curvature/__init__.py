"""Curvature of the loss: the ends of its Hessian's spectrum, its trace and its density."""

from quant_lens_engine.curvature.functions import (
    TopEigenvalues,
    TraceOfHessian,
    power_iteration,
    spectral_density,
    top_eigenvalues,
    trace,
)
from quant_lens_engine.curvature.measurement import measure_curvature
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.plan import HvpPlan, choose_plan

__all__ = [
    "HessianOperator",
    "HvpPlan",
    "TopEigenvalues",
    "TraceOfHessian",
    "choose_plan",
    "measure_curvature",
    "power_iteration",
    "spectral_density",
    "top_eigenvalues",
    "trace",
]
