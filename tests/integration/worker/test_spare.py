"""The engine process that waits for the next file: within its walls, used once, replaced, gone with its worker.

What replaces it, and when, is tried without a worker in ``tests/unit/worker/test_spare.py``.
"""

import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import save_file

from quant_lens_engine.intake import ARCHITECTURES
from tests.integration.worker.conftest import House, engines_of, has_ended
from tests.integration.worker.test_checkpoint_choices import upload
from worker import sandbox

pytestmark = pytest.mark.integration

WITHIN_S = 60


@pytest.fixture
def house(tmp_path):
    opened = House(tmp_path, plugins=Path(__file__).parent / "probes")
    yield opened
    opened.close()


def idle_engine(worker, *others, has_walls=True):
    """The worker's one engine process, once it is another than ``others``, and has its walls."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        found = [engine for engine in engines_of(worker) if engine not in others]
        if len(found) == 1 and not has_walls:
            return found[0]
        if len(found) == 1 and "Seccomp:\t2" in status_of(innermost(found[0])):
            return found[0]
        time.sleep(0.05)
    raise AssertionError("no idle engine process")


def innermost(engine):
    """The process itself, where bubblewrap is around it."""
    return [engine, *engine.children(recursive=True)][-1]


def status_of(process):
    try:
        return Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return ""


def acts(inspection):
    (probe,) = [match for match in inspection["architectures"] if match["architecture"] == "probe"]
    return {difference["key"].partition(".")[0] for difference in probe["differences"] if "_" in difference["key"]}


def test_it_serves_one_file_within_its_walls_and_another_one_takes_its_place(house, tmp_path):
    standing = sandbox.survey(house.settings).standing
    if "seccomp" not in standing:
        pytest.skip("a process whose walls are raised is told by its seccomp filter, which this machine lacks")
    worker = house.start_worker("inspect")
    first = idle_engine(worker)
    inside = innermost(first)
    tasks = list(Path(f"/proc/{inside.pid}/task").iterdir())
    assert all("Seccomp:\t2" in (task / "status").read_text() for task in tasks)
    if "user" in standing:
        assert set(inside.uids()) == {65534}
    if "namespaces" in standing:
        assert Path(f"/proc/{inside.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()

    save_file(ARCHITECTURES["digits-mlp"].build({}).state_dict(), tmp_path / "model.safetensors")
    _, found = upload(house, tmp_path / "model.safetensors")
    expected = {"socket_stopped", "fork_stopped"}
    if "landlock" in standing:
        expected.add("read_stopped")
    assert expected <= acts(found)
    second = idle_engine(worker, first, has_walls=False)
    assert has_ended(first)  # the one that had waited was asked, and nobody else ever will

    worker.kill()
    psutil.wait_procs([second], timeout=5)
    assert has_ended(second)
