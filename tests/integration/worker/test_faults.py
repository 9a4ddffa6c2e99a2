"""What a server must survive. Names F… are those of the project's list of faults.

In every one: the run ends exactly once, nothing that was finished is computed again, no process is left over.
"""

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from quant_lens_engine.schema import TERMINAL_STATES
from tests.integration.worker.conftest import engines_of, has_ended, long_spec
from worker import queue
from worker.schedule import Schedule
from worker.store import Conflict

pytestmark = pytest.mark.integration

GOES_ON_WITHIN_S = 30


def misbehaving(architecture: str, **changes) -> dict:
    return {"model": {"example": "digits-mlp", "architecture": architecture}, **changes}


def assert_ended_once(house, run_id, state="DONE"):
    assert house.endings(run_id) == [state], house.log()
    assert sorted(house.commits(run_id)) == sorted(set(house.commits(run_id)))


def wait_until_it_goes_on(house, run_id, stages_before: int) -> float:
    started = time.monotonic()
    house.wait(
        run_id,
        until=lambda run: run.progress.stages_done > stages_before or run.state in TERMINAL_STATES,
        timeout_s=GOES_ON_WITHIN_S,
    )
    return time.monotonic() - started


def test_f1_engine_killed(house):
    worker = house.start_worker("runs")
    run_id = house.submit(**long_spec())
    before = house.wait_for_stages(run_id, 3).progress.stages_done
    for engine in engines_of(worker):
        engine.kill()
    assert wait_until_it_goes_on(house, run_id, before) < GOES_ON_WITHIN_S
    run = house.wait(run_id)
    assert run.attempt == 2
    assert_ended_once(house, run_id)


