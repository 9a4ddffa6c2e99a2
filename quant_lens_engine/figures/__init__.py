"""Charts: from a result to a Plotly figure, one chart a file. Notebooks, the pages and the report share them.

Knows the records and plotly; no torch, no dash.
"""

from quant_lens_engine.figures import (  # each registers its chart
    activation_histogram,
    activation_outliers,
    activation_ranges,
    activation_sqnr,
    batchnorm_drift,
    compare_density,
    compare_lines,
    compare_plane_difference,
    compare_planes,
    convergence,
    density,
    eigenvalues,
    layer_curvature,
    lines,
    path,
    plane,
    plane_overview,
    plane_surface,
    sharpness,
)
from quant_lens_engine.figures.activation_outliers import OUTLIER_MEASURES
from quant_lens_engine.figures.activation_ranges import RANGE_SCALES
from quant_lens_engine.figures.chart import FIGURES, Chart, DataTable, Drawing, FigureError, draw, draw_both
from quant_lens_engine.figures.compare_lines import ComparedResult
from quant_lens_engine.figures.compare_planes import PLANE_VIEWS
from quant_lens_engine.figures.density import DENSITY_SCALES
from quant_lens_engine.figures.lambda_axis import LAMBDA_SCALES
from quant_lens_engine.figures.layer_curvature import LAYER_MEASURES
from quant_lens_engine.figures.lines import LANDSCAPES, LINE_BANDS, QUANTITIES, line_kinds
from quant_lens_engine.figures.loss_colours import COLOUR_RANGES, LOSS_SCALES
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.metrics import METRICS, Measurement, Metric, variant_metrics
from quant_lens_engine.figures.plane_drawing import SHOWN_ON_PLANE
from quant_lens_engine.figures.plane_grid import direction_words, pair_words, plane_pairs, plane_variants
from quant_lens_engine.figures.report_page import html_report
from quant_lens_engine.figures.variant_style import VariantStyle, bit_class, scheme_styles, variant_styles

__all__ = [
    "COLOUR_RANGES", "DENSITY_SCALES", "FIGURES", "LAMBDA_SCALES", "LANDSCAPES", "LAYER_MEASURES", "LINE_BANDS",
    "LOSS_SCALES", "METRICS", "OUTLIER_MEASURES", "PLANE_VIEWS", "QUANTITIES", "RANGE_SCALES", "SHOWN_ON_PLANE",
    "Chart", "ComparedResult", "DataTable", "Drawing", "FigureError", "Measurement", "Metric", "VariantStyle",
    "activation_histogram", "activation_outliers", "activation_ranges", "activation_sqnr", "batchnorm_drift",
    "bit_class", "compare_density", "compare_lines", "compare_plane_difference", "compare_planes", "convergence",
    "density", "direction_words", "draw", "draw_both", "eigenvalues", "html_report", "layer_curvature",
    "line_kinds", "lines", "loss_unit", "pair_words", "path", "plane", "plane_overview", "plane_pairs",
    "plane_surface", "plane_variants", "scheme_styles", "sharpness", "variant_metrics", "variant_styles",
]  # fmt: skip
