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
    convergence,
    density,
    eigenvalues,
    layer_curvature,
    lines,
    sharpness,
)
from quant_lens_engine.figures.activation_outliers import OUTLIER_MEASURES
from quant_lens_engine.figures.activation_ranges import RANGE_SCALES
from quant_lens_engine.figures.chart import FIGURES, Chart, DataTable, Drawing, FigureError, draw, draw_both
from quant_lens_engine.figures.compare_lines import ComparedResult
from quant_lens_engine.figures.density import DENSITY_SCALES
from quant_lens_engine.figures.lambda_axis import LAMBDA_SCALES
from quant_lens_engine.figures.layer_curvature import LAYER_MEASURES
from quant_lens_engine.figures.lines import LANDSCAPES
from quant_lens_engine.figures.loss_unit import loss_unit
from quant_lens_engine.figures.metrics import METRICS, Measurement, Metric, variant_metrics
from quant_lens_engine.figures.report_page import html_report
from quant_lens_engine.figures.variant_style import VariantStyle, bit_class, scheme_styles, variant_styles

__all__ = [
    "DENSITY_SCALES", "FIGURES", "LAMBDA_SCALES", "LANDSCAPES", "LAYER_MEASURES", "METRICS", "OUTLIER_MEASURES",
    "RANGE_SCALES", "Chart", "ComparedResult", "DataTable", "Drawing", "FigureError", "Measurement", "Metric",
    "VariantStyle", "activation_histogram", "activation_outliers", "activation_ranges", "activation_sqnr",
    "batchnorm_drift", "bit_class", "compare_density", "compare_lines", "convergence", "density", "draw", "draw_both",
    "eigenvalues", "html_report", "layer_curvature", "lines", "loss_unit", "scheme_styles", "sharpness",
    "variant_metrics", "variant_styles",
]  # fmt: skip
