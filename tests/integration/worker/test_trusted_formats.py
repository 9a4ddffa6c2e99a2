"""Files that are code, on a server that trusts them: read in the engine process alone, whose walls hold what they try;
and on one that does not: refused, with nothing run."""

import hashlib
import time

import pytest
import torch
from torch import nn

from tests.integration.worker.conftest import House
from tests.security.bad_inputs.torchscript import Reads, Writes, _save
from worker import queue, sandbox, trust

pytestmark = pytest.mark.integration


class Runs:
    """Pickles to a name of torch that runs a program."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        from torch.utils.collect_env import run

        return run, (self.command,)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    opened = House(tmp_path_factory.mktemp("house"), trusted_formats=True)
    found = sandbox.survey(opened.settings)
    if not trust.runs_code(opened.settings):
        opened.close()
        pytest.skip(f"the walls do not stand here: {dict(found.missing)}")
    opened.start_worker("runs", "inspect")
    yield opened
    opened.close()


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).eval()


def added(house, path) -> str:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    house.store.files.add(path, sha256, "model.pt", "local")
    return sha256


def inspected(house, sha256):
    queue.inspect(house.store, sha256)
    deadline = time.monotonic() + 240
    while (record := house.store.files.get(sha256)).inspection_state in {"waiting", "running"}:
        assert time.monotonic() < deadline, house.log()
        time.sleep(0.05)
    return record


@pytest.mark.parametrize("kind", ["torchscript", "pickled-module"])
def test_a_run_says_that_its_model_was_loaded_as_code(house, tmp_path, kind):
    path = tmp_path / "model.pt"
    if kind == "torchscript":
        torch.jit.trace(mlp(), torch.zeros(2, 8, 8)).save(path)
    else:
        torch.save(mlp(), path)
    sha256 = added(house, path)
    record = inspected(house, sha256)
    assert (record.error, record.inspection["format"]) == (None, kind)
    assert record.inspection["trusted_code"]
    run = house.wait(house.submit(model={"file": sha256}, schemes=["int8"], data={"example": "digits", "limit": 64}))
    assert run.state == "DONE", run
    result = house.store.results.result(run.id)
    assert (result.model.format, result.model.trusted_code, result.model.sha256) == (kind, True, sha256)
    assert result.variant("int8").curvature.lambda_max.value is not None


@pytest.mark.parametrize("kind", ["a program", "a file", "another file"])
def test_what_code_in_it_tries_is_held_by_the_walls(house, tmp_path, kind):
    """The same files, loaded without walls, leave their mark: what is missing afterwards is the walls' work."""
    marker, secret = tmp_path / "marker", tmp_path / "secret"
    secret.write_bytes(b"a secret of this server, longer than sixteen bytes")
    path = tmp_path / "model.pt"
    if kind == "a program":
        module = mlp()
        module.more = Runs(f"touch {marker}")
        torch.save(module, path)
        torch.load(path, weights_only=False)
        assert marker.exists()
        marker.unlink()
    elif kind == "a file":
        _save(Writes(str(marker)), path)
        torch.jit.load(path)
        assert marker.exists()
        marker.unlink()
    else:
        _save(Reads(str(secret)), path)
        assert bytes(torch.jit.load(path).w.numpy()) == secret.read_bytes()[:16]
    record = inspected(house, added(house, path))
    assert not marker.exists()
    if kind == "a file":  # torch does not say that it could not open it
        assert record.inspection_state == "done", record
    else:
        assert record.error.code in ("torchscript_failed", "pickled_module_failed"), record
        assert str(tmp_path) not in record.error.message
    assert [worker.poll() for worker in house.workers] == [None]


def test_the_server_says_so(house):
    deadline = time.monotonic() + 240
    while not house.store.capabilities.is_known():
        assert time.monotonic() < deadline, house.log()
        time.sleep(0.1)
    facts = house.store.capabilities.read()
    assert facts.trusted_formats
    assert {found.name for found in facts.formats if found.is_code} == {"torchscript", "pickled-module"}
    assert not any("trusted" in problem for worker in facts.workers for problem in worker.problems)
