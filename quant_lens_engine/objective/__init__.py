"""The objective: model, sample and loss as one function of the parameters. Every wing works on it."""

from quant_lens_engine.objective.function import Objective, RowTerms
from quant_lens_engine.objective.statistics import Estimate, mean_with_error

__all__ = ["Estimate", "Objective", "RowTerms", "mean_with_error"]
