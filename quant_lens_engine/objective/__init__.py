"""The objective: model, sample and loss as one function of the parameters. Every wing works on it."""

from quant_lens_engine.objective.function import Objective
from quant_lens_engine.objective.row_terms import RowTerms
from quant_lens_engine.objective.statistics import Estimate, mean_with_error

__all__ = ["Estimate", "Objective", "RowTerms", "mean_with_error"]
