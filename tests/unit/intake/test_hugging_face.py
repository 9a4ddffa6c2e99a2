"""Folders and zips of Hugging Face: which class, which tensor is which, and what is refused."""

import json
import os
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant_lens_engine.errors import ArchitectureError, CheckpointError
from quant_lens_engine.intake import build_model, choose_architecture, inspect_file, open_checkpoint
from tests.language_models import change_config, tiny_bert, tiny_llama, zipped

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return folder, tiny_bert(folder / "bert"), tiny_llama(folder / "llama")


@pytest.fixture
def bert(made, tmp_path):
    return shutil.copytree(made[0] / "bert", tmp_path / "bert")


@pytest.fixture
def llama(made, tmp_path):
    return shutil.copytree(made[0] / "llama", tmp_path / "llama")


def built(path):
    checkpoint = open_checkpoint(path)
    return build_model(checkpoint, choose_architecture(checkpoint, "auto"))


def refused(path, code):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.code == code, caught.value
    assert caught.value.hint
    assert str(path.parent) not in caught.value.message + caught.value.hint
    return caught.value


def change_weights(folder, change):
    """The stored tensors, changed by a function of their dict."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def same_answers(one, other, **inputs):
    tokens = torch.tensor([[2, 7, 9, 11, 3]])
    with torch.no_grad():
        return torch.equal(one(input_ids=tokens, **inputs).logits, other(input_ids=tokens, **inputs).logits)


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_folder_and_a_zip_give_the_model_back(made, tmp_path, kind, as_zip):
    folder, *models = made
    path = zipped(folder / kind, tmp_path / "m.zip") if as_zip else folder / kind
    original = models[kind == "llama"]
    model = built(path)
    assert type(model) is type(original)
    assert same_answers(model, original)
    assert not model.training


def test_the_zip_of_a_folder_in_a_folder(bert, tmp_path):
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in bert.iterdir():
            archive.write(file, f"my-bert/{file.name}")
    assert inspect_file(path).architectures[0].fits


def test_an_inspection_says_class_tokens_and_ties(made, tmp_path):
    path = zipped(made[0] / "bert", tmp_path / "m.zip")
    found = inspect_file(path)
    assert found.format == "hugging-face"
    (match,) = found.architectures
    assert (match.architecture, match.fits) == ("BertForMaskedLM", True)
    # tied names are one tensor: parameters() counts them once too
    assert found.parameters == sum(parameter.numel() for parameter in made[1].parameters())
    notes = " ".join(found.notes)
    assert "for masked lm" in notes
    assert "knows 37 tokens" in notes
    assert "bert.embeddings.word_embeddings.weight and cls.predictions.decoder.weight are one tensor" in notes


def test_shards_with_an_index(made, tmp_path):
    made[2].save_pretrained(tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert open_checkpoint(tmp_path).format == "hugging-face"
    assert same_answers(built(tmp_path), made[2])


# ---- names of other times and other heads


def test_old_names_of_normalisations(bert, made):
    change_weights(bert, lambda state: {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in state.items()
    })  # fmt: skip
    assert same_answers(built(bert), made[1])


def test_position_ids_and_another_head_are_said_and_not_used(bert, made):
    change_weights(bert, lambda state: state | {
        "bert.embeddings.position_ids": torch.arange(32)[None],
        "bert.pooler.dense.weight": torch.zeros(16, 16), "cls.seq_relationship.bias": torch.zeros(2),
    })  # fmt: skip
    checkpoint = open_checkpoint(bert)
    notes = " ".join(checkpoint.notes)
    assert "computes bert.embeddings.position_ids itself" in notes
    assert "no such part: bert.pooler.dense.weight, cls.seq_relationship.bias" in notes
    assert same_answers(built(bert), made[1])


def test_names_without_the_body_prefix(llama, made):
    change_weights(llama, lambda state: {key.removeprefix("model."): value for key, value in state.items()})
    assert same_answers(built(llama), made[2])


def test_names_that_the_library_has_changed_since(tmp_path):
    """save_pretrained writes GPT-NeoX's head as embed_out, the name that its files have always had."""
    import transformers

    torch.manual_seed(0)
    original = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32, attn_implementation="eager",
    )).eval()  # fmt: skip
    original.save_pretrained(tmp_path)
    assert "embed_out.weight" in load_file(tmp_path / "model.safetensors")
    assert same_answers(built(tmp_path), original)


