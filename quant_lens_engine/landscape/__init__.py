"""The loss around a model: lines and planes along directions that every variant of a run shares."""

from quant_lens_engine.landscape.basin import basin_rise, basin_width
from quant_lens_engine.landscape.directions import random_directions
from quant_lens_engine.landscape.filter_normalization import filter_normalized
from quant_lens_engine.landscape.line_frame import LineFrames
from quant_lens_engine.landscape.lines import measure_lines, measure_path, trace_1d_loss
from quant_lens_engine.landscape.surroundings import Surroundings

__all__ = [
    "LineFrames",
    "Surroundings",
    "basin_rise",
    "basin_width",
    "filter_normalized",
    "measure_lines",
    "measure_path",
    "random_directions",
    "trace_1d_loss",
]
