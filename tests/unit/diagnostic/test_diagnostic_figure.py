"""The picture: files that are what their ending says, drawn without a browser, a display or pyplot's state."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from quant_lens_engine import QuantDiagnostic
from quant_lens_engine.diagnostic_figure import draw_diagnostic
from quant_lens_engine.errors import InputError
from quant_lens_engine.figures import variant_styles
from quant_lens_engine.schema import RunResult

MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".html": b"<!DOCTYPE html>"}


@pytest.mark.parametrize("ending", MAGIC)
def test_every_format_is_written(diagnostic: QuantDiagnostic, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"bit_collapse{ending}"
    assert diagnostic.plot(save_path=str(path)) == path
    content = path.read_bytes()
    assert content.startswith(MAGIC[ending])
    assert len(content) > 10_000


def test_other_endings_are_refused(diagnostic: QuantDiagnostic, tmp_path: Path) -> None:
    for name in ("plot.bmp", "plot"):
        with pytest.raises(InputError, match="cannot be written") as refused:
            diagnostic.plot(tmp_path / name)
        assert ".png" in refused.value.hint
        assert not (tmp_path / name).exists()
    with pytest.raises(InputError, match="mode"):
        diagnostic.plot(mode="sepia")


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("landscape", ["smooth", "deployed"])
def test_it_draws_the_measured_numbers_in_the_variants_colours(result: RunResult, landscape: str, mode: str) -> None:
    bars, lines = draw_diagnostic(result, landscape=landscape, mode=mode).axes
    styles = variant_styles(result.variants)
    widths = [patch.get_width() for patch in bars.patches]
    assert widths == [variant.curvature.lambda_max.value for variant in result.variants]
    drawn = {to_hex(line.get_color()): line for line in lines.get_lines() if len(line.get_xdata()) > 2}
    for variant in result.variants:
        measured = next(line for line in variant.lines if line.landscape == landscape)
        line = drawn[styles[variant.name].fill[mode]]
        assert list(line.get_xdata()) == measured.alphas
        assert list(line.get_ydata()) == measured.loss
        assert (line.get_linestyle() == "-") == (variant.name == "FP32")
    names = {text.get_text() for text in lines.texts}
    assert {variant.name for variant in result.variants} <= names
    assert len(lines.collections) == len(result.variants)  # a band each


def test_labels_at_the_ends_do_not_cover_one_another(result: RunResult) -> None:
    figure = draw_diagnostic(result)
    figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in figure.axes[1].texts]  # without its leader
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert box.x1 <= figure.bbox.x1


def test_nothing_measured_is_said_not_drawn() -> None:
    figure = draw_diagnostic(RunResult())
    said = {text.get_text() for text in figure.texts}
    assert {"No curvature was measured.", "No line was measured."} <= said


def test_a_notebook_shows_it_by_itself(diagnostic: QuantDiagnostic) -> None:
    assert diagnostic.plot()._repr_png_().startswith(MAGIC[".png"])


def test_it_needs_no_display_no_browser_and_leaves_pyplot_alone(result: RunResult, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(result.model_dump_json())
    code = """
import sys
from pathlib import Path
from quant_lens_engine.diagnostic_figure import write_diagnostic
from quant_lens_engine.schema import RunResult
write_diagnostic(RunResult.model_validate_json(Path("result.json").read_text()), Path("plot.png"))
sys.exit(any(name in sys.modules for name in ("matplotlib.pyplot", "kaleido", "torch")))
"""
    root = str(Path(__file__).resolve().parents[3])
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "MPLBACKEND")} | {"PYTHONPATH": root}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False).returncode == 0
    assert (tmp_path / "plot.png").stat().st_size > 10_000
