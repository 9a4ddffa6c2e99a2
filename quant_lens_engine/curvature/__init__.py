"""Curvature of the loss: the ends of its Hessian's spectrum, its trace and its density."""

from quant_lens_engine.curvature.functions import (
    TopEigenvalues,
    TraceOfHessian,
    power_iteration,
    spectral_density,
    top_eigenvalues,
    trace,
)
from quant_lens_engine.curvature.hessian import HessianOperator, HvpPlan, choose_plan
from quant_lens_engine.curvature.measurement import measure_curvature

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
