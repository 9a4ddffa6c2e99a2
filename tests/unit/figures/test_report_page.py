"""The report stands alone, and nothing that a file or a person wrote becomes markup in it."""

import re

from quant_lens_engine.figures import html_report
from quant_lens_engine.schema import RunResult, SkippedLayer, StageFailure
from tests.unit.figures.results import recipes, result, usual, variant


def without_plotly(page: str) -> str:
    scripts = re.findall(r"<script>.*?</script>", page, flags=re.S)
    return page.replace(max(scripts, key=len), "")


def test_it_loads_nothing_from_anywhere() -> None:
    page = without_plotly(html_report(usual()))
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://""", page)
    assert "Plotly.react" in page


def test_it_says_what_was_found() -> None:
    page = html_report(usual(), title="bit sweep")
    for words in ("<h1>bit sweep</h1>", "4.00 ×", "caution", "accuracy falls by 2 points", "digits-mlp", "98.0"):
        assert words in page, words


def test_it_says_how_each_variant_was_made_and_what_was_calibrated_on() -> None:
    page = html_report(recipes())
    for words in (
        "calibrated on 120 rows", '<p class="caution">! W8A8 and W4A8 + SmoothQuant + GPTQ were calibrated on rows',
        "<h3>w4a8+smoothquant:alpha=0.7+gptq+skip:head</h3>", "<td>alpha=0.7</td>",
        "deployed landscape: scales stay as they are", "left in float by +skip:head", "−0.250 to 4.48 as int8",
    ):  # fmt: skip
        assert words in page, words
    assert "calibrated" not in html_report(usual())


def test_names_are_never_markup() -> None:
    found = usual()
    found.variants[1].skipped_layers = [SkippedLayer(name="<img src=x onerror=alert(1)>", reason="a </script> b")]
    found.failures = [StageFailure(stage="line", variant="</script><b>", code="x", message="<i>why</i>")]
    found.variants[2].name = "</script><script>alert(1)</script>"
    page = html_report(found, title="</title><b>")
    assert "<img" not in page
    assert "<i>why" not in page
    assert "<script>alert" not in page


def test_an_unfinished_run_has_a_report() -> None:
    for found in (RunResult(), result(variant("FP32", None))):
        assert "<h2>Variants</h2>" in html_report(found)


def test_several_results_stand_below_each_other() -> None:
    page = html_report([("first", usual()), ("second", usual())])
    assert page.index("<h1>first</h1>") < page.index("<h1>second</h1>")
    assert 'id="sharpness-1"' in page


def test_how_a_curvature_was_taken_is_said() -> None:
    found = usual()
    assert "How curvature was taken" not in html_report(found)
    curvature = found.variants[1].curvature
    assert curvature is not None
    curvature.lowered, curvature.attention = ["graphs are not kept", "micro-batches of 8 rows"], "math"
    page = html_report(found)
    assert "for want of memory: graphs are not kept, micro-batches of 8 rows" in page
    assert "attention by the math kernel" in page
