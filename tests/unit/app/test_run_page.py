"""The Run page: what is shown at each moment of a run's life, and which sections a change touches."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc

from app.components import variant_name
from app.pages.run.failure import failure_view
from app.pages.run.landscape import why_no_landscape
from app.pages.run.landscape_controls import line_controls, plane_choices, plane_controls
from app.pages.run.landscape_tables import basin_table, points_table
from app.pages.run.spectrum import numbers_card, why_nothing
from app.pages.run.stages import stage_card, stage_strip
from app.pages.run.variants import variants_card
from app.pages.run.verdict import failures_card, verdict_card
from app.pages.run.view import SECTIONS, RunView
from app.routing import Visit
from quant_lens_engine.figures import variant_styles
from quant_lens_engine.schema import (
    AlgorithmFacts,
    ErrorBody,
    Plane,
    PlanePoint,
    RunProgress,
    RunRecord,
    RunSpec,
    SkippedLayer,
    StageFailure,
    StageProgress,
    plan_stages,
)
from tests.unit.app.words import find, words
from tests.unit.figures.results import recipes, result, usual, variant

SPEC = RunSpec(model={"example": "digits-mlp"}, data={"example": "digits"}, schemes=["int8", "int2"])


def record(state: str = "RUNNING", stages: dict[str, dict[str, Any]] | None = None, **fields: Any) -> RunRecord:
    progress = [
        StageProgress(stage=key.kind, variant=key.variant, part=key.part, **(stages or {}).get(str(key), {}))
        for key in plan_stages(SPEC)
    ]
    done = sum(stage.state == "done" for stage in progress)
    return RunRecord(
        id="7f3a91c", name="sweep", state=state, spec=SPEC.model_dump(mode="json"),
        progress=RunProgress(fraction=0.5, eta_s=42.4, stages_done=done, stages_total=len(progress), stages=progress),
        **fields,
    )  # fmt: skip


def done_but(stage: str, state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {str(key): {"state": "done"} for key in plan_stages(SPEC)} | {stage: state}


def view(found: RunRecord, measured: Any = None) -> RunView:
    return RunView(found, measured or usual(), None, "", True)


def test_the_grid_has_a_cell_for_every_stage_with_its_state() -> None:
    found = record(stages={
        "inspect": {"state": "done", "elapsed_s": 1.0},
        "evaluate/FP32": {"state": "done", "from_store": True},
        "curvature/FP32": {"state": "running", "done": 31, "total": 62, "note": "Lanczos step 31", "elapsed_s": 4.0,
                           "worker": "gpu-01-runs-17-0df3"},
        "line/FP32": {"state": "failed"},
    })  # fmt: skip
    card = stage_card(found, variant_styles(usual().variants), "")
    told = words(card)
    assert "Running 50 % about 42 s left" in told
    assert "2 of 32 stages done , 1 from the store" in told, "a plane of 41 rows comes in 14 pieces"
    assert "gpu-01 curvature · FP32 31 of 62 · Lanczos step 31 4 s" in told
    cells = find(card, "ql-cell")
    assert len(cells) == 22  # 18 stages and a plane; no plane but FP32's, and no verdict for FP32
    assert len(find(card, "running")) >= 1
    assert len([cell for cell in cells if "failed" in cell.className]) == 1


def test_a_queued_run_says_what_it_waits_for() -> None:
    told = words(stage_card(record("QUEUED"), variant_styles(usual().variants), "no worker is alive"))
    assert "Queued no worker is alive" in told
    assert "left" not in told


def test_a_finished_run_shows_where_its_time_went() -> None:
    done = {str(key): {"state": "done", "elapsed_s": 2.0} for key in plan_stages(SPEC)}
    found = record("DONE", done, started_at="2026-01-01T10:00:00+00:00", finished_at="2026-01-01T10:01:38+00:00")
    told = words(stage_strip(found, 1234.0))
    assert "32 of 32 stages 1 min 38 s · 1 234 Hessian-vector products" in told
    assert "curvature 6.0 s" in told


def test_numbers_that_are_still_to_come_are_skeletons_and_those_that_never_come_are_dashes() -> None:
    half = result(variant("FP32", 10.0), variant("int8", None, 0.001))
    running = variants_card(
        record(stages=done_but("curvature/int8", {"state": "running"})), half, variant_styles(half.variants)
    )
    row = find(running, "data-table")[0].children[1].children[1]
    assert len(find(row, "skeleton")) == 3  # λmax, its ratio, the trace
    failed = variants_card(
        record("DONE", done_but("curvature/int8", {"state": "failed"})), half,
        variant_styles(half.variants),
    )  # fmt: skip
    row = find(failed, "data-table")[0].children[1].children[1]
    assert find(row, "skeleton") == []
    assert len(find(row, "absent")) >= 3


def test_an_eigenvalue_that_did_not_converge_is_a_lower_bound() -> None:
    found = result(variant("FP32", 10.0), variant("int8", 12.3, converged=False))
    told = words(variants_card(record("DONE"), found, variant_styles(found.variants)))
    assert "≥ 12.3 not converged" in told


def test_layers_left_in_float_are_listed_once_with_their_reason() -> None:
    found = usual()
    for item in found.variants[1:]:
        item.skipped_layers = [SkippedLayer(name="norm", reason="normalization stays in float")]
    told = words(variants_card(record("DONE"), found, variant_styles(found.variants)))
    assert "How each variant was made 1 layer in float" in told
    assert "Every variant left in float norm normalization stays in float" in told
    assert told.count("normalization stays in float") == 1


def test_how_a_variant_was_made_is_told_part_by_part() -> None:
    found = recipes()
    known = (AlgorithmFacts(name="gptq", description="columns one by one"),)
    card = variants_card(record("DONE"), found, variant_styles(found.variants), known)
    static, recipe, plain = find(card, "ql-making-variant")
    assert words(static) == (
        "w8a8 weights INT8, symmetric; fp32 scale = amax / 127, one a channel "
        "activations INT8, asymmetric, static, one scale a tensor (min-max) rounding to the nearest code (RTN) "
        "quantized 2 layers, calibrated on 120 rows (static activation ranges) "
        "activation ranges Input of Format Low High fc1 int8 −0.250 4.48 1 from the values themselves, at each pass"
    )
    told = words(recipe)
    assert told.startswith("w4a8 +smoothquant:alpha=0.7 +gptq +skip:head weights INT4")
    assert "SmoothQuant alpha=0.7 GPTQ columns one by one quantized 1 layer, calibrated on 120 rows" in told
    assert "left in float fc2 left in float by +skip:head notes deployed landscape: scales stay as they are" in told
    assert "calibrated" not in words(plain)
    assert "1 with algorithms · 1 layer in float · 1 note" in words(card)


def test_calibration_on_measured_rows_is_said_where_the_numbers_are() -> None:
    found = recipes()
    note = find(variants_card(record("DONE"), found, variant_styles(found.variants)), "caution-note")
    assert words(note).startswith(
        "W8A8 and W4A8 + SmoothQuant + GPTQ were calibrated on rows that they are measured on"
    )
    found.data.overlap = False
    assert not find(variants_card(record("DONE"), found, variant_styles(found.variants)), "caution-note")
    assert not find(variants_card(record(), usual(), variant_styles(usual().variants)), "caution-note")


def test_calibration_stands_in_the_head_and_in_the_settings() -> None:
    shown = view(record("DONE"), recipes())
    assert "digits, 100 samples, calibrated on 120, seed 0" in words(shown.draw("head"))
    assert "Calibration 120 rows, measured ones among them" in words(shown.draw("settings"))
    assert "calibrated" not in words(view(record("DONE")).draw("head"))


def test_what_opening_the_files_showed_stands_in_the_settings() -> None:
    assert "Notes" not in words(view(record("DONE")).draw("settings"))
    found = usual().model_copy(update={"notes": ["head.weight is tied to embed.weight"]})
    assert "Notes What opening the files showed. head.weight is tied to embed.weight." in words(
        view(record("DONE"), found).draw("settings")
    )


def test_a_recipe_s_steps_are_muted_and_its_whole_name_is_in_the_title() -> None:
    name = variant_name(variant_styles(recipes().variants)["w4a8+smoothquant:alpha=0.7+gptq+skip:head"])
    assert name.title == "w4a8+smoothquant:alpha=0.7+gptq+skip:head"
    assert [words(part) for part in find(name, "recipe-step")] == ["+smoothquant:alpha=0.7", "+gptq", "+skip:head"]


def test_no_verdict_no_card_and_no_safe_variant_no_suggestion() -> None:
    found = usual()
    card = verdict_card(found, variant_styles(found.variants))
    assert card is not None
    assert "none of these is safe" in words(card)
    for item in found.comparisons:
        item.verdict = None
    assert verdict_card(found, variant_styles(found.variants)) is None


def test_stages_without_a_result_are_named() -> None:
    assert failures_card(record("DONE")) is None
    failure = StageFailure(stage="curvature", variant="int8", code="not_differentiable", message="no second derivative")
    assert "curvature int8 no second derivative not_differentiable" in words(
        failures_card(record("DONE", failures=[failure]))
    )


def test_a_mismatch_offers_the_architecture_that_fits() -> None:
    match = {"architecture": "lenet", "fits": False, "matched": 1, "wanted": 4, "found": 4, "missing": 3,
             "differences": [{"key": "a.weight", "found": None, "wanted": [3, 3], "kind": "missing"}]}  # fmt: skip
    error = ErrorBody(code="architecture_mismatch", message="net.pt does not fit lenet", hint="these keys fit mlp",
                      details={"match": match, "fitting": ["mlp"]})  # fmt: skip
    shown = failure_view(record("FAILED", {"inspect": {"state": "failed", "elapsed_s": 0.6}}, error=error), None)
    told = words(shown)
    assert "net.pt does not fit lenet." in told
    assert "Stage inspect stopped after 0.6 s" in told
    assert "Retry as mlp" in told
    assert "a.weight – 3 × 3 missing" in told
    assert '"wanted": [3, 3]' in told


def test_a_lost_run_says_so_and_a_cancelled_one_is_no_failure() -> None:
    assert "fell silent" in words(failure_view(record("LOST"), None))
    assert failure_view(record("CANCELLED"), None) is None


def test_progress_alone_redraws_the_progress_alone() -> None:
    before = view(record(version=4)).keys()
    after = view(record(version=5)).keys()
    assert {part for part in SECTIONS if before[part] != after[part]} == {"progress"}


def test_a_committed_stage_redraws_what_it_feeds() -> None:
    before = view(record(version=4)).keys()
    after = view(record(version=5, stages={"evaluate/int8": {"state": "done"}})).keys()
    changed = {part for part in SECTIONS if before[part] != after[part]}
    assert {"progress", "variants", "verdict"} <= changed
    assert not changed & {"head", "settings", "strip"}


def test_a_new_name_redraws_the_head_alone() -> None:
    done = {str(key): {"state": "done"} for key in plan_stages(SPEC)}
    before = view(record("DONE", done, version=4)).keys()
    renamed = record("DONE", done, version=5).model_copy(update={"name": "other", "tags": ["prod"]})
    after = view(renamed).keys()
    assert {part for part in SECTIONS if before[part] != after[part]} == {"head"}


def test_what_people_write_stays_text() -> None:
    found = record("DONE").model_copy(update={"name": "<img src=x onerror=alert(1)>", "note": "<b>hi</b>"})
    head = view(found).draw("head")
    assert "<img src=x onerror=alert(1)>" in words(head)
    assert "dangerously" not in str(head.to_plotly_json())


def test_the_numbers_of_the_curvature_stand_in_one_table_with_intervals_and_products() -> None:
    found = usual()
    told = words(numbers_card(record("DONE"), found, variant_styles(found.variants)))
    assert "Negative eigenvalues 24 10 to 50" in told
    assert "Effective rank eigenvalues 13.0 12.2 to 13.8" in told
    assert "Products 165 eigenvalues 108 density 36 trace 21" in told
    assert "Started from random random random" in told
    assert "Derivative exact exact exact" in told


def test_a_number_of_the_curvature_is_a_skeleton_until_it_comes_and_then_a_dash_with_its_reason() -> None:
    half = result(variant("FP32", 10.0), variant("int8", None, 0.001))
    styles = variant_styles(half.variants)
    running = numbers_card(record(stages=done_but("curvature/int8", {"state": "running"})), half, styles)
    assert len(find(running, "skeleton")) == 14
    curvature = half.variants[0].curvature
    assert curvature is not None
    curvature.sharpness = None
    ended = numbers_card(record("DONE", done_but("curvature/int8", {"state": "failed"})), half, styles)
    assert find(ended, "skeleton") == []
    assert "not available" in [item.title for item in find(ended, "absent")]
    assert "Relative λmax" in words(running)
    assert "Relative λmax" not in words(ended), "nobody asked for it, so there is no row of dashes"


def test_what_was_given_up_for_want_of_memory_is_said_beside_the_derivative() -> None:
    found = result(variant("FP32", 10.0), variant("int8", 10.1))
    styles = variant_styles(found.variants)
    assert "For want of memory" not in words(numbers_card(record("DONE"), found, styles))
    curvature = found.variants[0].curvature
    assert curvature is not None
    curvature.lowered = ["graphs are not kept", "micro-batches of 8 rows"]
    assert "For want of memory graphs are not kept; micro-batches of 8 rows –" in words(
        numbers_card(record("DONE"), found, styles)
    )


def test_a_chart_that_never_comes_says_why() -> None:
    found = result(variant("FP32", None))
    assert why_nothing("density", found).startswith("No density was measured")
    shown = view(record("DONE"), found)
    assert shown.chart("density")["nothing"]
    assert not view(record("RUNNING"), found).chart("density")["nothing"]
    assert not view(record("DONE")).chart("density")["nothing"]


def test_the_landscape_tab_offers_what_the_run_asked_for_and_says_why_there_is_nothing() -> None:
    waiting, ended = record(), record("DONE")
    assert plane_choices(waiting) == (["to:int8~to:int2"], ["FP32"])
    visit = Visit(None, None, query={"pair": "nonsense", "clip": "2.5", "along": "gradient"})  # type: ignore[arg-type]
    controls = plane_controls(waiting, visit)
    chosen = [item.value for item in controls.children if isinstance(item, dmc.Select)]
    assert chosen == ["to:int8~to:int2", "FP32"]
    [limit] = [item for item in controls.children if isinstance(item, dmc.NumberInput)]
    assert limit.value == 2.5
    lines = line_controls(waiting, visit)
    assert [item.value for item in lines.children if isinstance(item, dmc.Select)] == ["random"], "all it asked for"
    assert why_no_landscape("plane", usual(), waiting, "both", False) == ""
    assert "Choose 2-D + 3-D" in why_no_landscape("plane-surface", usual(), ended, "flat", True)
    unasked = ended.model_copy(update={"progress": RunProgress()})
    assert "asked for no plane" in why_no_landscape("plane", usual(), unasked, "both", True)


def test_the_landscape_tables_say_where_models_are_and_what_basins_are_like() -> None:
    measured = usual()
    point = PlanePoint(name="int8", alpha=0.004, beta=0.0, distance=0.0, shift=0.004, loss=0.2)
    start = PlanePoint(name="FP32", alpha=0.0, beta=0.0, distance=0.0, shift=0.0, loss=0.1)
    measured.variants[0].planes = [
        Plane(landscape="smooth", directions=["to:int8", "random:1"], distance_choice="as asked for",
              points=[start, point])
    ]  # fmt: skip
    styles = variant_styles(measured.variants)
    told = words(points_table(measured, styles, "to:int8~random:1"))
    assert "Points On FP32 → int8" in told
    assert "0.00400 0 0.200 +0.100 0.00400 0" in told
    assert points_table(measured, styles, "random:1~random:2") is None, "only the plane that is shown"
    told = words(basin_table(measured, styles))
    assert "Basin width" in told
    assert "Barrier (nats)" in told
