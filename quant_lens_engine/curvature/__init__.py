"""Curvature of the loss: the ends of its Hessian's spectrum, its trace and its density."""

from quant_lens_engine.curvature.davidson import Start
from quant_lens_engine.curvature.diagonal import DiagonalOfHessian, diagonal
from quant_lens_engine.curvature.functions import (
    TopEigenvalues,
    TraceOfHessian,
    power_iteration,
    spectral_density,
    top_eigenvalues,
    trace,
)
from quant_lens_engine.curvature.gradient import gradient_of
from quant_lens_engine.curvature.leading import leading_eigenvectors
from quant_lens_engine.curvature.measurement import CurvatureMeasurement, measure_curvature, start_pays
from quant_lens_engine.curvature.operators.hessian import HessianOperator
from quant_lens_engine.curvature.plan import HvpPlan, choose_plan

__all__ = [
    "CurvatureMeasurement",
    "DiagonalOfHessian",
    "HessianOperator",
    "HvpPlan",
    "Start",
    "TopEigenvalues",
    "TraceOfHessian",
    "choose_plan",
    "diagonal",
    "gradient_of",
    "leading_eigenvectors",
    "measure_curvature",
    "power_iteration",
    "spectral_density",
    "start_pays",
    "top_eigenvalues",
    "trace",
]
