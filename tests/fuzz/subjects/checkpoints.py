"""Checkpoints: looked at as an upload is, their tensors read, and the network that a file brings put together."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from quant_lens_engine.errors import InputError
from quant_lens_engine.intake import build_model, choose_architecture, inspect_file, open_checkpoint
from quant_lens_engine.intake.adapters import merge_adapter, read_adapter
from tests.fuzz.subjects import Subject, add
from tests.unit.intake.graphs.conftest import export
from tests.unit.intake.graphs.test_onnx_files import exported

MOST_ELEMENTS = 1 << 22


def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"0.weight": torch.randn(6, 8), "0.bias": torch.randn(6), "2.weight": torch.randn(3, 6).half(),
            "2.bias": torch.ones(3), "steps": torch.tensor(3)}  # fmt: skip


def small_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 3), nn.Softmax(-1),
    ).eval()  # fmt: skip


def look(path: Path) -> object:
    """As an inspection does, then as a run begins."""
    found = inspect_file(path, filename="theirs")
    json.dumps(found.model_dump(mode="json"))
    checkpoint = open_checkpoint(path, "theirs")
    if sum(stored.count for stored in checkpoint.tensors.values()) <= MOST_ELEMENTS:
        checkpoint.state_dict()
    if checkpoint.network is not None:
        return build_model(checkpoint, choose_architecture(checkpoint, "auto"))
    return found


def saved(value: object, **options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def training() -> dict[str, object]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    return {"epoch": 1, "model": state, "ema": {"module": state}, "optimizer": optimizer.state_dict(), "best": 0.5}


def torch_files() -> dict[str, bytes]:
    base = torch.arange(12.0).reshape(3, 4)
    views = {"base": base, "turned": base.T, "part": base[1:, 1:3], "param": torch.nn.Parameter(base.clone())}
    return {"state dict": saved(small_state()), "training": saved(training()), "views": saved(views)}


def legacy_files() -> dict[str, bytes]:
    return {name: saved(value, _use_new_zipfile_serialization=False)
            for name, value in (("state dict", small_state()), ("training", training()))}  # fmt: skip


def shards() -> dict[str, bytes]:
    state = small_state()
    halves = {"model-00001-of-00002.safetensors": list(state)[:2], "model-00002-of-00002.safetensors": list(state)[2:]}
    members = {file: safetensors.torch.save({name: state[name] for name in names}) for file, names in halves.items()}
    index = {"weight_map": {name: file for file, names in halves.items() for name in names}}
    return {"shards": zipped(members | {"model.safetensors.index.json": json.dumps(index).encode()})}


def adapters() -> dict[str, bytes]:
    prefix = "base_model.model.0."
    lora = {f"{prefix}lora_A.weight": torch.ones(2, 8), f"{prefix}lora_B.weight": torch.ones(6, 2)}
    config = b'{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {}, "use_dora": false}'
    return {"LoRA": zipped({"adapter_model.safetensors": safetensors.torch.save(lora), "adapter_config.json": config})}


def merge(path: Path) -> object:
    """Onto a base, as a run does."""
    base = path.with_name("base.pt")
    torch.save({**small_state(), "0.weight": torch.zeros(6, 8)}, base)
    merged = merge_adapter(open_checkpoint(base), read_adapter(path, "theirs"))
    return merged.state_dict() if all(change.a.shape[0] < 99 for change in merged.adapter.changes) else None


def written(write, name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def archives() -> dict[str, bytes]:
    model, x = small_network(), torch.rand(2, 1, 4, 4)
    return {"network": written(lambda path: export(model, (x,), path), "m.pt2"),
            "one batch": written(lambda path: export(model, (x,), path, dynamic=False), "m.pt2")}  # fmt: skip


def onnx_files() -> dict[str, bytes]:
    model, x = small_network(), torch.rand(2, 1, 4, 4)
    return {"network": written(lambda path: exported(model, x, path, 17, dynamo=False), "m.onnx")}


add("safetensors", Subject(lambda: {"state dict": safetensors.torch.save(small_state())}, look, (InputError,)))
add("sharded-safetensors", Subject(shards, look, (InputError,)))
add("adapter", Subject(adapters, merge, (InputError,)))
add("torch", Subject(torch_files, look, (InputError,)))
add("torch-legacy", Subject(legacy_files, look, (InputError,)))
add("torch-export", Subject(archives, look, (InputError,)))
add("onnx", Subject(onnx_files, look, (InputError,), "protobuf"))
