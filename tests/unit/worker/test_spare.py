"""The one engine process that waits: taken once, replaced, started again when it dies. Real processes, which are not
waited for until they have imported what they need."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from worker import tether
from worker.engine import Engine
from worker.settings import Settings
from worker.spare import Spare


@pytest.fixture
def spare(request, tmp_path):
    settings = Settings(data_dir=tmp_path, **getattr(request, "param", {}))
    spare = Spare(settings, settings.jobs_dir / "worker", looks_at_files=True)
    yield spare
    spare.end()
    assert [child for child in psutil.Process().children() if "worker.engine_process" in child.cmdline()] == []
    assert list((settings.jobs_dir / "worker").iterdir()) == []


def test_who_takes_it_has_it_alone(spare):
    spare.prepare()
    spare.prepare()  # there is one already
    engine = spare.take()
    other = spare.take()  # there was none any more, so this one is new
    spare.prepare()
    third = spare.take()
    assert len({engine.pid, other.pid, third.pid}) == 3
    assert all(one.is_alive() for one in (engine, other, third))
    for one in (engine, other, third):
        one.end()


def test_one_that_died_is_replaced_after_a_pause_that_grows(spare, caplog):
    spare.prepare()
    spare._pause_s = 60.0
    first = spare._engine
    first._process.kill()
    first._process.wait(20)
    spare.keep_up()
    assert "died" in caplog.text
    assert spare._engine is None
    spare.keep_up()
    assert spare._engine is None  # the pause is not over
    spare._again_at = time.monotonic()
    spare.keep_up()
    assert spare._pause_s == 120.0
    engine = spare.take()
    assert engine.pid != first.pid
    assert engine.is_alive()
    engine.end()
    spare.keep_up()  # a job has it: nobody starts another one before that has ended
    assert spare._engine is None


def test_one_that_died_unseen_is_given_to_nobody(spare):
    spare.prepare()
    spare._engine._process.kill()
    spare._engine._process.wait()
    engine = spare.take()
    assert engine.is_alive()
    engine.end()


def test_an_error_of_who_asks_it_ends_it(spare):
    with pytest.raises(ValueError, match="no answer"), spare.asked():
        raise ValueError("no answer")
    assert spare._engine is None


@pytest.mark.parametrize("spare", [{"warm_engine": False}], indirect=True)
def test_a_setting_keeps_none(spare):
    spare.prepare()
    with spare.asked() as engine:
        assert engine.is_alive()
    assert not engine.is_alive()
    spare.keep_up()
    assert spare._engine is None


def test_none_is_started_after_the_end(spare):
    spare.end()
    spare.prepare()
    assert spare._engine is None
    spare.end()
    spare._folder.mkdir(parents=True)


def test_what_its_process_leaves_behind_is_killed_with_it():
    """As bubblewrap does in its first milliseconds: 1 in 1,000 processes that were ended at once left a child that kept
    their pipe open, and the worker waited for it."""
    command = ["sh", "-c", "sleep 300 & echo $!; wait"]
    process = tether.start(command, env=os.environ, stdout=subprocess.PIPE)
    child = psutil.Process(int(process.stdout.readline()))
    engine = object.__new__(Engine)
    engine._process = process
    engine._kill()
    assert process.wait(10) == -signal.SIGKILL
    psutil.wait_procs([child], 10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    engine._kill()  # it is gone already
