"""What the New page makes of files, clicks and checks."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import pytest

from app.pages.new.architectures import best_architecture, differences_table
from app.pages.new.assessment import assessment, name_of
from app.pages.new.cards import data_card, model_card
from app.pages.new.choosing import choose
from app.pages.new.data_view import baseline_view, range_after
from app.pages.new.draft import Draft
from app.pages.new.pixels import png_data_url
from app.pages.new.summary import command_of
from quant_lens_engine.schema import (
    ArchitectureMatch,
    CheckpointInspection,
    DataInspection,
    Examples,
    KeyDifference,
    Transform,
)
from tests.unit.app.words import find, words

SHA = "cd" * 32
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
    command = command_of(draft.spec(), {"model": "my net.pt", "data": "digits"})
    assert command.startswith("quant-lens analyze 'my net.pt' --data digits --transform '{\"scale\": 0.00392")
    assert command.endswith("--scheme int8 --scheme int2 --preset standard --limit 1024 --seed 3")
