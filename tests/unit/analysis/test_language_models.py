"""A BERT and a Llama with random weights, measured from text: against the loss that transformers computes itself."""

import copy
import json

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from quant_lens_engine.analysis import Workbench, analyze, check_baseline
from quant_lens_engine.cli import main
from quant_lens_engine.errors import ArchitectureError, CheckpointError, DataError
from quant_lens_engine.intake import build_model, choose_architecture, open_checkpoint
from quant_lens_engine.schema import parse_run_spec
from quant_lens_engine.subject import Subject, file_sha256
from tests.language_models import sentences, tiny_bert, tiny_llama, write_gguf, write_jsonl, zipped

pytestmark = pytest.mark.slow

pytest.importorskip("transformers")

LENGTH = 10
"""Some texts are longer and are cut, most are shorter and are padded."""

NO_PLANE = {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}, "curvature": {"trace_probes": 4}}


class Case:
    """A model in a folder, and texts for it."""

    def __init__(self, folder, make, task):
        self.model, self.task = make(folder / "model"), task
        self.places = {"model": folder / "model", "zip": zipped(folder / "model", folder / "m.zip")}
        self.places["texts"] = write_jsonl(folder / "t.jsonl", sentences(200))
        self.hashes = {name: file_sha256(path) for name, path in self.places.items()}
        self.files = {self.hashes[name]: path for name, path in self.places.items()}

    def spec(self, model="model", **changes):
        data = {"file": self.hashes["texts"], "limit": 24, "text": {"length": LENGTH}} | changes.pop("data", {})
        return parse_run_spec({"model": {"file": self.hashes[model]}, "data": data, "task": self.task,
                               "schemes": ["int4"], "analyses": NO_PLANE} | changes)  # fmt: skip

    def subject(self, **changes):
        return Subject.read(self.spec(**changes), self.files)

    def loss(self, **changes):
        block = {"device": "cpu", "dtype": "float64", "micro_batch": changes.pop("micro_batch", 128)}
        return self.subject(**changes).objective(block).loss()

    def their_loss(self, subject):
        """transformers' own, labels given, in double precision."""
        with torch.no_grad():
            return their_loss(self.model.double(), subject.rows).item()


def their_loss(model, rows):
    inputs = {name: torch.from_numpy(value) for name, value in
              (("input_ids", rows.x), ("attention_mask", rows.mask), ("labels", rows.y))}  # fmt: skip
    return model(**inputs).loss


def loss_and_largest_eigenvalue(model, rows):
    """Of transformers' own loss, in double precision, by ARPACK: nothing of the engine takes part."""
    model = copy.deepcopy(model).double()
    model.set_attn_implementation("eager")  # fused attention has no second derivative
    parameters = list(model.parameters())
    loss = their_loss(model, rows)
    gradient = torch.nn.utils.parameters_to_vector(torch.autograd.grad(loss, parameters, create_graph=True))

    def product(vector):
        found = torch.autograd.grad(gradient, parameters, torch.from_numpy(vector.reshape(-1)), retain_graph=True)
        return torch.cat([part.reshape(-1) for part in found]).numpy()

    operator = LinearOperator((len(gradient),) * 2, matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(gradient))
    return loss.item(), float(eigsh(operator, 1, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)[0])


@pytest.fixture(scope="module", params=[(tiny_bert, "masked-lm"), (tiny_llama, "causal-lm")], ids=["bert", "llama"])
def case(request, tmp_path_factory):
    return Case(tmp_path_factory.mktemp("case"), *request.param)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["model", "zip"])
def test_the_loss_is_that_of_transformers(case, place, packed):
    data = {"text": {"length": LENGTH, "packed": packed}, "limit": None}
    subject = case.subject(model=place, data=data)
    assert (subject.rows.mask == 0).any()  # padding is there, in a packed file in the last row
    assert case.loss(model=place, data=data) == pytest.approx(case.their_loss(subject), abs=1e-6)


def test_padding_changes_nothing(case):
    """The same rows, filled up by eight more places. (Of Llama norms and softmax are in float32, whatever it is.)"""
    subject = case.subject()
    rows, more = subject.rows, ((0, 0), (0, 8))
    block = {"device": "cpu", "dtype": "float64", "micro_batch": 128}
    wider = type(rows)(
        torch.nn.functional.pad(torch.from_numpy(rows.x), more[1]).numpy(),
        torch.nn.functional.pad(torch.from_numpy(rows.y), more[1], value=-100).numpy(),
        rows.indices, rows.available, None,
        mask=torch.nn.functional.pad(torch.from_numpy(rows.mask), more[1]).numpy(),
    )  # fmt: skip
    objective, padded = (Subject(**{**vars(subject), "rows": one}).objective(block) for one in (rows, wider))
    exact = 1e-12 if case.task == "masked-lm" else 1e-7
    assert padded.loss() == pytest.approx(objective.loss(), abs=exact)


@pytest.mark.parametrize("micro_batch", [1, 5])
def test_micro_batches_change_nothing(case, micro_batch):
    """Rows count as many tokens as they have: a mean of means would differ."""
    assert case.loss(micro_batch=micro_batch) == pytest.approx(case.loss(), abs=1e-12)


