"""Lines and planes of a run: pieces, models that fail, checkpoints of a training, a stop in the middle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from quant_lens_engine.analysis import Workbench, analyze
from quant_lens_engine.errors import Cancelled, QuantLensError
from quant_lens_engine.intake import example_path
from quant_lens_engine.intake.checkpoint import open_checkpoint
from quant_lens_engine.landscape_measurement import LandscapeMeasurement
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import float_variant
from quant_lens_engine.schema import (
    LineOptions,
    PlaneOptions,
    PlanePart,
    RunResult,
    StageKey,
    join_pieces,
    parse_run_spec,
    plan_units,
    planned_planes,
    stage_fingerprint,
)
from quant_lens_engine.subject import file_sha256

pytestmark = pytest.mark.slow

CHEAP = {"trace_probes": 2, "max_products": 8, "tolerance": 0.1}


def spec(plane: dict[str, Any] | None = None, line: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"example": "digits-mlp"},
        "data": {"example": "digits", "limit": 60},
        "schemes": ["int4", "int2"],
        "analyses": {
            "preset": "quick",
            "curvature": CHEAP,
            "line": {"steps": 3} | (line or {}),
            "plane": {"steps": 7} | (plane or {}),
        },
    } | changes  # fmt: skip


def test_the_usual_plane_goes_through_the_float_model_and_two_variants() -> None:
    result = analyze(spec())
    (plane,) = result.variant("FP32").planes
    assert plane.directions == ["to:int4", "to:int2"]
    assert (plane.origin, plane.isometric, plane.units) == ("FP32", True, ["‖w‖", "‖w‖"])
    assert plane.complete
    assert plane.loss[3][3] == result.variant("FP32").evaluation.loss, "the middle is the float model"
    assert plane.accuracy[3][3] == result.variant("FP32").evaluation.accuracy
    for point in plane.points:
        assert point.loss == result.variant(point.name).evaluation.loss
        assert point.distance == 0
        assert max(abs(point.alpha), abs(point.beta)) < plane.distance
    assert [point.name for point in plane.points] == ["FP32", "int4", "int2"]
    assert not result.failures


def test_each_variant_has_a_path_and_the_float_model_has_none() -> None:
    result = analyze(spec())
    assert result.variant("FP32").path is None
    for name in ("int4", "int2"):
        variant = result.variant(name)
        assert variant.path.loss[variant.path.alphas.index(1.0)] == variant.evaluation.loss
        assert variant.path.loss[variant.path.alphas.index(0.0)] == result.variant("FP32").evaluation.loss
    switched_off = analyze(spec(line={"path": False}))
    assert switched_off.variant("int4").path is None


def test_planes_of_a_variants_own_network_stand_around_it() -> None:
    plane = {"pairs": [["random", "random"]], "variants": ["int2"], "landscapes": ["smooth", "deployed"], "steps": 3}
    result = analyze(spec(plane))
    smooth, deployed = result.variant("int2").planes
    assert (smooth.landscape, deployed.landscape) == ("smooth", "deployed")
    assert smooth.directions == ["random", "random:2"]
    assert smooth.loss[1][1] == deployed.loss[1][1] == result.variant("int2").evaluation.loss
    assert smooth.loss[0] != deployed.loss[0]
    assert not smooth.isometric
    assert smooth.points[2].shift == 0, "distances are from where the plane stands"


def test_along_eigenvectors_and_the_gradient() -> None:
    kinds = ["random", "eigenvector:1", "gradient", "error"]
    result = analyze(spec({"pairs": [["eigenvector:1", "eigenvector:2"]], "steps": 3}, {"kinds": kinds}))
    assert [line.direction for line in result.variant("FP32").lines[::2]] == kinds[:3], "FP32 has no error of its own"
    assert [line.direction for line in result.variant("int2").lines[::2]] == kinds
    assert result.variant("FP32").planes[0].complete
    assert not result.failures


def test_a_model_that_cannot_be_made_takes_its_plane_along_and_nothing_else() -> None:
    broken = "int4+qat:learning_rate=1e30:steps=20"
    result = analyze(spec(schemes=["int8", broken]))
    assert [(failure.stage, failure.variant) for failure in result.failures] == [("evaluate", broken)]
    assert result.variant("FP32").planes == []
    beside = analyze(spec({"pairs": [["to:int8", "random"]]}, schemes=["int8", broken]))
    assert [point.name for point in beside.variant("FP32").planes[0].points] == ["FP32", "int8"]


def test_a_failure_of_every_piece_is_told_once() -> None:
    result = analyze(spec({"pairs": [["checkpoint:1", "random"]]}))
    (failure,) = result.failures
    assert (failure.stage, failure.variant, failure.code) == ("plane", "FP32", "bad_direction")


@pytest.mark.parametrize(
    ("analyses", "says"),
    [
        ({"plane": {"pairs": [["to:int8", "random"]]}}, "the run has FP32, int4, int2"),
        ({"plane": {"variants": ["int8"]}}, "the run has FP32, int4, int2"),
        ({"line": {"kinds": ["sideways!"]}}, "names no direction"),
        ({"plane": {"pairs": [["random:1", "random:1"]]}}, "two different directions"),
        ({"line": {"kinds": ["random", "path"]}}, "by path=true"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(analyses: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantLensError) as caught:
        parse_run_spec(spec() | {"analyses": analyses})
    assert says in caught.value.message


def test_pieces_cover_every_row_once() -> None:
    parsed = parse_run_spec(spec({"steps": 41}))
    (plane,) = planned_planes(parsed.analyses.plane, ["int4", "int2"])
    parts = [PlanePart.parse(unit.stages[0].part) for unit in plan_units(parsed) if unit.stages[0].kind == "plane"]
    assert [row for part in parts for row in part.rows(41)] == list(range(41))
    assert plane.models == ("FP32", "int4", "int2")


def test_checkpoints_of_a_training_are_directions_and_points(tmp_path: Path) -> None:
    state = open_checkpoint(example_path("digits-mlp")).state_dict()
    files: dict[str, Path] = {}
    for factor in (0.9, 0.7):
        earlier = {name: (tensor * factor).contiguous() for name, tensor in state.items()}
        path = tmp_path / f"{factor}.safetensors"
        safetensors.torch.save_file(earlier, str(path))
        files[file_sha256(path)] = path
    shrunk = {"example": "digits-mlp", "checkpoints": list(files)}
    asked = spec({"pairs": [["checkpoint:1", "to:int2"]], "steps": 3}, {"kinds": ["pca:1"]}, model=shrunk)
    result = analyze(asked, files=files)
    (plane,) = result.variant("FP32").planes
    marks = {point.name: point for point in plane.points}
    assert marks["checkpoint 1"].alpha == pytest.approx(0.1, rel=1e-5), "a tenth of ‖w‖ away"
    assert marks["checkpoint 2"].alpha == pytest.approx(0.3, rel=1e-5)
    assert marks["checkpoint 2"].distance == pytest.approx(0, abs=1e-5)
    assert result.variant("FP32").lines[0].direction == "pca:1"


def test_a_plane_of_a_convolutional_network_says_that_it_was_folded_and_how_exact_that_is() -> None:
    result = analyze(spec({"steps": 7, "landscapes": ["smooth", "deployed"], "variants": ["FP32", "int4"]},
                          model={"example": "digits-cnn"}))  # fmt: skip
    (float_plane,), (smooth, deployed) = result.variant("FP32").planes, result.variant("int4").planes
    for plane in (float_plane, smooth):
        assert plane.method.startswith("batch normalisation is folded into 2 layers")
        assert float(plane.method.rsplit(" ", 1)[1]) <= 1e-5
    assert deployed.method == "", "what is rounded anew at each place is the network itself"
    assert float_plane.loss[3][3] == result.variant("FP32").evaluation.loss
    small = analyze(spec({"steps": 3}, model={"example": "digits-cnn"})).variant("FP32").planes[0]
    assert small.method == "", "nine places are not worth it"
    assert small.loss[1][1] == float_plane.loss[3][3]


def test_pieces_have_the_same_digits_whichever_worker_takes_them_when() -> None:
    """Two workbenches, the pieces dealt out in turn and from the end: the plane of one of them alone."""
    asked = parse_run_spec(spec({"steps": 7}, model={"example": "digits-cnn"}))
    benches = [Workbench.open(asked, files={}) for _ in range(3)]
    keys = [unit.stages[0] for unit in plan_units(asked) if unit.stages[0].kind == "plane"]
    alone = {key: benches[0].run(key, {}).plane for key in keys}
    shared = {key: benches[1 + number % 2].run(key, {}).plane for number, key in enumerate(reversed(keys))}
    whole, joined = (join_pieces([pieces[key] for key in keys]) for pieces in (alone, shared))
    assert joined.loss == whole.loss
    assert joined.method == whole.method != ""


def test_an_adaptive_plane_of_a_run_marks_what_is_estimated() -> None:
    options = {"pairs": [["random", "random"]], "steps": 21, "landscapes": ["smooth", "deployed"], "variants": ["int4"]}
    whole, fewer = (analyze(spec(options | more)) for more in ({}, {"sampling": "adaptive", "tolerance": 0.3}))
    (full, staircase), (smooth, deployed) = (result.variant("int4").planes for result in (whole, fewer))
    assert full.estimated is staircase.estimated is deployed.estimated is None, "no staircase is foretold"
    assert deployed.loss == staircase.loss
    assert smooth.complete
    marks = [mark for row in smooth.estimated for mark in row]
    assert 40 < sum(marks) < 441
    assert 0 < smooth.estimate_error <= 0.3
    assert smooth.estimate_checks > 21
    same = [a == b for one, two in zip(full.loss, smooth.loss, strict=True) for a, b in zip(one, two, strict=True)]
    assert all(equal for equal, mark in zip(same, marks, strict=True) if not mark)
    assert smooth.loss[10][10] == fewer.variant("int4").evaluation.loss
    assert smooth.points == full.points
    small = analyze(spec({"sampling": "adaptive"})).variant("FP32").planes[0]
    assert small.estimates == "", "seven points a row are too few"


def test_sampling_is_part_of_a_pieces_fingerprint() -> None:
    key = StageKey("plane", "FP32", "0.00")
    inspected = Workbench.open(parse_run_spec(spec()), files={}).inspect()
    choices = ({}, {"sampling": "adaptive"}, {"sampling": "adaptive", "tolerance": 0.05})
    prints = [stage_fingerprint(parse_run_spec(spec(choice)), inspected, key) for choice in choices]
    assert len(set(prints)) == 3


class StopAt:
    """Progress that stops the work at the n-th report of a stage."""

    def __init__(self, stage: str, reports: int) -> None:
        self.stage, self.left, self.seen = stage, reports, set[str]()

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.seen.add(stage)
        self.left -= stage == self.stage

    def check_cancelled(self) -> None:
        if self.left <= 0:
            raise Cancelled("enough")


def test_a_stopped_plane_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = analyze(spec())
    with pytest.raises(Cancelled):
        analyze(spec(), progress=StopAt("plane/FP32#0.01", 5), checkpoints=tmp_path)
    assert any(tmp_path.iterdir())
    second = StopAt("never", 1)
    resumed = analyze(spec(), progress=second, checkpoints=tmp_path)
    assert not {"plane/FP32#0.00", "line/int2", "curvature/FP32"} & second.seen, (
        "finished stages are not computed again"
    )
    assert "plane/FP32#0.01" in second.seen
    assert losses(resumed) == losses(whole)
    assert not any(tmp_path.iterdir()), "what a finished analysis had is of no more use"


def losses(result: RunResult) -> list[Any]:
    return [
        [plane.loss for variant in result.variants for plane in variant.planes],
        [line.per_direction for variant in result.variants for line in variant.lines],
    ]


def test_planes_along_eigenvectors_are_the_same_whichever_is_measured_first() -> None:
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))
    objective = Objective(model, [(torch.randn(40, 6), torch.randint(4, (40,)))])
    options = PlaneOptions(
        pairs=(("eigenvector:1", "eigenvector:2"), ("eigenvector:1", "eigenvector:3")), steps=5, distance=1.0
    )
    float_model = float_variant(model)

    def losses(backwards: bool) -> dict[str, list]:
        measurement = LandscapeMeasurement(objective, LineOptions(), options)
        pieces = measurement.planned([])["FP32"]
        return {
            str(key): measurement.piece(float_model, plane, part, ["FP32"], str(key)).plane.loss
            for key, plane, part in (reversed(pieces) if backwards else pieces)
        }

    assert losses(False) == losses(True)