def test_experts_that_the_library_joins_are_said(tmp_path):
    import transformers

    transformers.MixtralForCausalLM(transformers.MixtralConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=24, num_local_experts=2,
    )).save_pretrained(tmp_path)  # fmt: skip
    found = inspect_file(tmp_path)
    assert not found.architectures[0].fits
    assert any("joins or cuts 6 tensors" in note for note in found.notes), found.notes


def test_a_tied_head_that_is_not_stored(tmp_path):
    original = tiny_llama(tmp_path / "m", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(tmp_path / "m" / "model.safetensors")
    model = built(tmp_path / "m")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert same_answers(model, original)


def test_a_tied_head_that_is_stored_with_other_numbers_is_kept_apart(tmp_path):
    """As transformers does it: the file is right, the configuration is not."""
    tiny_llama(tmp_path / "m", tie_word_embeddings=True)
    head = torch.randn(37 - 2, 16, generator=torch.Generator().manual_seed(1))
    change_weights(tmp_path / "m", lambda state: state | {"lm_head.weight": head})
    checkpoint = open_checkpoint(tmp_path / "m")
    assert "kept apart" in " ".join(checkpoint.notes)
    model = built(tmp_path / "m")
    assert torch.equal(model.lm_head.weight, head)
    assert not torch.equal(model.model.embed_tokens.weight, head)


# ---- missing heads


def test_a_body_without_a_head(tmp_path):
    tiny_bert(tmp_path / "m", "BertModel")
    found = inspect_file(tmp_path / "m")
    assert found.architectures[0].architecture == "BertModel"
    assert any("no head" in note for note in found.notes)
    with pytest.raises(ArchitectureError) as caught:
        open_checkpoint(tmp_path / "m").named.require("masked-lm")
    assert caught.value.code == "missing_head"
    assert "BertForMaskedLM" in caught.value.hint


def test_a_head_that_the_file_lacks(bert):
    change_weights(bert, lambda state: {key: value for key, value in state.items() if not key.startswith("cls.")})
    found = inspect_file(bert)
    assert not found.architectures[0].fits
    missing = [item.key for item in found.architectures[0].differences]
    assert "cls.predictions.transform.dense.weight" in missing
    with pytest.raises(ArchitectureError, match=r"cls\.predictions"):
        open_checkpoint(bert).named.require("masked-lm")


def test_the_wrong_task_for_a_class(made):
    with pytest.raises(ArchitectureError) as caught:
        open_checkpoint(made[0] / "llama").named.require("masked-lm")
    assert (caught.value.code, caught.value.hint) == ("wrong_task", "choose the task causal-lm")


def test_a_configuration_without_a_class_name(bert, made):
    change_config(bert, architectures=None)
    assert same_answers(built(bert), made[1])


# ---- refused


@pytest.mark.parametrize("nested", [False, True])
def test_bad_input_42_a_config_with_code_of_its_own(bert, monkeypatch, nested):
    """Refused before transformers or a tensor is looked at."""
    wanted = {"AutoModelForMaskedLM": "modeling_mine.Mine"}
    change_config(bert, **({"text_config": {"auto_map": wanted}} if nested else {"auto_map": wanted}))
    (bert / "modeling_mine.py").write_text("raise SystemExit('run')")
    loaded = []
    monkeypatch.setattr("quant_lens_engine.intake.transformers_classes.library", lambda: loaded.append("transformers"))
    (bert / "model.safetensors").write_bytes(b"never read")
    error = refused(bert, "config_with_code")
    assert "modeling_mine.Mine" in error.message
    assert "torch.export" in error.hint
    assert loaded == []


def test_trust_remote_code(bert):
    change_config(bert, trust_remote_code=True)
    refused(bert, "config_with_code")


def test_an_unknown_model_type(bert):
    change_config(bert, model_type="brt")
    error = refused(bert, "unknown_model_type")
    assert "bert" in error.hint


def test_a_class_of_another_family(bert):
    change_config(bert, architectures=["LlamaForCausalLM"])
    assert "BertForMaskedLM" in refused(bert, "unknown_class").hint


@pytest.mark.parametrize("name", ["PreTrainedModel", "pipeline", "__import__", "os.system"])
def test_names_that_are_no_model(bert, name):
    change_config(bert, architectures=[name])
    refused(bert, "unknown_class")


def test_weights_of_another_kind(bert):
    (bert / "model.safetensors").unlink()
    (bert / "tf_model.h5").write_bytes(b"HDF5")
    assert "save_pretrained" in refused(bert, "pickled_weights").hint


def test_weights_that_are_quantized_already(bert):
    change_config(bert, quantization_config={"quant_method": "gptq"})
    assert "gptq" in refused(bert, "quantized_model").message


@pytest.mark.parametrize("value", [10**9, 5000])
def test_more_layers_than_tensors(bert, value):
    change_config(bert, num_hidden_layers=value)
    refused(bert, "bad_config")


def test_sizes_that_the_class_refuses(bert):
    change_config(bert, num_attention_heads=3)
    assert "BertForMaskedLM cannot be built" in refused(bert, "bad_config").message


def test_kernels_of_the_hub_are_not_asked_for(bert, made):
    change_config(bert, _attn_implementation="kernels-community/flash-attn", attn_implementation="flash_attention_2")
    assert same_answers(built(bert), made[1])


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_config_that_is_no_object(bert, content):
    (bert / "config.json").write_bytes(content)
    refused(bert, "bad_config")


def test_compressed_weights_in_a_zip(bert, tmp_path):
    path = zipped(bert, tmp_path / "m.zip", zipfile.ZIP_DEFLATED)
    assert "zip -0" in refused(path, "compressed_member").hint


def test_without_transformers_the_reason_is_said(bert, monkeypatch):
    from quant_lens_engine.intake import transformers_classes

    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    transformers_classes.library.cache_clear()
    monkeypatch.setattr(transformers_classes.importlib, "import_module", broken)
    try:
        error = refused(bert, "transformers_unavailable")
    finally:
        transformers_classes.library.cache_clear()
    assert "torchvision::nms" in error.message
    assert "quant-lens[transformers]" in error.hint


def test_a_config_of_something_else_is_left_to_others(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"lr": 0.1}))
    save_file({"w": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).format == "sharded-safetensors"


def test_an_inspection_suggests_what_the_class_is_for(made):
    folder = made[0]
    assert inspect_file(folder / "bert").suggested_task == "masked-lm"
    assert inspect_file(folder / "llama").suggested_task == "causal-lm"


# ---- pytorch_model.bin


def as_pickled(folder, *, shards=1, legacy=False, keep=False):
    """The folder as save_pretrained wrote it before safetensors."""
    state = load_file(folder / "model.safetensors")
    if not keep:
        (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        return folder
    names, where = list(state), {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05d}-of-{shards:05d}.bin"
        part = {name: state[name] for name in names[number::shards]}
        where |= dict.fromkeys(part, file)
        torch.save(part, folder / file, _use_new_zipfile_serialization=not legacy)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_pickled_weights_are_followed_as_data(made, bert, tmp_path, as_zip, legacy, shards):
    (bert / "training_args.bin").write_bytes(b"\x80\x02cos\nsystem\nq\x00.")  # beside the weights, and none of them
    folder = as_pickled(bert, shards=shards, legacy=legacy)
    path = zipped(folder, tmp_path / "m.zip") if as_zip else folder
    model = built(path)
    assert same_answers(model, made[1])
    said = " ".join(inspect_file(path).notes)
    assert ("3 shards were read by the index" if shards == 3 else "pytorch_model.bin was read") in said


def test_safetensors_come_first_where_both_are_there(made, bert):
    as_pickled(bert, keep=True)
    (bert / "pytorch_model.bin").write_bytes(b"not even looked at")
    found = inspect_file(bert)
    assert "pytorch_model.bin is there too; it was not looked at." in found.notes
    assert same_answers(built(bert), made[1])


class Planted:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_pickled_weights_is_refused(bert, tmp_path, as_zip, legacy):
    canary = tmp_path / "canary"
    state = load_file(bert / "model.safetensors") | {"x": Planted(canary)}
    (bert / "model.safetensors").unlink()
    torch.save(state, bert / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    path = zipped(bert, tmp_path / "m.zip") if as_zip else bert
    assert "pytorch_model.bin" in refused(path, "pickle_with_code").message
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path, trusted=True)  # a folder is no format that runs
    assert caught.value.code == "pickle_with_code"
    assert not canary.exists()


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda content: content[:-100], "truncated_file"),
        (lambda content: b"", "not_a_checkpoint"),
        (lambda content: b"<html>", "not_a_checkpoint"),
    ],
)
def test_damaged_pickled_weights(bert, tmp_path, as_zip, change, code):
    file = as_pickled(bert) / "pytorch_model.bin"
    file.write_bytes(change(file.read_bytes()))
    path = zipped(bert, tmp_path / "m.zip") if as_zip else bert
    assert "pytorch_model.bin" in refused(path, code).message
