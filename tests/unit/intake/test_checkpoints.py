"""Good checkpoints in every form that they come in: read to the last bit, with what was recognised said."""

from __future__ import annotations

import json
import struct
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import inspect_file, open_checkpoint

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16,
          torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]  # fmt: skip


def saved(path, value, **options):
    torch.save(value, path, **options)
    return path


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, dtype, legacy):
    tensors = {
        "a": (torch.randn(5, 3) * 9).to(dtype),
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.empty(0, 4).to(dtype),
    }
    path = saved(tmp_path / "m.pt", tensors, _use_new_zipfile_serialization=not legacy)
    found = open_checkpoint(path)
    assert found.format == ("torch-legacy" if legacy else "torch")
    assert_equal(found.state_dict(), tensors)
    if not legacy:
        safetensors.torch.save_file(tensors, tmp_path / "m.safetensors")
        assert_equal(open_checkpoint(tmp_path / "m.safetensors").state_dict(), tensors)


@pytest.mark.parametrize("legacy", [False, True])
def test_views_transposes_and_shared_storages_are_read_as_they_look(tmp_path, legacy):
    base = torch.arange(24.0).reshape(4, 6)
    tensors = {"base": base, "transposed": base.T, "row": base[2], "every second": base[:, ::2], "part": base[1:3, 2:4]}
    path = saved(tmp_path / "m.pt", tensors, _use_new_zipfile_serialization=not legacy)
    assert_equal(open_checkpoint(path).state_dict(), tensors)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(tmp_path, state, protocol):
    path = saved(tmp_path / "m.pt", OrderedDict(state), pickle_protocol=protocol)
    assert_equal(open_checkpoint(path).state_dict(), state)


def test_parameters_and_metadata_of_a_module(tmp_path):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    path = saved(tmp_path / "m.pt", module.state_dict())  # carries _metadata
    assert_equal(open_checkpoint(path).state_dict(), dict(module.state_dict()))
    path = saved(tmp_path / "p.pt", dict(module.named_parameters()))
    assert open_checkpoint(path).tensors.keys() == dict(module.named_parameters()).keys()


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "my_weights"])
def test_a_nested_state_dict_is_found_and_said(tmp_path, state, key):
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(3))])
    optimizer.param_groups[0]["params"][0].sum().backward()
    optimizer.step()
    training = {"epoch": 7, "best": 0.93, key: state, "optimizer": optimizer.state_dict(), "args": ["--lr", 0.1]}
    found = open_checkpoint(saved(tmp_path / "m.pth", training))
    assert found.container == key
    assert_equal(found.state_dict(), state)
    assert any(repr(key) in note for note in found.notes)


def test_model_is_preferred_to_its_average_and_that_is_said(tmp_path, state):
    average = {name: tensor + 1 for name, tensor in state.items()}
    found = open_checkpoint(saved(tmp_path / "m.pt", {"ema": average, "state_dict": state}))
    assert_equal(found.state_dict(), state)
    assert any("'ema'" in note for note in found.notes)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_prefixes_are_taken_off_and_said(tmp_path, state, prefix):
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    found = open_checkpoint(saved(tmp_path / "m.pt", {"state_dict": wrapped}))
    assert_equal(found.state_dict(), state)
    assert sum("was taken off every key" in note for note in found.notes) == prefix.count(".")


def test_a_prefix_that_only_some_keys_have_stays(tmp_path, state):
    mixed = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert open_checkpoint(saved(tmp_path / "m.pt", mixed)).tensors.keys() == mixed.keys()


def test_an_averaged_model(tmp_path, state):
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(3, 2)).state_dict()
    assert open_checkpoint(saved(tmp_path / "m.pt", averaged)).tensors.keys() == {"weight", "bias"}


def test_the_inspection_says_what_is_there(tmp_path, state):
    found = inspect_file(saved(tmp_path / "anything", {"state_dict": state}), filename="mein modell.pt")
    assert found.kind == "checkpoint"
    assert (found.format, found.container) == ("torch", "state_dict")
    assert found.parameters == sum(tensor.numel() for tensor in state.values())
    assert found.architectures[0].architecture == "digits-mlp"
    assert found.architectures[0].fits
    first = found.tensors[0]
    assert (first.name, first.shape, first.dtype) == ("hidden1.weight", [8, 64], "float32")


def test_non_finite_weights_are_named(tmp_path, state):
    state["hidden2.weight"][3, 2] = float("nan")
    state["classifier.bias"][0] = float("-inf")
    path = saved(tmp_path / "m.pt", state)
    assert inspect_file(path).non_finite == ["hidden2.weight", "classifier.bias"]
    with pytest.raises(CheckpointError, match=r"hidden2\.weight, classifier\.bias") as caught:
        open_checkpoint(path).check_finite()
    assert caught.value.code == "non_finite_weights"
    assert caught.value.details == {"tensors": ["hidden2.weight", "classifier.bias"]}