def test_a_curvature_goes_on_from_the_products_that_it_had(house):
    """Killed after five seconds of products: they are read, not written anew, and removed once the stage has ended."""
    worker = house.start_worker("runs")
    few = {"max_products": 8, "density_runs": 1, "density_steps": 2, "trace_probes": 2}
    run_id = house.submit(
        model={"example": "digits-mlp", "architecture": "slow"},
        data={"example": "digits", "limit": 128, "batch_size": 4}, schemes=["int8"],
        execution={"hvp_plan": "fresh"}, analyses={
            "preset": "quick", "curvature": few, "line": {"steps": 3}, "plane": {"steps": 0},
        },
    )  # fmt: skip
    parts = house.settings.data_dir  # the stage's folder lies in the engine's, and between two engines in its own

    def first_parts() -> list[float]:
        found = []
        for path in parts.rglob("00000000.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                found.append(path.stat().st_mtime)
        return found

    written = house.wait(run_id, until=lambda _: first_parts()) and first_parts()
    for engine in engines_of(worker):
        engine.kill()
    seen = set(written)
    house.wait(
        run_id, until=lambda run: not seen.update(first_parts()) and len(run.progress.stages) and not first_parts()
    )
    assert seen == set(written)
    assert house.wait(run_id).state == "DONE"
    assert list(house.settings.checkpoints_dir.iterdir()) == []
    assert_ended_once(house, run_id)


def test_f3_worker_and_engine_killed(house):
    """F2, the worker alone, is in ``test_up``: there it is also started again."""
    worker = house.start_worker("runs")
    run_id = house.submit(**long_spec())
    before = house.wait_for_stages(run_id, 3).progress.stages_done
    engines = engines_of(worker)
    worker.kill()
    for engine in engines:
        engine.kill()
    worker.wait()
    psutil.wait_procs(engines, timeout=2)
    assert [engine for engine in engines if not has_ended(engine)] == []
    house.start_worker("runs")
    assert wait_until_it_goes_on(house, run_id, before) < GOES_ON_WITHIN_S
    run = house.wait(run_id)
    assert run.attempt == 2
    assert_ended_once(house, run_id)


def test_f4_an_engine_that_always_dies_is_one_capped_failure(house):
    house.start_worker("runs")
    run = house.wait(house.submit(**misbehaving("dies")))
    assert (run.state, run.error.code) == ("FAILED", "engine_crashed")
    assert run.attempt == 1 + house.settings.retries
    assert_ended_once(house, run.id, "FAILED")
    assert house.wait(house.submit()).state == "DONE"  # the worker lives


@pytest.mark.parametrize("architecture", ["greedy", "glutton"])
def test_f5_too_much_memory_is_a_typed_error(house, architecture):
    house.start_worker("runs")
    run = house.wait(house.submit(**misbehaving(architecture)))
    assert run.state == "FAILED"
    assert run.error.code in {"out_of_memory", "memory_limit"}, run.error
    assert "batch_size" in run.error.hint
    assert house.wait(house.submit()).state == "DONE"


def test_f6_redis_away_for_longer_than_a_lease(house):
    """A short absence is in ``test_up``."""
    house.start_worker("runs")
    run_id = house.submit(**long_spec())
    house.wait_for_stages(run_id, 3)
    finished = set(house.commits(run_id))
    house.redis.process.kill()
    house.redis.process.wait()
    time.sleep(2 * house.settings.lease_s)
    house.redis.start()
    house.redis.wait()
    assert finished <= set(house.commits(run_id))  # nothing that was said to be finished is lost
    assert house.wait(run_id).state == "DONE"
    assert_ended_once(house, run_id)
    assert house.wait(house.submit(seed=1), timeout_s=60).state == "DONE"  # and messages still arrive


def test_f8_connections_cut(house):
    house.start_worker("runs")
    run_id = house.submit(**long_spec())
    house.wait_for_stages(run_id, 2)
    house.store.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert house.wait(run_id).state == "DONE"
    assert_ended_once(house, run_id)


def test_f10_a_full_store_refuses_and_recovers(house):
    house.start_worker("runs")
    run_id = house.submit(**long_spec())
    house.wait_for_stages(run_id, 2)
    house.store.client.config_set("maxmemory", "1mb")
    time.sleep(3)
    house.store.client.config_set("maxmemory", "0")
    assert house.wait(run_id).state == "DONE"
    assert_ended_once(house, run_id)


def test_f15_a_worker_asked_to_end_gives_its_work_back(house):
    worker = house.start_worker("runs")
    run_id = house.submit(**long_spec())
    before = house.wait_for_stages(run_id, 3).progress.stages_done
    engines = engines_of(worker)
    started = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)
    assert time.monotonic() - started < 5
    assert all(has_ended(engine) for engine in engines)
    assert house.store.capabilities.queue_lengths()["runs"] == 1
    house.start_worker("runs")
    assert wait_until_it_goes_on(house, run_id, before) < GOES_ON_WITHIN_S
    assert house.wait(run_id).attempt == 1  # nobody died, so nothing counts
    assert_ended_once(house, run_id)


def test_f16_a_frozen_worker_is_replaced_and_comes_too_late(house):
    frozen = house.start_worker("runs")
    run_id = house.submit(**long_spec())
    house.wait_for_stages(run_id, 3)
    engines = engines_of(frozen)
    for process in (psutil.Process(frozen.pid), *engines):
        process.suspend()
    house.start_worker("runs")
    house.wait(run_id, until=lambda run: run.attempt == 2, timeout_s=GOES_ON_WITHIN_S)
    for process in (psutil.Process(frozen.pid), *engines):
        process.resume()
    assert house.wait(run_id).state == "DONE"
    assert_ended_once(house, run_id)


def before_the_last_commit(house, name: str):
    """A run of which one stage is left to be settled, and that call; stages without a payload are settled alike."""
    schedule, run_id = Schedule(house.store, name), house.submit()
    left = len(house.store.runs.get(run_id).progress.stages)
    while True:
        claim = schedule.claim(run_id)
        for key in claim.unit.stages:
            if left == 1:
                return run_id, lambda claim=claim, key=key: schedule.skip(claim, key, "of no interest here")
            assert schedule.skip(claim, key, "of no interest here") == "settled"
            left -= 1


def cancelled(house, run_id) -> bool:
    """Whether a cancel came in time."""
    try:
        queue.cancel(house.store, run_id)
    except Conflict:
        return False
    return True


