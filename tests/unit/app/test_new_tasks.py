"""The New page's choice of a task, of texts' rows and of an adapter."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from app.pages.new.adapters import adapter_field, adapter_options
from app.pages.new.assessment import assessment
from app.pages.new.callbacks import FIELDS, draft_of, settled_draft
from app.pages.new.draft import Draft
from app.pages.new.summary import command_of
from app.pages.new.tasks import TASK_WORDS, suggested_task, task_options
from quant_lens_engine.schema import ArchitectureMatch, CheckpointInspection, DataInspection
from quant_lens_engine.schema.run_spec import Task
from quant_lens_engine.subject import AVAILABLE_TASKS
from worker.store import FileRecord

SHA, OTHER = "cd" * 32, "ef" * 32
READY = {"model": {"file": SHA}, "data": {"file": OTHER}}


def known(inspection: Any) -> dict[str, Any]:
    return {"state": "done", "error": None, "inspection": inspection.model_dump(mode="json")}


def found(purpose: str | None, labels: str | None, **more: Any) -> dict[str, Any]:
    match = ArchitectureMatch(architecture="net", fits=True, matched=1, wanted=1, found=1)
    model = CheckpointInspection(format="torch", suggested_task=purpose, architectures=[match], **more)
    return {"model": known(model), "data": known(DataInspection(format="npz", samples=9, suggested_task=labels))}


def fields(**changed: Any) -> list[Any]:
    given = {"text_length": 128, "seed": 0, "limit": 8, "schemes": ["int8"], "preset": "standard", "device": "auto",
             "dtype": "float32", **READY} | changed  # fmt: skip
    return [given.get(name) for name in FIELDS]


def test_every_task_of_the_engine_has_words() -> None:
    assert set(TASK_WORDS) == set(AVAILABLE_TASKS) == set(get_args(Task))


@pytest.mark.parametrize(
    ("purpose", "labels", "task"),
    [
        (None, None, None),
        (None, "regression", "regression"),
        (None, "self-distillation", "self-distillation"),
        ("causal-lm", "self-distillation", "causal-lm"),
        ("masked-lm", "classification", "masked-lm"),
        ("classification", "classification", "classification"),
        ("classification", "self-distillation", "self-distillation"),
        ("token-classification", "token-classification", "token-classification"),
        ("classification", None, "classification"),
    ],
)
def test_the_files_suggest_a_task(purpose: str | None, labels: str | None, task: str | None) -> None:
    assert suggested_task(found(purpose, labels)) == task


def test_the_task_follows_the_files_until_the_user_chooses() -> None:
    looked = found("causal-lm", "self-distillation")
    assert draft_of(fields()).task == ""
    assert settled_draft(fields(), looked).spec().task == "causal-lm"
    assert settled_draft(fields(task="classification"), looked).spec().task == "classification"
    assert settled_draft(fields(), {}).spec().task == "classification"
    question = assessment(settled_draft(fields(), looked), looked).question
    assert question is not None
    assert question["task"] == "causal-lm"


def test_the_first_choice_says_what_the_files_say() -> None:
    options = task_options(["classification", "causal-lm"], "causal-lm", "regression")
    assert [option["value"] for option in options] == ["", "classification", "causal-lm", "regression"]
    assert options[0]["label"] == "as the files say: causal lm"


def test_task_texts_and_adapter_are_part_of_link_run_and_command() -> None:
    draft = Draft(**READY, task="masked-lm", text_length=64, packing="joined", adapter="ab" * 32)
    assert Draft.from_query(draft.query()) == draft
    spec = draft.spec()
    assert (spec.task, spec.data.text.length, spec.data.text.packed) == ("masked-lm", 64, True)
    assert spec.model.adapter == "ab" * 32
    again = Draft.from_spec(spec.model_dump(mode="json"))
    assert (again.task, again.text_length, again.packing, again.adapter) == ("masked-lm", 64, "joined", "ab" * 32)
    assert again.spec() == spec
    command = command_of(spec, {"adapter": "lora.zip"})
    assert "--task masked-lm --adapter lora.zip" in command
    assert """--text '{"length": 64, "packed": true}'""" in command


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"text_length": 1}, "text_length", "2 to 65536"),
        ({"text_length": None}, "text_length", "2 to 65536"),
        ({"adapter": SHA, "checkpoints": (OTHER,)}, "adapter", "whole models"),
    ],
)
def test_what_cannot_be_is_told_beside_its_field(changes: dict[str, Any], field: str, words: str) -> None:
    problems = Draft(**READY).changed(**changes).problems()
    assert list(problems) == [field]
    assert words in problems[field]


@pytest.mark.parametrize("search", ["?task=nonsense&packing=odd", "?adapter=xyz&text_length=-4"])
def test_what_a_link_says_badly_is_left_out(search: str) -> None:
    assert Draft.from_query(search) == Draft()


def test_an_adapter_is_no_model_and_is_offered_as_an_adapter() -> None:
    looked = found(None, "classification", adapter=True)
    seen = assessment(Draft(**READY), looked)
    assert seen.question is None
    assert seen.told_beside_button == [
        "The model is a LoRA adapter: choose its base as the model, and this file as the adapter."
    ]
    record = {"size_bytes": 9, "owner": "local", "created_at": "", "inspection_state": "done"}
    lora = FileRecord(sha256=SHA, filename="lora.zip", inspection=looked["model"]["inspection"], **record)
    plain = FileRecord(sha256=OTHER, filename="net.pt", inspection=found(None, None)["model"]["inspection"], **record)
    assert adapter_options([lora, plain], "") == [{"value": SHA, "label": "lora.zip · cdcdcdcd"}]
    assert adapter_options([plain], SHA) == [{"value": SHA, "label": "cdcdcdcd"}]
    assert adapter_field("", [plain]).hidden
    assert not adapter_field("", [lora]).hidden
