"""What the New page makes of files, clicks and checks."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import pytest

from app.pages.new.architectures import best_architecture, differences_table
from app.pages.new.assessment import assessment, name_of
from app.pages.new.calibration import calibration_view
from app.pages.new.cards import calibration_card, data_card, model_card
from app.pages.new.choosing import choose
from app.pages.new.data_view import baseline_view, range_after
from app.pages.new.draft import Draft
from app.pages.new.pixels import png_data_url
from app.pages.new.scheme_callbacks import read_name
from app.pages.new.schemes import hidden_counts, scheme_groups
from app.pages.new.summary import command_of
from quant_lens_engine.quantization.catalog import available_algorithms, available_schemes
from quant_lens_engine.schema import (
    ArchitectureMatch,
    CheckpointInspection,
    DataInspection,
    Examples,
    KeyDifference,
    Transform,
    parse_run_spec,
)
from tests.unit.app.words import find, words

SHA = "cd" * 32
ALGORITHMS = available_algorithms()
FITS = ArchitectureMatch(architecture="digits-cnn", fits=True, matched=10, wanted=10, found=10)
MISFIT = ArchitectureMatch(
    architecture="lenet", fits=False, matched=6, wanted=10, found=10, missing=1, shape_differs=1,
    differences=[
        KeyDifference(key="conv.weight", found=[4, 3, 7, 7], wanted=[4, 3, 3, 3], kind="shape"),
        KeyDifference(key="fc.bias", found=None, wanted=[], kind="missing"),
    ],
)  # fmt: skip


def found(inspection: CheckpointInspection | DataInspection | None, **more: Any) -> dict[str, Any]:
    known = None if inspection is None else inspection.model_dump(mode="json")
    return {"state": "done", "filename": "net.pt", "size_bytes": 9, "error": None, "inspection": known} | more


def checkpoint(*matches: ArchitectureMatch, **more: Any) -> CheckpointInspection:
    return CheckpointInspection(format="torch", parameters=12, architectures=list(matches), **more)


DATA = DataInspection(format="npz", samples=1797, x_shape=[1797, 8, 8], x_dtype="uint8", x_min=0, x_max=240, classes=10)


def test_two_events_at_once_are_both_heard() -> None:
    chosen = {"model": None, "data": None}
    uploaded = {"sha256": SHA, "filename": "net.pt", "size": 9, "at": 1}
    for trigger, value in (("uploaded-model", uploaded), ("new-stored-data", "ef" * 32)):
        chosen = choose(trigger, value, chosen, Examples())
    assert chosen == {"model": {"file": SHA, "filename": "net.pt", "size": 9}, "data": {"file": "ef" * 32}}
    swapped = choose({"type": "new-swap", "kind": "model"}, 1, chosen, Examples())
    assert swapped == {"model": None, "data": chosen["model"]}
    assert choose({"type": "new-remove", "kind": "data"}, 1, chosen, Examples())["data"] is None
    assert choose({"type": "new-remove", "kind": "data"}, None, chosen, Examples()) == chosen  # only just drawn


def test_an_example_model_brings_the_examples_data_unless_there_is_some() -> None:
    pick = {"type": "new-example", "kind": "model", "name": "digits-cnn"}
    examples = Examples(models=["digits-cnn"], data=["digits"])
    assert choose(pick, 1, {"model": None, "data": None}, examples)["data"] == {"example": "digits"}
    assert choose(pick, 1, {"model": None, "data": {"file": SHA}}, examples)["data"] == {"file": SHA}


def test_an_architecture_is_preselected_only_where_one_fits() -> None:
    other = FITS.model_copy(update={"architecture": "mlp-gelu"})
    assert best_architecture(checkpoint(FITS, MISFIT)) == "digits-cnn"
    assert best_architecture(checkpoint(FITS, other)) is None
    assert best_architecture(checkpoint(MISFIT)) is None


def test_keys_are_compared_with_their_shapes() -> None:
    told = words(differences_table(MISFIT))
    assert "conv.weight 4 × 3 × 7 × 7 4 × 3 × 3 × 3 shape differs" in told
    assert "fc.bias – scalar missing" in told


@pytest.mark.parametrize(
    ("model", "architecture", "reason"),
    [
        (found(checkpoint(FITS)), "auto", None),
        (found(None, state="running"), "auto", "looking into"),
        (found(None, error={"code": "x", "message": "m", "hint": "h"}), "auto", "cannot be used"),
        (found(DATA), "auto", "cannot be used"),
        (found(checkpoint(FITS, non_finite=["fc.weight"])), "auto", "not finite"),
        (found(checkpoint(MISFIT)), "auto", "No known architecture fits"),
        (found(checkpoint(FITS, MISFIT)), "lenet", "lenet does not fit this checkpoint: 1 missing, 1 of another shape"),
        (found(checkpoint(FITS, FITS)), "auto", "Several architectures fit"),
    ],
)
def test_a_run_waits_until_its_model_can_be_used(model: dict[str, Any], architecture: str, reason: str | None) -> None:
    draft = Draft(model={"file": SHA}, data={"example": "digits"}, architecture=architecture)
    seen = assessment(draft, {"model": model, "data": None})
    if reason is None:
        assert seen.told_beside_button == []
        assert seen.question is not None
        assert seen.done == dict.fromkeys(("model", "data", "schemes", "analyses"), True)
    else:
        assert reason in seen.told_beside_button[0]
        assert seen.question is None
        assert not seen.done["model"]


def test_the_check_is_not_asked_again_for_another_sample_size() -> None:
    draft = Draft(model={"file": SHA}, data={"example": "digits"})
    questions = [assessment(draft.changed(limit=limit), {}).question for limit in (64, 1024, None)]
    assert questions[0] == questions[1] == questions[2]


def test_the_check_does_not_depend_on_schemes_or_calibration() -> None:
    draft = Draft(model={"file": SHA}, data={"example": "digits"})
    changes: list[dict[str, Any]] = [
        {}, {"schemes": ("w8a8",)}, {"schemes": ("int4+gtpq", "int99")}, {"calibration_limit": 3},
        {"calibration": {"file": "ef" * 32}},
    ]  # fmt: skip
    questions = [assessment(draft.changed(**change), {}, ALGORITHMS).question for change in changes]
    assert questions[0] is not None
    assert all(question == questions[0] for question in questions)


def test_a_recipe_that_the_engine_would_refuse_keeps_the_run_from_starting() -> None:
    draft = Draft(model={"file": SHA}, data={"example": "digits"}, schemes=("int8", "int4+gtpq"))
    seen = assessment(draft, {"model": found(checkpoint(FITS))}, ALGORITHMS)
    assert seen.problems["schemes"].startswith("unknown algorithm 'gtpq' in 'int4+gtpq'. did you mean gptq?")
    assert not seen.done["schemes"]
    assert assessment(draft, {"model": found(checkpoint(FITS))}).told_beside_button == []  # no worker has said anything


def test_two_names_of_one_recipe_keep_the_run_from_starting() -> None:
    draft = Draft(model={"file": SHA}, data={"example": "digits"}, schemes=("int3+gptq", "int3+gptq:block=128"))
    seen = assessment(draft, {"model": found(checkpoint(FITS))}, ALGORITHMS)
    assert "'int3+gptq' and 'int3+gptq:block=128' are one recipe" in seen.problems["schemes"]


ROWS = DATA.model_copy(update={"samples": 1797})
CASES = [
    # schemes, limit, wanted rows, calibration rows of the example, rows of a file: whose, where from, warned
    (("int8",), 1024, 256, None, None, "", "", False),
    (("w8a8",), 1024, 256, None, None, "for w8a8", "of the 773 rows that are not measured", False),
    (("w8a8", "int4+gptq"), 1700, 256, None, None, "for w8a8 and int4+gptq", "all the 97 rows that are not measured",
     False),
    (("int4+gptq",), None, 256, None, None, "for int4+gptq", "of the 1 797 rows, measured ones among them", True),
    (("int4+gptq",), 1780, 16, None, None, "for int4+gptq", "of the 17 rows that are not measured", False),
    (("w8a8",), None, 256, 1437, None, "for w8a8", "of the example's 1 437 training rows", False),
    (("w8a8",), None, 256, None, 100, "for w8a8", "all the file's 100 rows", False),
]  # fmt: skip


@pytest.mark.parametrize(("schemes", "limit", "wanted", "training", "in_file", "whose", "hint", "warned"), CASES)
def test_where_calibration_rows_come_from(
    schemes: Any, limit: Any, wanted: int, training: Any, in_file: Any, whose: str, hint: str, warned: bool
) -> None:
    file = None if in_file is None else {"file": "ef" * 32}
    draft = Draft(schemes=schemes, limit=limit, calibration_limit=wanted, calibration=file)
    looked = {"data": found(ROWS.model_copy(update={"calibration_samples": training}))}
    if in_file:
        looked["calibration"] = found(DATA.model_copy(update={"samples": in_file}))
    view = calibration_view(draft, looked, ALGORITHMS)
    assert (view.shown, view.whose, view.hint.replace("\u2009", " ")) == (bool(whose), whose, hint)
    assert bool(view.warning) == warned
    if warned:
        assert "Lower Samples used to 1 541, or add a file" in view.warning.replace("\u2009", " ")


def test_the_measured_file_itself_is_no_other_file() -> None:
    draft = Draft(data={"file": SHA}, schemes=("w8a8",), limit=70, calibration={"file": SHA})
    few = found(DATA.model_copy(update={"samples": 80}))
    view = calibration_view(draft, {"data": few, "calibration": few}, ALGORITHMS)
    assert view.hint == "all the 80 rows, measured ones among them"
    assert "Lower Samples used to 48, or add a file" in view.warning


def test_a_file_that_no_scheme_looks_at_stays_in_sight() -> None:
    view = calibration_view(Draft(calibration={"file": SHA}), {}, ALGORITHMS)
    assert (view.shown, view.whose) == (True, "no chosen scheme looks at rows")


def test_nothing_is_trained_on_rows_that_are_measured() -> None:
    draft = Draft(model={"file": SHA}, data={"file": SHA}, schemes=("int4+qat",), limit=None)
    seen = assessment(draft, {"model": found(checkpoint(FITS)), "data": found(ROWS)}, ALGORITHMS)
    assert seen.told_beside_button == ["int4+qat cannot be trained on rows that are measured."]
    assert not seen.done["data"]


def test_a_calibration_file_that_is_none_keeps_the_run_from_starting() -> None:
    draft = Draft(model={"file": SHA}, data={"example": "digits"}, schemes=("w8a8",), calibration={"file": SHA})
    looked = {"model": found(checkpoint(FITS)), "calibration": found(checkpoint(FITS))}
    seen = assessment(draft, looked, ALGORITHMS)
    assert seen.told_beside_button == ["The calibration file cannot be used; its card says why."]
    assert "This file is not understood" not in words(calibration_card({"file": SHA}, looked["calibration"]))
    assert "1 797 rows" in words(calibration_card({"file": SHA}, found(ROWS))).replace("\u2009", " ")


def test_a_second_file_is_chosen_for_calibration_and_moved_to_the_data() -> None:
    uploaded = {"sha256": SHA, "filename": "c.npz", "size": 9, "at": 1}
    chosen = choose("uploaded-calibration", uploaded, {"model": None, "data": None, "calibration": None}, Examples())
    assert chosen["calibration"] == {"file": SHA, "filename": "c.npz", "size": 9}
    moved = choose({"type": "new-swap", "kind": "calibration"}, 1, chosen, Examples())
    assert (moved["data"], moved["calibration"]) == (chosen["calibration"], None)


OFFERED = available_schemes()


def test_columns_show_the_common_schemes_and_keep_the_others_behind_more() -> None:
    groups = scheme_groups(OFFERED, ["int8", "int5-g64", "w8a8+smoothquant"], ALGORITHMS)
    columns = find(groups, "ql-scheme-group")
    assert [words(column.children[0]) for column in columns] == [
        "Integer, weights only", "Float", "Block and codebook", "Weights and activations", "Named by you",
    ]  # fmt: skip
    for column in columns[:4]:
        cards = find(column, "ql-scheme")
        rest = find(column, "rest")
        assert 4 < len(cards) - len(rest) <= 6
        assert bool(rest) == bool(find(column, "ql-more"))
    assert [card.value for card in find(columns[0], "ql-scheme")][:3] == ["int8", "int4", "int4-g128"]
    assert [card.value for card in find(columns[4], "ql-scheme")] == ["int5-g64", "w8a8+smoothquant"]
    said = find(columns[4], "ql-scheme")[1].attributes["card"]["data-said"]
    assert "SmoothQuant: outliers of activations moved into the weights" in said


def test_what_is_chosen_is_not_counted_among_the_hidden() -> None:
    before, after = hidden_counts(OFFERED, ["int8"]), hidden_counts(OFFERED, ["int8", "int5", "w8a8-mse"])
    assert before["float"] == 0
    assert (after["integer"], after["activations"]) == (before["integer"] - 1, before["activations"] - 1)


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        (" INT4-G128 + GPTQ ", "int4-g128+gptq", ""),
        ("int8-act-int8", "w8a8", ""),
        ("int3+gptq:block=1.28e2", "int3+gptq", ""),
        ("int4+skip:kind.Embedding", "int4+skip:kind.Embedding", ""),
        ("", "", "Write a scheme's name"),
        ("nvpf4", "", "Did you mean nvfp4 or"),
        ("int4+gtpq", "", "Did you mean gptq?"),
        ("int4+smoothquant", "", "Smoothquant is not defined for int4"),
    ],
)
def test_a_name_that_is_typed_is_tidied_or_told_what_is_wrong(text: str, name: str, problem: str) -> None:
    found_name, said = read_name(text, ALGORITHMS)
    assert found_name == name
    assert problem in said
    assert bool(said) == bool(problem)


def test_cards_say_what_was_found_and_what_is_wrong() -> None:
    source = {"file": SHA}
    assert "Parameters 12" in words(model_card(source, found(checkpoint(FITS))))
    refused = found(
        None, state="failed", error={"code": "x", "message": "a pickle that would run code", "hint": "save"}
    )
    assert "A pickle that would run code. Save." in words(model_card(source, refused))
    assert "This file is data. Use it as data" in words(model_card(source, found(DATA)))
    assert "looking inside" in words(data_card(source, found(None, state="waiting")))
    assert find(model_card(source, refused), "bad")


def test_the_baseline_check_is_told_with_its_error() -> None:
    done = {
        "state": "done",
        "result": {"accuracy": 0.9882, "accuracy_standard_error": 0.0068, "samples": 256, "agrees": True,
                   "message": "labels and transform agree", "hint": ""},
    }  # fmt: skip
    assert words(baseline_view(done)).startswith("98.8 ± 0.7 % accuracy on 256 rows")
    poor = {"state": "done", "result": {**done["result"], "agrees": False}}
    loss = {"state": "done", "result": {**done["result"], "accuracy": None, "loss": 1.25, "loss_standard_error": 0.05}}
    assert words(baseline_view(loss, "causal-lm")).startswith("1.25 ± 0.05 nats loss on 256 rows")
    assert words(baseline_view(loss, "regression")).startswith("1.25 ± 0.05 loss on 256 rows")
    assert find(baseline_view(poor), "bad")
    assert not find(baseline_view(done), "bad")
    failed = {"state": "failed", "error": {"message": "label 12 at row 3", "hint": "the model has 10 classes"}}
    assert "Label 12 at row 3. The model has 10 classes." in words(baseline_view(failed))


def test_the_range_after_the_transform_covers_every_channel() -> None:
    assert range_after(DATA, Transform(scale=1 / 240, mean=(0.5,), std=(0.25,))) == "−2.00 to 2.00"
    assert range_after(DATA, Transform(scale=1 / 240, mean=(0.0, 0.5), std=(1.0, 0.25))) == "−2.00 to 2.00"
    assert range_after(DATA.model_copy(update={"x_min": None}), Transform()) == ""


def test_sample_pictures_are_png() -> None:
    grey = base64.b64decode((png_data_url([[0, 255, 128]]) or "").partition(",")[2])
    assert grey[:8] == b"\x89PNG\r\n\x1a\n"
    start = grey.index(b"IDAT") + 4
    assert zlib.decompress(grey[start : grey.index(b"IEND") - 8]) == bytes([0, 0, 255, 128])
    assert png_data_url([[[255, 0, 0], [0, 255, 0]]]) is not None
    assert png_data_url([1, 2, 3]) is None
    assert png_data_url([[1, 2], [3]]) is None


def test_a_run_gets_a_name_and_a_command() -> None:
    draft = Draft(model={"file": SHA}, data={"example": "digits"}, schemes=("int8", "int2"), scale="1/255", seed=3)
    assert name_of(draft, {"model": found(checkpoint(FITS))}) == "net, int8 to int2"
    recipes = draft.changed(schemes=("int8", "int4+gptq:damping=0.02+skip:head"))
    assert name_of(recipes, {"model": found(checkpoint(FITS))}) == "net, int8 to int4+gptq"
    command = command_of(draft.spec(), {"model": "my net.pt", "data": "digits"})
    assert command.startswith("quant-lens analyze 'my net.pt' --data digits --transform '{\"scale\": 0.00392")
    assert command.endswith("--scheme int8 --scheme int2 --preset standard --limit 1024 --seed 3")


def test_the_command_says_what_differs_from_the_preset() -> None:
    draft = Draft(model={"example": "digits-mlp"}, data={"example": "digits"}, along=("gradient",), plane="none")
    command = command_of(draft.spec(), {"model": "digits-mlp", "data": "digits"})
    assert """--line '{"kinds": ["gradient"]}' --plane '{"steps": 0}'""" in command
    assert "--curvature" not in command


def test_the_command_says_calibration_and_quotes_a_recipe() -> None:
    draft = Draft(
        model={"example": "digits-mlp"}, data={"example": "digits"}, schemes=("w8a8", "int4+only:fc*"),
        calibration={"file": SHA}, calibration_limit=64,
    )  # fmt: skip
    command = command_of(draft.spec(), {"model": "digits-mlp", "data": "digits", "calibration": "my rows.npz"})
    assert "--scheme w8a8 --scheme 'int4+only:fc*'" in command
    assert command.endswith("--limit 1024 --calibration 'my rows.npz' --calibration-limit 64")
    assert parse_run_spec(draft.spec().model_dump(mode="json")) == draft.spec()
