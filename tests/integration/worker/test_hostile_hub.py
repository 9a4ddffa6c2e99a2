"""A repository whose author means ill, a hub that answers wrongly, processes in each other's way: each is the end of
one fetch, typed and tried once, and of nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import time

import pytest

from tests.hub_server import Hub, Repo
from tests.integration.worker.conftest import House
from tests.integration.worker.test_hub import blob, until_ended
from worker import queue
from worker.hub import leftovers

pytestmark = pytest.mark.integration

CONTENT = blob(1)
NAME = "model.safetensors"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    opened = Hub()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", opened.url)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        yield opened
    opened.close()


@pytest.fixture(scope="module")
def house(hub, tmp_path_factory):
    opened = House(tmp_path_factory.mktemp("house"), hub=True)
    opened.start_worker("fetch")
    opened.wait_for_workers(1)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _good_mood(hub):
    hub.asked.clear()
    hub.pause_s, hub.cut_after, hub.is_down, hub.answers = 0.0, None, False, {}


def fetched(house, repo, owner="local"):
    house.store.client.delete("-", *house.store.client.keys("*:fetched:*"))  # what commits have become
    return until_ended(house, queue.fetch(house.store, repo, "main", owner).key)


def code(house, repo):
    record = fetched(house, repo)
    assert record.state == "failed", record
    assert record.error.code != "worker_lost"
    return record.error.code


def still_works(house, hub):
    """The worker goes on, and the next one comes."""
    hub.answers = {}
    hub.repos["team/good"] = Repo({NAME: CONTENT}, commit="0" * 40)
    return fetched(house, "team/good").state == "done"


@pytest.mark.parametrize("size", [-1, None, "12", 1.5, True, [], 10**30], ids=repr)
def test_a_size_that_is_none_is_not_believed(house, hub, size):
    hub.repos["team/size"] = Repo({"config.json": b"{}", NAME: CONTENT}, commit="1" * 40, said={NAME: size})
    assert code(house, "team/size") == ("too_large" if size == 10**30 else "hub_refused")
    assert hub.bodies() == []
    assert still_works(house, hub)


@pytest.mark.parametrize(
    "name",
    ["a" * 300 + ".safetensors", "é" * 150 + ".safetensors", "x\nForged: line.safetensors", "x\x1b[2J.safetensors"],
)
def test_a_name_that_can_name_no_file_is_nothing_that_is_fetched(house, hub, name):
    hub.repos["team/name"] = Repo({name: CONTENT}, commit="2" * 40)
    assert code(house, "team/name") == "no_weights"
    hub.repos["team/name"] = Repo({name: CONTENT, NAME: CONTENT}, commit="2" * 40)
    assert fetched(house, "team/name").state == "done"
    assert "\nForged" not in house.log()


def test_what_is_read_of_a_listing_has_an_end(house, hub):
    many = {f"{number}.txt": b"" for number in range(7000)}
    hub.repos["team/many"] = Repo({NAME: CONTENT, **many}, commit="3" * 40)
    assert code(house, "team/many") == "too_many_files"
    assert sum("/tree/" in one.path for one in hub.asked) <= 6, "pages that nobody needs are not asked for"


def test_bytes_that_were_not_asked_for_are_not_put_together(house, hub):
    """Of another piece, or of another file: the rest is asked for anew, as a whole."""
    hub.repos["team/range"] = Repo({NAME: CONTENT}, commit="4" * 40)
    for wrong in ("bytes 0-9/1000032", "bytes 640000-1/7", "bytes */5", ""):
        hub.asked.clear()
        hub.cut_after, hub.answers = 700_000, {"Content-Range": wrong}
        record = fetched(house, "team/range")
        assert record.state == "done"
        assert house.store.files.local_path(record.sha256).read_bytes() == CONTENT
        assert [one.range is None for one in hub.bodies(NAME)] == [True, False, True]


def test_what_comes_compressed_is_not_unpacked(house, hub):
    hub.repos["team/packed"] = Repo({NAME: CONTENT}, commit="5" * 40)
    hub.answers = {"Content-Encoding": "gzip"}
    assert code(house, "team/packed") == "hub_refused"
    assert still_works(house, hub)


@pytest.mark.parametrize("name", ["config.json", NAME])
def test_bytes_of_any_file_are_those_that_the_hub_names(house, hub, name):
    files = {"config.json": b'{"a": 1}', NAME: CONTENT}
    hub.repos["team/other"] = Repo(files, commit="6" * 40, hashes={name: "0" * (40 if name == "config.json" else 64)})
    record = fetched(house, "team/other")
    assert record.error.code == "hash_mismatch"
    assert name in record.error.message
    hub.repos["team/other"] = Repo(files, commit="6" * 40)
    hub.asked.clear()
    assert fetched(house, "team/other").state == "done"
    assert [one.path.rpartition("/")[2] for one in hub.bodies()] == [name], "the other file was kept"


def test_a_fault_of_ours_ends_the_fetch_at_once(house, hub):
    hub.repos["team/fault"] = Repo({NAME: CONTENT}, commit="7" * 40)
    hub.pause_s = 0.2
    key = queue.fetch(house.store, "team/fault", "main", "local").key
    folder = house.settings.hub_dir / key / ("7" * 40)
    deadline = time.monotonic() + 30
    while not folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    shutil.rmtree(folder)  # under its feet: what it writes has no place any more
    record = until_ended(house, key)
    assert (record.state, record.error.code) == ("failed", "internal_fault")
    assert house.store.jobs.attempts(f"fetch:{key}") == 0
    hub.pause_s = 0.0
    assert still_works(house, hub)


def test_what_failed_is_kept_and_counts_until_it_is_forgotten(house, hub):
    two = {"model-00001-of-00002.safetensors": blob(2), "model-00002-of-00002.safetensors": blob(1)}
    hub.repos["team/kept"] = Repo(two, commit="8" * 40, hashes={"model-00002-of-00002.safetensors": "0" * 64})
    record = fetched(house, "team/kept", owner="ana")
    kept = len(two["model-00001-of-00002.safetensors"])
    assert (record.error.code, record.bytes_kept) == ("hash_mismatch", kept)
    assert house.store.fetches.promised_bytes("ana") == kept
    folder = house.settings.hub_dir / record.key
    leftovers.sweep(house.store)
    assert leftovers.bytes_in(folder) == kept
    queue.cancel_fetch(house.store, record.key)
    leftovers.sweep(house.store)
    assert not folder.exists()
    assert not (house.settings.hub_dir / ".locks" / record.key).exists()
    assert house.store.fetches.promised_bytes("ana") == 0
    assert house.settings.hub_dir.stat().st_mode & 0o777 == 0o700


def test_a_process_that_has_lost_its_lease_keeps_its_folder_to_itself(hub, tmp_path):
    """It sleeps for longer than its lease; the next one does not write into the file that it will go on with."""
    hub.repos["team/sleep"] = Repo({NAME: blob(3)}, commit="9" * 40)
    hub.pause_s = 0.15
    house = House(tmp_path, hub=True)
    try:
        first = house.start_worker("fetch")
        house.wait_for_workers(1)
        key = queue.fetch(house.store, "team/sleep", "main", "local").key
        deadline = time.monotonic() + 60
        while house.store.fetches.get(key).bytes_done < 500_000:
            assert time.monotonic() < deadline, house.log()
            time.sleep(0.05)
        os.kill(first.pid, signal.SIGSTOP)
        hub.pause_s = 0.0
        house.start_worker("fetch")
        record = until_ended(house, key)
        assert (record.state, record.error.code) == ("failed", "fetch_busy")
        assert len(hub.bodies()) == 1, "the second asked for nothing"
        os.kill(first.pid, signal.SIGCONT)
        time.sleep(1.0)
        record = fetched(house, "team/sleep")
        assert record.state == "done", record
        assert house.store.files.local_path(record.sha256).read_bytes() == blob(3)
    finally:
        os.kill(first.pid, signal.SIGCONT)
        house.close()
