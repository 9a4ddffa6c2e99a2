"""Runs by a real worker: finished, measured as the command line measures, reused, shared, refused."""

import shutil
import time

import pytest

from quant_lens_engine.schema import FLOAT_VARIANT, RunResult
from tests.integration.worker.conftest import engines_of, long_spec, spec
from worker import queue

pytestmark = pytest.mark.integration

TIMES = {"elapsed_s"}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def finished(shared_house):
    return shared_house.wait(shared_house.submit())


def test_a_run_ends_with_every_stage_done(finished):
    assert finished.state == "DONE", finished
    assert finished.progress.fraction == 1
    assert {stage.state for stage in finished.progress.stages} == {"done"}
    assert finished.failures == []
    assert finished.attempt == 1


def test_every_stage_names_its_worker_and_its_time(shared_house, finished):
    computed = [stage for stage in finished.progress.stages if not stage.from_store]
    assert computed
    assert all(stage.elapsed_s >= 0 and str(shared_house.workers[0].pid) in stage.worker for stage in computed)


def test_the_result_is_the_command_lines_digit_for_digit(shared_house, finished):
    from quant_lens_engine.analysis import analyze

    here = analyze(spec()).model_dump(mode="json")
    there = shared_house.store.results.result(finished.id).model_dump(mode="json")
    assert without_times(there) == without_times(here)


def test_events_tell_the_whole_story(shared_house, finished):
    events = shared_house.store.events.read(finished.id)
    states = [event.data["state"] for event in events if event.kind == "state"]
    assert states == ["QUEUED", "RUNNING", "DONE"]
    assert len(shared_house.commits(finished.id)) == finished.progress.stages_total
    assert [event.id for event in events] == sorted((event.id for event in events), key=_order)


def _order(event_id):
    return tuple(map(int, event_id.split("-")))


def test_a_second_run_takes_its_stages_from_the_store(shared_house, finished):
    second = shared_house.wait(shared_house.submit(name="again"))
    taken = {f"{stage.stage}/{stage.variant}": stage.from_store for stage in second.progress.stages}
    assert all(from_store for name, from_store in taken.items() if name != "inspect/None")
    results = [shared_house.store.results.result(run.id) for run in (finished, second)]
    assert results[0] == results[1]


def test_another_line_leaves_the_stored_curvature_valid(shared_house, finished):
    other = shared_house.wait(shared_house.submit(analyses={"preset": "quick", "line": {"steps": 7}}))
    taken = {stage.stage: stage.from_store for stage in other.progress.stages}
    assert taken["curvature"]
    assert not taken["line"]


def test_a_stage_goes_with_the_last_run_that_uses_it(shared_house):
    store = shared_house.store
    first, second = (shared_house.wait(shared_house.submit(seed=7)) for _ in range(2))
    fingerprints = store.client.hvals(f"quant_lens:run:{first.id}:results")
    store.runs.delete(first.id)
    assert store.results.result(second.id).variant(FLOAT_VARIANT).curvature is not None
    store.runs.delete(second.id)
    assert [name for name in fingerprints if store.client.exists(f"quant_lens:stage:{name}")] == []


def test_summaries_are_the_results_in_short(shared_house, finished):
    summary = shared_house.store.results.summaries([finished.id])[finished.id]
    result: RunResult = shared_house.store.results.result(finished.id)
    assert [variant.name for variant in summary.variants] == ["int8", "int4"]
    for variant in summary.variants:
        comparison = result.comparison(variant.name)
        assert variant.delta_loss == comparison.delta_loss
        assert variant.sharpness_ratio == comparison.sharpness_ratio
        assert variant.verdict == comparison.verdict.level
    assert shared_house.store.results.summaries([finished.id])[finished.id] == summary  # the kept one


def test_a_failed_inspect_ends_the_run_with_its_typed_error(shared_house):
    run = shared_house.wait(shared_house.submit(model={"example": "digits-mlp", "architecture": "digits-cnn"}))
    assert run.state == "FAILED"
    assert run.error.code == "architecture_mismatch", run.error
    assert run.failures[0].stage == "inspect"
    assert {stage.state for stage in run.progress.stages[1:]} == {"skipped"}
    assert shared_house.wait(shared_house.submit(seed=1)).state == "DONE"  # and the next good one passes


def test_a_device_that_nobody_has_is_a_typed_error(shared_house):
    run = shared_house.wait(shared_house.submit(execution={"device": "cuda:7"}))
    assert (run.state, run.error.code) == ("FAILED", "device_unavailable")


