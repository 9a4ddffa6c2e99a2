"""The New page's draft: link, fields, RunSpec and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pages.new.draft import Draft
from app.pages.new.written_numbers import scale_text
from quant_lens_engine.schema import parse_run_spec

SHA = "ab" * 32
READY = {"model": {"file": SHA}, "data": {"example": "digits"}}


def test_a_link_opens_the_same_draft() -> None:
    draft = Draft(
        name="50 % & more", model={"file": SHA}, data={"example": "digits"}, architecture="digits-cnn", layout="NHWC",
        scale="1/255", mean="0.49, 0.48, 0.45", std="0.2, 0.2, 0.2", limit=512, batch_size=64, preset="thorough",
        schemes=("int8", "codebook[-1:0:1]-g8", "w8a8+smoothquant:alpha=0.7+gptq+skip:first:blocks.*.proj"), seed=7,
        device="cuda:0", dtype="float64", calibration={"file": "ef" * 32}, calibration_limit=64,
    )  # fmt: skip
    again = Draft.from_query(f"?{draft.query()}")
    assert again == draft
    assert again.spec() == draft.spec()


@pytest.mark.parametrize(
    "written",
    [
        "int8,w8a8+gptq+skip:head",
        "int8,w8a8 gptq skip:head",
        "int8,%20w8a8%2Bgptq%2Bskip:head",
        "int8,,w8a8+gptq+skip:head,int8",
    ],
)
def test_a_plus_of_a_recipe_may_be_escaped_or_arrive_as_a_space(written: str) -> None:
    assert Draft.from_query(f"?schemes={written}").schemes == ("int8", "w8a8+gptq+skip:head")


def test_calibration_is_part_of_the_run() -> None:
    draft = Draft(**READY, calibration={"file": SHA, "filename": "c.npz", "size": 9}, calibration_limit=64)
    assert draft.query().endswith(f"&calibration=file:{SHA}&calibration_limit=64")
    calibration = draft.spec().data.calibration
    assert (calibration.file, calibration.limit) == (SHA, 64)
    again = Draft.from_spec(draft.spec().model_dump(mode="json"))
    assert (again.calibration, again.calibration_limit) == ({"file": SHA}, 64)
    assert Draft.from_query("?calibration=example:digits&calibration_limit=x").calibration is None


def test_the_default_draft_has_a_short_link() -> None:
    assert Draft(**READY).query() == f"model=file:{SHA}&data=example:digits"


@pytest.mark.parametrize(
    "search", ["?layout=ZZZ&preset=enormous&dtype=int1", "?limit=-3&seed=x", "?model=nonsense&data=example:", "?&&=&"]
)
def test_what_a_link_says_badly_is_left_out(search: str) -> None:
    assert Draft.from_query(search) == Draft()


def test_a_run_is_repeated_with_everything_that_it_had() -> None:
    spec = parse_run_spec(
        {
            "name": "nightly",
            "model": {"file": SHA, "architecture": "mlp", "options": {"activation": "gelu"}},
            "data": {"file": SHA, "limit": None, "transform": {"layout": "NHWC", "scale": 1 / 255, "mean": [0.1307]}},
            "schemes": ["int8"],
            "analyses": {"preset": "quick", "line": {"steps": 7}},
            "execution": {"threads": 3, "micro_batch": 32},
            "seed": 5,
        }
    )
    draft = Draft.from_spec(spec.model_dump(mode="json"))
    assert draft.spec() == spec
    assert draft.scale == "1/255"
    assert draft.changed(preset="standard").spec().analyses.line.steps == 31
    assert draft.changed(model={"example": "digits-mlp"}).spec().model.options == {}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"model": None}, "model", "Choose a model"),
        ({"schemes": ()}, "schemes", "at least one"),
        ({"schemes": ("int8", "int99")}, "schemes", "unknown scheme 'int99'"),
        ({"mean": "0.4; zero"}, "mean", "'zero' is not a number"),
        ({"mean": "nan"}, "mean", "'nan' is not a number"),
        ({"std": "0.2, 0"}, "std", "above 0"),
        ({"scale": "1/0"}, "scale", "'1/0' is not a number"),
        ({"scale": "big"}, "scale", "'big' is not a number"),
        ({"limit": 0}, "limit", "1 or more"),
        ({"calibration_limit": 0}, "calibration_limit", "1 or more"),
        ({"seed": None}, "seed", "whole number"),
    ],
)
def test_each_problem_is_told_beside_its_field(changes: dict[str, object], field: str, words: str) -> None:
    problems = Draft(**READY).changed(**changes).problems()
    assert list(problems) == [field]
    assert words in problems[field]


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-12, max_value=1e12))
def test_a_scale_survives_being_written(scale: float) -> None:
    draft = Draft(**READY).changed(scale=scale_text(scale))
    assert draft.problems() == {}
    assert draft.transform().scale == scale


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4))
def test_means_survive_being_written(values: list[float]) -> None:
    draft = Draft(**READY).changed(mean=", ".join(map(repr, values)))
    assert draft.transform().mean == tuple(values)


def test_lines_and_planes_are_part_of_link_and_run() -> None:
    draft = Draft(**READY, along=("random", "eigenvector:1"), plane="eigenvectors", points="101")
    again = Draft.from_query(draft.query())
    assert again == draft
    analyses = draft.spec().analyses
    assert analyses.line.kinds == ("random", "eigenvector:1")
    assert analyses.plane.pairs == (("eigenvector:1", "eigenvector:2"),)
    assert analyses.plane.steps == 101
    repeated = Draft.from_spec(draft.spec().model_dump(mode="json"))
    assert (repeated.along, repeated.plane) == (draft.along, draft.plane)
    assert repeated.spec().analyses == analyses


def test_an_older_runs_own_plane_is_kept_until_another_is_chosen() -> None:
    spec = Draft(**READY).spec().model_dump(mode="json")
    spec["analyses"]["plane"] |= {"pairs": [["to:int8", "gradient"]], "steps": 21}
    spec["model"]["checkpoints"] = ["ab" * 32]
    older = Draft.from_spec(spec)
    assert older.plane == "kept"
    assert older.spec().analyses.plane.pairs == (("to:int8", "gradient"),)
    assert older.spec().model.checkpoints == ("ab" * 32,)
    assert older.changed(plane="none").spec().analyses.plane.points == 0
    changed = older.changed(plane="random").spec().analyses.plane
    assert (changed.pairs, changed.steps) == ((("random", "random:2"),), 21)


def test_directions_of_a_training_need_its_checkpoints() -> None:
    draft = Draft(**READY, plane="training")
    assert "Choose 2 further checkpoints" in draft.problems()["checkpoints"]
    with_them = draft.changed(checkpoints=("ab" * 32, "cd" * 32))
    assert "checkpoints" not in with_them.problems()
    assert with_them.spec().model.checkpoints == ("ab" * 32, "cd" * 32)
    assert Draft.from_query(with_them.query()).checkpoints == with_them.checkpoints
    assert Draft.from_query("?checkpoints=nonsense").checkpoints == ()


def test_a_link_names_no_impossible_direction() -> None:
    assert Draft.from_query("?along=random,Nonsense!,gradient&plane=kept&points=7").along == ("random", "gradient")
    assert Draft.from_query("?along=Nonsense!&plane=kept&points=7") == Draft()


def test_a_plane_may_be_sampled_adaptively_within_a_tolerance() -> None:
    draft = Draft(**READY, sampling="adaptive", tolerance=7.5)
    assert Draft.from_query(draft.query()) == draft
    plane = draft.spec().analyses.plane
    assert (plane.sampling, plane.tolerance) == ("adaptive", 0.075)
    assert Draft(**READY).spec().analyses.plane.sampling == "full"
    again = Draft.from_spec(draft.spec().model_dump(mode="json"))
    assert (again.sampling, again.tolerance) == ("adaptive", 7.5)
    assert again.spec().analyses == draft.spec().analyses
    assert again.changed(sampling="full").spec().analyses.plane.sampling == "full"


@given(st.floats(min_value=1e-3, max_value=0.5))
def test_an_older_runs_tolerance_is_kept_to_the_last_digit(tolerance: float) -> None:
    spec = Draft(**READY).spec().model_dump(mode="json")
    spec["analyses"]["plane"] |= {"sampling": "adaptive", "tolerance": tolerance}
    assert Draft.from_spec(spec).spec().analyses.plane.tolerance == tolerance


@pytest.mark.parametrize("tolerance", [None, 0.0, 50.5])
def test_a_tolerance_that_cannot_be_is_told_where_it_matters(tolerance: float | None) -> None:
    draft = Draft(**READY, tolerance=tolerance, sampling="adaptive")
    assert "up to 50 %" in draft.problems()["tolerance"]
    assert draft.changed(sampling="full").problems() == {}
    assert draft.changed(sampling="full").spec().analyses.plane.sampling == "full"


@pytest.mark.parametrize("search", ["?sampling=odd", "?tolerance=nan", "?tolerance=-3", "?tolerance=99", "?tolerance="])
def test_a_link_names_no_impossible_sampling(search: str) -> None:
    assert Draft.from_query(search) == Draft()
