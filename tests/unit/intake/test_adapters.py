"""LoRA adapters as PEFT saves them (written here by hand: PEFT is not installed), merged onto a base."""

from __future__ import annotations

import json
import math
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from quant_lens_engine.analysis import analyze
from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import ARCHITECTURES, build_model, choose_architecture, inspect_file, open_checkpoint
from quant_lens_engine.intake.adapters import merge_adapter, read_adapter
from quant_lens_engine.schema import parse_run_spec
from quant_lens_engine.subject import file_sha256
from tests.language_models import sentences, tiny_bert, tiny_llama, write_jsonl

CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 16, "bias": "none", "target_modules": ["hidden1", "classifier"]}


def write(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    prefixed = {f"base_model.model.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(prefixed, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    return folder


def factors(layer, out, into, rank=2):
    return {f"{layer}.lora_A.weight": torch.randn(rank, into), f"{layer}.lora_B.weight": torch.randn(out, rank)}


@pytest.fixture
def base(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "base.safetensors")
    return open_checkpoint(tmp_path / "base.safetensors")


@pytest.fixture
def lora(state):
    torch.manual_seed(3)
    return factors("hidden1", 8, 64) | factors("classifier", 10, 6)


def merged(base, folder):
    return merge_adapter(base, read_adapter(folder, "adapter")).state_dict()


def product(lora, layer):
    return lora[f"{layer}.lora_B.weight"].double() @ lora[f"{layer}.lora_A.weight"].double()


@pytest.mark.parametrize(("options", "scale"), [({}, 8.0), ({"use_rslora": True}, 16 / math.sqrt(2))])
def test_weights_are_w_plus_scale_b_a(base, tmp_path, state, lora, options, scale):
    found = merged(base, write(tmp_path / "a", lora, **options))
    assert found.keys() == state.keys()
    for layer in ("hidden1", "classifier"):
        expected = (state[f"{layer}.weight"].double() + scale * product(lora, layer)).float()
        assert torch.equal(found[f"{layer}.weight"], expected)
    for name in ("hidden1.bias", "hidden2.weight", "hidden2.bias", "classifier.bias"):
        assert torch.equal(found[name], state[name])


def test_patterns_of_rank_and_alpha_and_trained_modules(base, tmp_path, state, lora):
    lora |= factors("hidden2", 6, 8, rank=3) | {"classifier.bias": torch.ones(10)}
    folder = write(tmp_path / "a", lora, rank_pattern={"hidden2": 3}, alpha_pattern={"hidden2": 6})
    adapter = read_adapter(folder, "adapter")
    found = merge_adapter(base, adapter)
    expected = (state["hidden2.weight"].double() + 2.0 * product(lora, "hidden2")).float()
    assert torch.equal(found.state_dict()["hidden2.weight"], expected)
    assert torch.equal(found.state_dict()["classifier.bias"], torch.ones(10))
    assert "A LoRA adapter is merged: 3 weights, rank 3, scale 2 to 8." in found.notes
    assert "The adapter replaces classifier.bias." in found.notes


def test_embeddings_convolutions_and_transposed_layers(tmp_path):
    torch.manual_seed(0)
    state = {"embed.weight": torch.randn(9, 5), "conv.weight": torch.randn(4, 3, 3, 3), "one.weight": torch.randn(7, 5)}
    safetensors.torch.save_file(state, tmp_path / "b.safetensors")
    base = open_checkpoint(tmp_path / "b.safetensors")
    a, b = torch.randn(2, 9), torch.randn(5, 2)
    found = merged(base, write(tmp_path / "e", {"embed.lora_embedding_A": a, "embed.lora_embedding_B": b}))
    assert torch.equal(
        found["embed.weight"], (state["embed.weight"].double() + 8 * (b.double() @ a.double()).T).float()
    )
    a, b = torch.randn(2, 3, 3, 3), torch.randn(4, 2, 1, 1)
    found = merged(base, write(tmp_path / "c", {"conv.lora_A.weight": a, "conv.lora_B.weight": b}))
    two_steps = nn.functional.conv2d(
        nn.functional.conv2d(x := torch.randn(1, 3, 6, 6).double(), a.double()), b.double()
    )
    expected = nn.functional.conv2d(x, state["conv.weight"].double()) + 8 * two_steps
    assert torch.allclose(nn.functional.conv2d(x, found["conv.weight"].double()), expected, atol=1e-4)
    lora = {"one.lora_A.weight": torch.randn(2, 7), "one.lora_B.weight": torch.randn(5, 2)}
    found = merged(base, write(tmp_path / "t", lora, fan_in_fan_out=True))
    assert torch.equal(found["one.weight"], (state["one.weight"].double() + 8 * product(lora, "one").T).float())


def test_a_run_with_an_adapter_is_the_run_of_the_merged_model(tmp_path):
    torch.manual_seed(1)
    model = ARCHITECTURES["digits-mlp"].build({})
    lora = {k: v * 0.1 for k, v in (factors("hidden1", 32, 64) | factors("classifier", 10, 32)).items()}
    torch.save(model.state_dict(), tmp_path / "base.pt")
    with torch.no_grad():
        for layer in ("hidden1", "classifier"):
            weight = model.get_parameter(f"{layer}.weight")
            weight.copy_((weight.double() + 8 * product(lora, layer)).float())
    torch.save(model.state_dict(), tmp_path / "merged.pt")
    folder = write(tmp_path / "lora", lora)
    with zipfile.ZipFile(tmp_path / "lora.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"lora/{file.name}")
    losses = []
    for file, adapter in (
        ("merged.pt", None),
        ("base.pt", folder),
        ("base.pt", tmp_path / "lora.zip"),
        ("base.pt", None),
    ):
        files = {file_sha256(path): path for path in (tmp_path / file, adapter) if path is not None}
        source = {"file": file_sha256(tmp_path / file), "architecture": "digits-mlp"}
        spec = parse_run_spec(
            {
                "model": source | ({"adapter": file_sha256(adapter)} if adapter else {}),
                "data": {"example": "digits", "limit": 64},
                "schemes": ["int8"],
                "analyses": {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}},
            }
        )
        losses.append([variant.evaluation.loss for variant in analyze(spec, files=files).variants])
    assert losses[0] == losses[1] == losses[2]
    assert losses[3] != losses[0]
    assert any("LoRA adapter" in note for note in inspect_file(tmp_path / "lora.zip").notes)


def test_weights_that_are_not_finite_are_named(base, tmp_path, lora):
    lora["classifier.lora_B.weight"][0, 0] = np.inf
    found = merge_adapter(base, read_adapter(write(tmp_path / "a", lora), "adapter"))
    assert found.non_finite() == ["classifier.weight"]
    with pytest.raises(CheckpointError) as caught:
        found.check_finite()
    assert caught.value.code == "non_finite_weights"


MISMATCHES = {
    "unknown layer": (factors("hidden7", 8, 64), "has no such tensor; near are hidden"),
    "another width": (factors("hidden1", 8, 32), r"has it with the shape \[8, 64\]"),
    "a bias of another size": (factors("hidden1", 8, 64) | {"hidden1.bias": torch.ones(3)}, r"with the shape \[8\]"),
}


@pytest.mark.parametrize("what", MISMATCHES)
def test_another_base_is_refused(base, tmp_path, what):
    tensors, words = MISMATCHES[what]
    adapter = read_adapter(write(tmp_path / "a", tensors), "adapter")
    with pytest.raises(CheckpointError, match=words) as caught:
        merge_adapter(base, adapter)
    assert caught.value.code == "adapter_mismatch"


BAD = {
    "another method": ({"peft_type": "IA3"}, "not LORA"),
    "dora": ({"use_dora": True}, "use_dora"),
    "another rank": ({"r": 4}, "have the rank 2, its configuration says 4"),
    "no alpha": ({"lora_alpha": "much"}, "no number"),
    "an infinite alpha": ({"lora_alpha": 1e999}, "no number"),
    "an expression": ({"alpha_pattern": {"(a+)+$": 3}}, "by the expression"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_plain_lora_is_refused(tmp_path, lora, what):
    config, words = BAD[what]
    with pytest.raises(CheckpointError, match=words) as caught:
        read_adapter(write(tmp_path / "a", lora, **config), "adapter")
    assert caught.value.code == "bad_adapter"
    assert "PEFT" in caught.value.hint


def test_what_lacks_a_part_is_refused(tmp_path, lora):
    folder = write(tmp_path / "a", {"hidden1.lora_A.weight": lora["hidden1.lora_A.weight"]})
    with pytest.raises(CheckpointError, match="only one of the two factors"):
        read_adapter(folder, "adapter")
    with pytest.raises(CheckpointError, match="no lora_A"):
        read_adapter(write(tmp_path / "b", {"hidden1.weight": torch.ones(2)}), "adapter")
    with pytest.raises(CheckpointError, match="which plain LoRA has not"):
        read_adapter(write(tmp_path / "c", {"h.lora_magnitude_vector": torch.ones(2)}), "adapter")
    (folder / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="it has no adapter_config"):
        read_adapter(folder, "adapter")
    wrong = {"h.lora_A.weight": torch.ones(2, 3), "h.lora_B.weight": torch.ones(4, 3)}
    with pytest.raises(CheckpointError, match="have the shapes"):
        read_adapter(write(tmp_path / "d", wrong), "adapter")


# ---- onto classes of transformers


def on_class(tmp_path, make, lora, **options):
    """The class's own weights, and those with the adapter merged."""
    pytest.importorskip("transformers")
    own = make(tmp_path / "model").state_dict()
    checkpoint = merge_adapter(
        open_checkpoint(tmp_path / "model"), read_adapter(write(tmp_path / "a", lora, **options), "adapter")
    )
    return own, build_model(checkpoint, choose_architecture(checkpoint, "auto")).state_dict()


@pytest.mark.parametrize("body", [False, True])
def test_onto_a_bert_with_a_trained_head(tmp_path, body):
    """PEFT names weights as the class does that it wrapped: with its head, or the body alone."""
    layer = "bert.encoder.layer.1.attention.self.query"
    lora = factors(layer.removeprefix("bert.") if body else layer, 16, 16)
    head = {"classifier.weight": torch.randn(2, 16), "classifier.bias": torch.ones(2)}
    own, found = on_class(
        tmp_path, lambda folder: tiny_bert(folder, "BertForSequenceClassification", num_labels=2), lora | head
    )
    expected = own[f"{layer}.weight"].double() + 8 * product(lora, layer.removeprefix("bert.") if body else layer)
    assert torch.equal(found[f"{layer}.weight"], expected.float())
    assert torch.equal(found["classifier.weight"], head["classifier.weight"])
    changed = {name for name in own if not torch.equal(own[name], found[name])}
    assert changed == {f"{layer}.weight", "classifier.weight", "classifier.bias"}


def test_of_tied_weights_both_names_change(tmp_path):
    a, b = torch.randn(2, 35), torch.randn(16, 2)
    lora = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    own, found = on_class(tmp_path, lambda folder: tiny_llama(folder, tie_word_embeddings=True), lora)
    expected = own["lm_head.weight"].double() + 8 * (b.double() @ a.double()).T
    assert torch.equal(found["model.embed_tokens.weight"], expected.float())
    assert torch.equal(found["lm_head.weight"], expected.float())


def test_a_llama_with_an_adapter_is_measured(tmp_path):
    pytest.importorskip("transformers")
    tiny_llama(tmp_path / "model")
    folder = write(tmp_path / "a", factors("model.layers.0.mlp.down_proj", 16, 24))
    data = write_jsonl(tmp_path / "texts.jsonl", sentences(12))
    files = {file_sha256(path): path for path in (tmp_path / "model", folder, data)}
    model, adapter, rows = files
    results = [
        analyze(
            {
                "model": {"file": model} | more, "data": {"file": rows, "text": {"length": 12}}, "task": "causal-lm",
                "schemes": ["int8"], "analyses": {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}},
            },
            files=files,
        )
        for more in ({}, {"adapter": adapter})
    ]  # fmt: skip
    losses = [result.variant("FP32").evaluation.loss for result in results]
    assert losses[0] != losses[1]
    assert results[1].variant("int8").curvature.lambda_max.value is not None