def test_retry_is_a_new_run_of_the_same_specification(shared_house, finished):
    again = queue.retry(shared_house.store, finished.id, "someone")
    assert (again.retry_of, again.owner, again.spec) == (finished.id, "someone", finished.spec)
    assert shared_house.wait(again.id).state == "DONE"


def test_cancel_ends_the_work_within_five_seconds(shared_house):
    run_id = shared_house.submit(**long_spec(seed=2))
    shared_house.wait_for_stages(run_id, 2)
    [worker, _] = shared_house.workers
    at_work = engines_of(worker)
    started = time.monotonic()
    assert queue.cancel(shared_house.store, run_id).state == "CANCELLED"
    while any(engine.is_running() for engine in at_work):
        assert time.monotonic() - started < 5, at_work
        time.sleep(0.05)
    assert shared_house.endings(run_id) == ["CANCELLED"]
    settled = shared_house.commits(run_id)
    time.sleep(1)
    assert shared_house.commits(run_id) == settled


def test_an_inspection_says_what_is_in_a_file(shared_house, tmp_path):
    from quant_lens_engine.intake import example_path

    record = _upload(shared_house, tmp_path, example_path("digits-cnn").read_bytes(), "mine.safetensors")
    assert record.inspection_state == "done", record
    assert record.inspection["format"] == "safetensors"
    assert record.inspection["architectures"][0]["architecture"] == "digits-cnn"


def test_an_inspection_of_something_else_is_a_typed_error(shared_house, tmp_path):
    record = _upload(shared_house, tmp_path, b"this is no checkpoint", "notes.pt")
    assert record.inspection_state == "failed"
    assert record.error.code == "not_a_checkpoint"
    assert str(shared_house.folder) not in record.error.message


def test_an_upload_is_looked_at_while_a_run_goes_on(shared_house, tmp_path):
    run_id = shared_house.submit(**long_spec(seed=3))
    shared_house.wait_for_stages(run_id, 1)
    record = _upload(shared_house, tmp_path, b"neither is this", "other.pt")
    assert record.inspection_state == "failed"
    assert shared_house.store.runs.get(run_id).state == "RUNNING"
    queue.cancel(shared_house.store, run_id)


def test_a_baseline_check_answers(shared_house):
    key = queue.check(shared_house.store, spec())
    assert queue.check(shared_house.store, spec(seed=9, schemes=["int2"])) == key  # the same question
    deadline = time.monotonic() + 60
    while (record := shared_house.store.checks.get(key)).state in {"waiting", "running"}:
        assert time.monotonic() < deadline, shared_house.log()
        time.sleep(0.05)
    assert record.state == "done", record
    assert record.result["accuracy"] > 0.8


def test_capabilities_tell_what_the_engine_can_do(shared_house):
    deadline = time.monotonic() + 60
    while not shared_house.store.capabilities.is_known():
        assert time.monotonic() < deadline, shared_house.log()
        time.sleep(0.1)
    facts = shared_house.store.capabilities.read()
    assert "digits-cnn" in facts.examples.models
    assert {"int8", "int4"} <= {scheme.name for scheme in facts.schemes}
    assert {known.name: known.source for known in facts.architectures}["slow"] == "misbehaving.py"
    assert sorted(worker.queues[0] for worker in facts.workers) == ["inspect", "runs"]


def test_the_workers_own_process_never_loads_torch(shared_house, finished):
    for worker in shared_house.workers:
        maps = open(f"/proc/{worker.pid}/maps").read()  # noqa: SIM115
        assert "libtorch" not in maps


def test_two_workers_share_a_run(house):
    for _ in range(2):
        house.start_worker("runs")
    deadline = time.monotonic() + 60
    while len(house.store.capabilities.workers()) < 2:
        assert time.monotonic() < deadline, house.log()
        time.sleep(0.1)
    run = house.wait(house.submit(**long_spec()))
    assert run.state == "DONE", run
    assert len({stage.worker for stage in run.progress.stages}) == 2
    assert len(house.commits(run.id)) == len(set(house.commits(run.id)))


def _upload(house, tmp_path, content: bytes, filename: str):
    import hashlib

    sha256 = hashlib.sha256(content).hexdigest()
    source = tmp_path / "upload"
    source.write_bytes(content)
    copy = tmp_path / "part"
    shutil.copy(source, copy)
    house.store.files.add(copy, sha256, filename, "local")
    queue.inspect(house.store, sha256)
    deadline = time.monotonic() + 60
    while (record := house.store.files.get(sha256)).inspection_state in {"waiting", "running"}:
        assert time.monotonic() < deadline, house.log()
        time.sleep(0.05)
    return record
