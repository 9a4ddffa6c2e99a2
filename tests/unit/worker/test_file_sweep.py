"""Files go when the last run that named them is gone and their grace is over; never one that somebody needs."""

import contextlib
import hashlib
import os
import threading
import time

import pytest

from quant_lens_engine.errors import SpecError
from quant_lens_engine.schema import CheckpointInspection
from tests.unit.worker.test_store import add_file, spec
from worker import queue
from worker.file_sweep import FileSweep
from worker.store import NotFound, keys

GRACE_S = 3600.0


@pytest.fixture
def sweep(store):
    store.settings = store.settings.model_copy(update={"file_grace_s": GRACE_S})
    return FileSweep(store, "me").sweep


def let_time_pass(store, sha256, seconds=2 * GRACE_S):
    """As if everything about the file had happened so much earlier."""
    for field in ("created_at", "needed_at"):
        value = float(store.client.hget(keys.file(sha256), field))
        store.client.hset(keys.file(sha256), field, f"{value - seconds:.6f}")


def looked_at(store, sha256):
    store.files.set_inspection(sha256, "done", CheckpointInspection(format="safetensors").model_dump())
    store.jobs.drop(f"inspect:{sha256}")


def test_a_file_goes_with_the_last_run_after_its_grace(store, tmp_path, sweep):
    sha256 = add_file(store, tmp_path, b"weights")
    path = store.files.local_path(sha256)
    runs = [queue.submit(store, spec(model={"file": sha256}), "ana").id for _ in range(2)]
    let_time_pass(store, sha256)
    for run_id in runs:
        assert sweep() == []  # queued, then cancelled: the record may still be retried
        store.runs.request_cancel(run_id)
        assert sweep() == []
        store.runs.delete(run_id)
    assert sweep() == []  # the grace begins with the deletion
    let_time_pass(store, sha256)
    assert sweep() == [sha256]
    assert store.files.find(sha256) is None
    assert store.files.list() == []
    assert not path.exists()
    assert sweep() == []


def test_a_file_that_no_run_has_named_has_its_grace_from_its_arrival(store, tmp_path, sweep):
    sha256 = add_file(store, tmp_path, b"weights")
    assert sweep() == []
    let_time_pass(store, sha256)
    add_file(store, tmp_path, b"weights")  # it arrives again
    assert sweep() == []
    let_time_pass(store, sha256)
    assert sweep() == [sha256]


def test_what_is_inspected_or_checked_stays(store, tmp_path, sweep):
    inspected, checked = (add_file(store, tmp_path, content) for content in (b"inspected", b"checked"))
    queue.inspect(store, inspected)
    key = queue.check(store, spec(model={"file": checked}))
    for sha256 in (inspected, checked):
        let_time_pass(store, sha256)
    assert sweep() == []
    looked_at(store, inspected)
    store.jobs.drop(f"check:{key}")
    assert sorted(sweep()) == sorted([inspected, checked])


def test_a_check_begins_the_grace_anew_and_a_file_that_is_gone_is_told(store, tmp_path, sweep):
    sha256 = add_file(store, tmp_path, b"weights")
    let_time_pass(store, sha256)
    key = queue.check(store, spec(model={"file": sha256}))
    store.jobs.drop(f"check:{key}")
    assert sweep() == []
    let_time_pass(store, sha256)
    assert sweep() == [sha256]
    with pytest.raises(SpecError) as caught:
        queue.check(store, spec(model={"file": sha256}))
    assert caught.value.code == "unknown_file"
    with pytest.raises(SpecError):
        store.runs.create(spec(model={"file": sha256}), "ana")
    assert store.client.keys("*:run:*") == []
    assert store.client.keys(f"*{sha256}*") == []


def test_calibration_rows_adapters_and_every_checkpoint_count(store, tmp_path, sweep):
    files = [add_file(store, tmp_path, content) for content in (b"model", b"rows", b"adapter", b"first")]
    model, rows, adapter, first = files
    data = {"example": "digits", "calibration": {"file": rows}}
    queue.submit(store, spec(model={"file": model, "adapter": adapter}, data=data), "ana")
    queue.submit(store, spec(model={"file": model, "checkpoints": [first]}), "ana")
    for sha256 in files:
        let_time_pass(store, sha256)
    assert sweep() == []


def test_a_run_that_is_created_while_the_sweep_looks_has_its_file_or_is_refused(store, tmp_path, sweep):
    kept = 0
    for turn in range(40):
        content = f"weights {turn}".encode()
        sha256 = add_file(store, tmp_path, content)
        let_time_pass(store, sha256)
        start, ahead_s = threading.Barrier(2), (turn - 20) * 4e-4  # now the one is first, now the other

        def look(start=start, ahead_s=ahead_s):
            start.wait()
            time.sleep(max(0.0, -ahead_s))
            sweep()

        other = threading.Thread(target=look)
        other.start()
        start.wait()
        time.sleep(max(0.0, ahead_s))
        run = None
        with contextlib.suppress(SpecError):
            run = store.runs.create(spec(model={"file": sha256}), "ana")
        other.join()
        if run is None:
            with pytest.raises(NotFound):
                store.files.local_path(sha256)
        else:
            kept += 1
            assert store.files.local_path(sha256).read_bytes() == content
            assert store.files.find(sha256) is not None
            store.runs.request_cancel(run.id)
            store.runs.delete(run.id)
    assert kept > 0


def test_bytes_that_arrive_again_while_they_are_removed_are_there(store, tmp_path, sweep):
    content = b"weights" * 1000
    sha256 = hashlib.sha256(content).hexdigest()
    for _ in range(20):
        add_file(store, tmp_path, content)
        let_time_pass(store, sha256)
        other = threading.Thread(target=sweep)
        other.start()
        add_file(store, tmp_path, content)
        other.join()
        assert (store.files.find(sha256) is not None) == (len(store.files.list()) == 1)
        assert store.files.local_path(sha256).read_bytes() == content


def test_bytes_without_a_record_go_and_foreign_files_stay(store, tmp_path, sweep):
    sha256 = add_file(store, tmp_path, b"weights")
    known = store.files.local_path(sha256)
    stray, partial, foreign = (
        known.with_name("0" * 64),
        known.with_name(f".{'1' * 64}.partial"),
        known.with_name("mine"),
    )
    for path in (stray, partial, foreign):
        path.write_bytes(b"x")
    sweep()
    assert stray.exists()  # somebody may be about to write its record
    for path in (known, stray, partial, foreign):
        os.utime(path, (1, 1))
    sweep()
    assert [path.exists() for path in (known, stray, partial, foreign)] == [True, False, False, True]
