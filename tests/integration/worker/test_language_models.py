"""A zip of a Hugging Face folder and a file of texts, sent through the HTTP API to a real worker."""

import pytest
import torch

from quant_lens_engine.errors import InputError
from tests.integration.worker.conftest import upload_and_look
from tests.language_models import change_config, sentences, tiny_bert, tiny_llama, write_jsonl, zipped

pytestmark = pytest.mark.integration

QUICK = {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}, "curvature": {"trace_probes": 4}}


@pytest.mark.parametrize(("make", "task"), [(tiny_bert, "masked-lm"), (tiny_llama, "causal-lm")], ids=["bert", "llama"])
def test_a_zip_from_upload_to_verdict(client, tmp_path, make, task):
    model = make(tmp_path / "m")
    archive = upload_and_look(client, zipped(tmp_path / "m", tmp_path / "m.zip"))
    assert archive.inspection["format"] == "hugging-face", archive
    assert archive.inspection["architectures"][0]["architecture"] == type(model).__name__
    assert archive.inspection["architectures"][0]["fits"]
    texts = upload_and_look(client, write_jsonl(tmp_path / "t.jsonl", sentences(40)))
    assert texts.inspection["samples"] == 40
    run = client.submit({
        "model": {"file": archive.sha256}, "data": {"file": texts.sha256, "text": {"length": 10}}, "task": task,
        "schemes": ["int8"], "analyses": QUICK,
    })  # fmt: skip
    ended = client.wait(run.id, timeout_s=240)
    assert (ended.state, ended.failures) == ("DONE", []), ended
    result = client.result(run.id)
    layers = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert result.variant("int8").quantized_layers >= len(layers)
    assert not set(layers) & {item.name for item in result.variant("int8").skipped_layers}
    for variant in result.variants:
        assert 0 < variant.curvature.lambda_max.value < float("inf")
    from quant_lens_engine.analysis import analyze

    files = {archive.sha256: tmp_path / "m.zip", texts.sha256: tmp_path / "t.jsonl"}
    here = analyze(client.run(run.id).spec, files=files)
    assert here.variant("int8").evaluation.loss == result.variant("int8").evaluation.loss


def test_bad_input_42_and_the_next_good_file(client, tmp_path):
    """A configuration with code of its own: a typed answer, nothing run, and the worker goes on."""
    tiny_bert(tmp_path / "m")
    change_config(tmp_path / "m", auto_map={"AutoModelForMaskedLM": "modeling_mine.Mine"})
    canary = tmp_path / "canary"
    (tmp_path / "m" / "modeling_mine.py").write_text(f"open({str(canary)!r}, 'w')")
    record = upload_and_look(client, zipped(tmp_path / "m", tmp_path / "bad.zip"))
    assert record.inspection_state == "failed"
    assert record.error.code == "config_with_code"
    assert "torch.export" in record.error.hint
    assert not canary.exists()
    texts = client.upload(write_jsonl(tmp_path / "t.jsonl", sentences(10)))
    run = client.submit({
        "model": {"file": record.sha256}, "data": {"file": texts.sha256}, "task": "masked-lm", "schemes": ["int8"],
        "analyses": QUICK,
    })  # fmt: skip
    ended = client.wait(run.id, timeout_s=120)
    assert (ended.state, ended.error.code) == ("FAILED", "config_with_code")
    change_config(tmp_path / "m", auto_map=None)
    assert upload_and_look(client, zipped(tmp_path / "m", tmp_path / "good.zip")).inspection_state == "done"


def test_an_unknown_task_of_a_text_is_refused_at_once(client, tmp_path):
    texts = client.upload(write_jsonl(tmp_path / "t.jsonl", sentences(3)))
    with pytest.raises(InputError) as caught:
        client.submit({"model": {"example": "digits-mlp"}, "data": {"file": texts.sha256}, "task": "poetry",
                       "schemes": ["int8"]})  # fmt: skip
    assert caught.value.code == "bad_spec"
