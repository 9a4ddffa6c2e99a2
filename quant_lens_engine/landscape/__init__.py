"""The loss around a model: lines along shared, filter-normalised directions."""

from quant_lens_engine.landscape.basin import basin_rise, basin_width
from quant_lens_engine.landscape.directions import random_directions
from quant_lens_engine.landscape.filter_normalization import filter_normalized
from quant_lens_engine.landscape.lines import measure_lines, trace_1d_loss

__all__ = [
    "basin_rise",
    "basin_width",
    "filter_normalized",
    "measure_lines",
    "random_directions",
    "trace_1d_loss",
]