def test_a_run_from_folder_to_verdict(case):
    result = analyze(case.spec(), files=case.files)
    assert result.failures == []
    assert result.task == case.task
    assert result.model.architecture == type(case.model).__name__
    assert result.model.parameters == sum(parameter.numel() for parameter in case.model.parameters())
    fp32, int4 = result.variants
    subject = case.subject()
    assert fp32.evaluation.loss == pytest.approx(case.their_loss(subject), abs=1e-6)
    counted = subject.rows.y if case.task == "masked-lm" else subject.rows.y[:, 1:]
    assert fp32.evaluation.samples == (counted != -100).sum()
    _, largest = loss_and_largest_eigenvalue(case.model, subject.rows)
    assert fp32.curvature.lambda_max.value == pytest.approx(largest, rel=1e-4)
    for variant in result.variants:
        assert variant.curvature.lambda_max.value > 0
        assert variant.curvature.lambda_max.upper < float("inf")
    assert int4.evaluation.delta_loss != 0
    assert int4.evaluation.kl_to_float > 0
    skipped = {item.name for item in int4.skipped_layers}
    linear = [name for name, module in case.model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert int4.quantized_layers >= len(linear)
    assert not skipped & set(linear)


def test_the_zip_gives_the_folders_digits(case):
    folder, archive = (analyze(case.spec(model=place), files=case.files) for place in ("model", "zip"))
    assert folder.variants[1].evaluation.loss == archive.variants[1].evaluation.loss
    assert folder.variants[1].curvature.lambda_max.value == archive.variants[1].curvature.lambda_max.value


def test_every_file_of_a_language_model_measures_the_same(case, tmp_path):
    """Folder, zip, shards in both, and GGUF for the class that it is read for; texts with padding."""
    case.model.float().save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    files = [case.places["model"], case.places["zip"], tmp_path / "shards",
             zipped(tmp_path / "shards", tmp_path / "s.zip")]  # fmt: skip
    if case.task == "causal-lm":
        pytest.importorskip("gguf", reason="the library gguf is not installed: pip install quant-lens[gguf]")
        files.append(write_gguf(case.model, tmp_path / "m.gguf"))
    rows = case.subject().rows
    loss, largest = loss_and_largest_eigenvalue(case.model, rows)
    for file in files:
        checkpoint = open_checkpoint(file)
        model = build_model(checkpoint, choose_architecture(checkpoint, "auto"))
        found = loss_and_largest_eigenvalue(model, rows)
        assert found[0] == pytest.approx(loss, abs=1e-6), file.name
        assert found[1] == pytest.approx(largest, rel=1e-4), file.name


def test_static_activation_ranges_come_from_other_texts(case):
    bench = Workbench.open(case.spec(schemes=["w8a8"], data={"limit": 12}), files=case.files)
    calibration = bench.subject.calibration
    assert not calibration.overlap
    assert not set(calibration.rows.indices) & set(bench.subject.rows.indices)


def test_the_baseline_check_of_random_weights(case):
    check = check_baseline(case.spec(), case.files)
    assert check.samples > 0
    assert check.agrees is False
    assert "commonest token" in check.message


def test_the_command_line_takes_a_folder(case, tmp_path, capsys):
    out = tmp_path / "r.json"
    code = main([
        "analyze", str(case.places["model"]), "--data", str(case.places["texts"]), "--task", case.task, "--limit", "24",
        "--text", json.dumps({"length": LENGTH}), "--scheme", "int4", "--preset", "quick",
        "--line", '{"steps": 3}', "--plane", '{"steps": 0}', "--json", str(out),
    ])  # fmt: skip
    assert code == 0, capsys.readouterr().err
    result = json.loads(out.read_text())
    assert result["model"]["format"] == "hugging-face"
    assert result["variants"][0]["evaluation"]["loss"] == pytest.approx(case.their_loss(case.subject()), abs=1e-6)


def test_texts_for_a_classifier(tmp_path):
    case = Case(tmp_path, lambda folder: tiny_bert(folder, "BertForSequenceClassification"), "classification")
    path = write_jsonl(tmp_path / "labelled.jsonl", sentences(12), [number % 2 for number in range(12)])
    files = case.files | {file_sha256(path): path}
    spec = case.spec(data={"file": file_sha256(path)})
    subject = Subject.read(spec, files)
    block = {"device": "cpu", "dtype": "float64", "micro_batch": 128}
    assert subject.objective(block).loss() == pytest.approx(case.their_loss(subject), abs=1e-6)


# ---- what does not go together


def test_text_without_a_tokenizer(tmp_path):
    path = write_jsonl(tmp_path / "t.jsonl", sentences(4))
    spec = parse_run_spec(
        {"model": {"example": "digits-mlp"}, "data": {"file": file_sha256(path)}, "schemes": ["int8"]}
    )
    with pytest.raises(DataError) as caught:
        Subject.read(spec, {file_sha256(path): path})
    assert caught.value.code == "text_without_tokenizer"
    assert "tokenizer.json" in caught.value.hint


def test_images_for_a_language_model(case):
    with pytest.raises(DataError) as caught:
        Subject.read(parse_run_spec(case.spec().model_dump() | {"data": {"example": "digits"}}), case.files)
    assert caught.value.code == "not_text"


def test_a_model_without_its_tokenizer(tmp_path):
    case = Case(tmp_path, tiny_bert, "masked-lm")
    (case.places["model"] / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        case.subject()
    assert caught.value.code == "missing_tokenizer"


def test_the_task_of_another_class(case):
    other = {"masked-lm": "causal-lm", "causal-lm": "masked-lm"}[case.task]
    with pytest.raises(ArchitectureError) as caught:
        case.subject(task=other)
    assert caught.value.code == "wrong_task"