def test_integers_are_always_finite_and_narrow_floats_are_looked_at(tmp_path):
    weights = torch.zeros(4)
    weights[1] = float("nan")
    path = saved(tmp_path / "m.pt", {"i": torch.ones(3, dtype=torch.int64), "f8": weights.to(torch.float8_e4m3fn)})
    assert open_checkpoint(path).non_finite() == ["f8"]


def test_the_file_is_not_changed_by_reading(tmp_path, state):
    path = saved(tmp_path / "m.pt", state)
    before = path.read_bytes()
    open_checkpoint(path).state_dict()["hidden1.weight"].zero_()
    assert path.read_bytes() == before


def test_public_checkpoints_read_as_torch_reads_them(assets):
    for name in ("cifar10_resnet20/resnet20-12fca82f.th", "mnist_lenet_bn/state_dict.pt"):
        path = assets / "models" / name
        loaded = torch.load(path, weights_only=True, map_location="cpu")
        expected = {key.removeprefix("module."): value for key, value in loaded.get("state_dict", loaded).items()}
        assert_equal(open_checkpoint(path).state_dict(), expected)


@pytest.mark.parametrize("length", [128, 640, 0x0580])
def test_a_safetensors_header_whose_length_looks_like_a_pickle(tmp_path, length):
    text = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).ljust(length).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", length) + text + struct.pack("<2f", 1.0, 2.0))
    found = open_checkpoint(path)
    assert found.format == "safetensors"
    assert found.state_dict()["w"].tolist() == [1.0, 2.0]


def trained(module):
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("legacy", [False, True])
def test_each_part_of_a_training_checkpoint_can_be_chosen(tmp_path, legacy):
    module = nn.Linear(4, 2)
    model, ema = dict(module.state_dict()), {"weight": torch.ones(2, 4), "bias": torch.zeros(2)}
    training = {
        "model": {f"module._orig_mod.{name}": tensor for name, tensor in model.items()},
        "ema": {"decay": 0.999, "module": ema},
        "optimizer": trained(module),
        "lr_scheduler": {"base": torch.ones(50)},
        "rng_state": torch.get_rng_state(),
        "epoch": torch.tensor(3),
    }
    path = saved(tmp_path / "m.pth", training, _use_new_zipfile_serialization=not legacy)
    found = open_checkpoint(path)
    assert found.container == "model"
    assert list(found.parts) == ["model", "ema.module"]
    assert_equal(found.state_dict(), model)
    assert_equal(open_checkpoint(path, part="ema.module").state_dict(), ema)
    assert_equal(open_checkpoint(path, part="model").state_dict(), model)
    described = inspect_file(path)
    assert described.container == "model"
    assert [(part.name, part.tensors, part.parameters) for part in described.parts] == [
        ("model", 2, 10), ("ema.module", 2, 10),
    ]  # fmt: skip
    with pytest.raises(CheckpointError, match="no part 'swa'") as caught:
        open_checkpoint(path, part="swa")
    assert caught.value.code == "no_such_part"
    assert "ema.module" in caught.value.hint


def test_a_part_may_be_the_beginning_of_keys(tmp_path):
    state = {"generator.weight": torch.ones(2, 2), "discriminator.weight": torch.zeros(1, 2)}
    path = saved(tmp_path / "gan.pt", state)
    assert_equal(open_checkpoint(path, part="generator").state_dict(), {"weight": torch.ones(2, 2)})
    path = saved(tmp_path / "nested.pt", {"state_dict": state})
    assert_equal(open_checkpoint(path, part="state_dict.discriminator").state_dict(), {"weight": torch.zeros(1, 2)})
    with pytest.raises(CheckpointError, match="no part") as caught:
        open_checkpoint(path, part="state_dict.encoder")
    assert caught.value.code == "no_such_part"


def test_lightnings_attributes_are_parts(tmp_path):
    state = {f"net.{name}": tensor for name, tensor in nn.Linear(3, 2).state_dict().items()}
    lightning = {"pytorch-lightning_version": "2.5", "state_dict": state, "loops": {"x": torch.ones(9)}}
    found = open_checkpoint(saved(tmp_path / "one.ckpt", lightning))
    assert found.tensors.keys() == {"weight", "bias"}
    assert any("Lightning" in note and "'net'" in note for note in found.notes)
    lightning["state_dict"] = state | {"teacher.big": torch.ones(2)}
    found = open_checkpoint(saved(tmp_path / "two.ckpt", lightning))
    assert list(found.parts) == ["state_dict.net", "state_dict.teacher"]
    assert found.container == "state_dict.net"
    assert_equal(open_checkpoint(tmp_path / "two.ckpt", part="state_dict.teacher").state_dict(), {"big": torch.ones(2)})


def test_a_damaged_part_spoils_only_itself(tmp_path):
    shared = torch.ones(2, 1).expand(2, 500)  # claims more elements than its storage has
    path = saved(tmp_path / "m.pt", {"model": {"weight": torch.ones(2, 2)}, "ema": {"weight": shared}})
    found = open_checkpoint(path)
    assert list(found.parts) == ["model"]
    with pytest.raises(CheckpointError, match="no part 'ema'"):
        open_checkpoint(path, part="ema")
