"""From a file to a model and batches."""

from quant_lens_engine.intake.architectures import ARCHITECTURES, Architecture, architecture
from quant_lens_engine.intake.checkpoint import Checkpoint, open_checkpoint
from quant_lens_engine.intake.datasets import DATA_FORMATS, EXAMPLE_DATA, Arrays, dataset, read_arrays
from quant_lens_engine.intake.examples import EXAMPLE_MODELS, example_path
from quant_lens_engine.intake.formats import FORMATS
from quant_lens_engine.intake.inspection import describe_arrays, inspect_file
from quant_lens_engine.intake.matching import build_model, choose_architecture, match_architecture, rank_architectures
from quant_lens_engine.intake.plugins import PluginFile, load_plugins
from quant_lens_engine.intake.rows import Rows, apply_transform, draw_calibration, draw_indices, select_rows
from quant_lens_engine.intake.text_data import rows_for
from quant_lens_engine.intake.trajectory import read_trajectory
from quant_lens_engine.intake.tree import folder_sha256

__all__ = [
    "ARCHITECTURES",
    "DATA_FORMATS",
    "EXAMPLE_DATA",
    "EXAMPLE_MODELS",
    "FORMATS",
    "Architecture",
    "Arrays",
    "Checkpoint",
    "PluginFile",
    "Rows",
    "apply_transform",
    "architecture",
    "build_model",
    "choose_architecture",
    "dataset",
    "describe_arrays",
    "draw_calibration",
    "draw_indices",
    "example_path",
    "folder_sha256",
    "inspect_file",
    "load_plugins",
    "match_architecture",
    "open_checkpoint",
    "rank_architectures",
    "read_arrays",
    "read_trajectory",
    "rows_for",
    "select_rows",
]