def assert_one_ending(house, run_id, in_time: bool, outcome: str):
    state = "CANCELLED" if in_time else "DONE"
    assert outcome == ("stale" if in_time else "settled")
    assert house.store.runs.get(run_id).state == state
    assert house.endings(run_id) == [state]
    assert run_id not in house.store.runs.active()


@pytest.mark.parametrize("cancel_first", [True, False])
def test_f19_whichever_of_cancel_and_finish_comes_first_ends_the_run(house, cancel_first):
    run_id, finish = before_the_last_commit(house, "worker")
    in_time = cancelled(house, run_id) if cancel_first else None
    outcome = finish()
    if not cancel_first:
        in_time = cancelled(house, run_id)
    assert in_time == cancel_first
    assert_one_ending(house, run_id, in_time, outcome)


def test_f19_cancel_racing_the_finish_ends_the_run_once(house):
    """No stopwatch: both wait for each other when all that is left of either is its one call of the store."""
    for turn in range(30):
        run_id, finish = before_the_last_commit(house, f"worker-{turn}")
        barrier = threading.Barrier(2)

        def at_once(act, barrier=barrier):
            barrier.wait()
            return act()

        with ThreadPoolExecutor(2) as pool:
            ended = pool.submit(at_once, finish)
            stopped = pool.submit(at_once, lambda run_id=run_id: cancelled(house, run_id))
        assert_one_ending(house, run_id, stopped.result(), ended.result())


def test_a_cancel_at_any_moment_of_a_short_run_ends_it_once(house):
    """With a real worker: the delays spread over all of the run, its end included, wherever that is on this machine."""
    house.start_worker("runs")
    house.wait(house.submit())  # what follows is taken from the store, and over in no time
    seen = set()
    for delay_ms in range(0, 400, 40):
        run_id = house.submit()
        time.sleep(delay_ms / 1000)
        with contextlib.suppress(Conflict):  # it was over before
            queue.cancel(house.store, run_id)
        run = house.wait(run_id)
        seen.add(run.state)
        assert house.endings(run_id) == [run.state]
    assert "CANCELLED" in seen


def test_a_wall_clock_ends_work_that_takes_too_long(tmp_path):
    from tests.integration.worker.conftest import House

    house = House(tmp_path, run_time_limit_s=4)
    try:
        house.start_worker("runs")
        run = house.wait(house.submit(**misbehaving("slow", analyses={"preset": "thorough"})))
        codes = {failure.code for failure in run.failures}
        assert codes == {"time_limit"}, run
    finally:
        house.close()


def test_a_message_that_is_lost_is_sent_again(house):
    run_id = house.submit()
    house.store.client.delete("runs")  # the message, gone with a worker that had just taken it
    house.start_worker("runs")
    assert house.wait(run_id, timeout_s=GOES_ON_WITHIN_S).state == "DONE"


def test_a_message_that_comes_twice_does_nothing_twice(house):
    run_id = house.submit()
    for _ in range(3):
        queue.announce_run(house.store, run_id)
    house.start_worker("runs")
    house.start_worker("runs")
    assert house.wait(run_id).state == "DONE"
    assert_ended_once(house, run_id)


def test_no_temporary_folder_is_left(house):
    worker = house.start_worker("runs")
    run_id = house.submit(**long_spec())
    house.wait_for_stages(run_id, 1)
    worker.kill()
    worker.wait()
    successor = house.start_worker("runs")
    house.wait(run_id)
    folders = {path.name for path in house.settings.jobs_dir.iterdir()}
    assert all(str(successor.pid) in name for name in folders), folders
    successor.terminate()
    successor.wait(10)
    assert list(house.settings.jobs_dir.iterdir()) == []


def test_many_claimants_one_unit(house):
    """Forty threads ask for the same run at once: the first unit goes to exactly one of them."""
    run_id = house.submit()
    claims, barrier = [], threading.Barrier(40)

    def claim(number: int) -> None:
        barrier.wait()
        claims.append(Schedule(house.store, f"worker-{number}").claim(run_id))

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 40
    assert sum(claim is not None for claim in claims) == 1
