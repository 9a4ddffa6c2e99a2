"""A part of a training checkpoint, an adapter and sharded safetensors, uploaded, inspected and run by a real worker."""

import hashlib
import json
import shutil
import time
import zipfile

import pytest
import safetensors.torch
import torch

from quant_lens_engine.intake import ARCHITECTURES
from quant_lens_engine.schema import FLOAT_VARIANT
from worker import queue
from worker.store import Conflict

pytestmark = pytest.mark.integration

QUICK = {"schemes": ["int8"], "analyses": {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}}}


def upload(house, path):
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    shutil.copy(path, copy := path.with_suffix(".part"))
    house.store.files.add(copy, sha256, path.name, "local")
    queue.inspect(house.store, sha256)
    deadline = time.monotonic() + 60
    while (record := house.store.files.get(sha256)).inspection_state in {"waiting", "running"}:
        assert time.monotonic() < deadline, house.log()
        time.sleep(0.05)
    assert record.inspection_state == "done", record
    return sha256, record.inspection


def loss(house, **model):
    run = house.wait(house.submit(model={"architecture": "digits-mlp"} | model, **QUICK))
    assert run.state == "DONE", run
    return house.store.results.result(run.id).variant(FLOAT_VARIANT).evaluation.loss


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return [ARCHITECTURES["digits-mlp"].build({}).state_dict() for _ in range(2)]


def test_the_chosen_part_is_what_is_measured(shared_house, tmp_path, networks):
    model, ema = networks
    torch.save({"model": model, "ema": {"module": ema}, "epoch": 3}, tmp_path / "training.pt")
    safetensors.torch.save_file(ema, tmp_path / "ema.safetensors")
    training, found = upload(shared_house, tmp_path / "training.pt")
    assert found["container"] == "model"
    assert [part["name"] for part in found["parts"]] == ["model", "ema.module"]
    assert all("slow" in part["fits"] for part in found["parts"])  # a plug-in of this house has the same keys
    alone, _ = upload(shared_house, tmp_path / "ema.safetensors")
    chosen = loss(shared_house, file=training, part="ema.module")
    assert chosen == loss(shared_house, file=alone)
    assert chosen != loss(shared_house, file=training)
    refused = shared_house.wait(shared_house.submit(model={"file": training, "part": "swa"}, **QUICK))
    assert (refused.state, refused.error.code) == ("FAILED", "no_such_part")


def test_shards_and_an_adapter_come_as_stored_zips(shared_house, tmp_path, networks):
    state = dict(networks[0])
    halves = list(state)[:3], list(state)[3:]
    index = {"weight_map": {}}
    for number, names in enumerate(halves, start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        safetensors.torch.save_file({name: state[name] for name in names}, tmp_path / file)
        index["weight_map"] |= dict.fromkeys(names, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    a, b = torch.randn(2, 64), torch.randn(32, 2) * 0.1
    prefix = "base_model.model.hidden1."
    safetensors.torch.save_file(
        {prefix + "lora_A.weight": a, prefix + "lora_B.weight": b}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    for name, pattern in (("model.zip", "model*"), ("lora.zip", "adapter*")):
        files = sorted(tmp_path.glob(pattern))
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in files:
                archive.write(file, file.name)
    merged = state["hidden1.weight"].double() + 2 * (b.double() @ a.double())
    safetensors.torch.save_file(state | {"hidden1.weight": merged.float()}, tmp_path / "merged.safetensors")
    base, found = upload(shared_house, tmp_path / "model.zip")
    assert found["format"] == "sharded-safetensors"
    adapter, _ = upload(shared_house, tmp_path / "lora.zip")
    whole, _ = upload(shared_house, tmp_path / "merged.safetensors")
    assert loss(shared_house, file=base, adapter=adapter) == loss(shared_house, file=whole)
    with pytest.raises(Conflict):  # a run needs it
        shared_house.store.files.delete(adapter)
