"""Each act of a hostile file, tried from inside within each wall alone and within all of them. Real processes.

What a wall stops is asserted exactly, and so is the table in docs/security.md. A wall that this machine lacks is named
with its reason by a skipped test.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import get_args
from urllib.parse import urlsplit

import pytest

from tests.security.walled import run_within
from worker import sandbox
from worker.sandbox.wall import all_walls
from worker.settings import SandboxWall, Settings

pytestmark = pytest.mark.integration

DOCUMENT = Path(__file__).parents[2] / "docs/security.md"
COLUMNS = {
    "limits": ("limits",),
    "namespaces": ("namespaces",),
    "namespaces, user": ("namespaces", "user"),
    "landlock": ("landlock",),
    "seccomp": ("seccomp",),
    "all": tuple(wall.name for wall in all_walls()),
}
STOPPED_BY = {
    "read the files of another job": {"namespaces", "namespaces, user", "landlock", "all"},
    "read an upload it was not asked about": {"namespaces", "namespaces, user", "landlock", "all"},
    "read /etc/shadow": {"namespaces", "namespaces, user", "landlock", "all"},
    "read the environment of another process": {"namespaces", "namespaces, user", "landlock", "all"},
    "write outside its folder": {"namespaces", "namespaces, user", "landlock", "all"},
    "change the upload it was asked about": {"namespaces", "namespaces, user", "landlock", "all"},
    "truncate the upload it was asked about": {"namespaces", "namespaces, user", "landlock", "seccomp", "all"},
    "truncate it by opening it to be read": {"namespaces", "namespaces, user", "landlock", "seccomp", "all"},
    "connect to Redis": {"namespaces", "namespaces, user", "seccomp", "all"},
    "open a UDP socket to the network": {"namespaces", "namespaces, user", "seccomp", "all"},
    "run a program": {"landlock", "seccomp", "all"},
    "fork": {"seccomp", "all"},
    "signal another process": {"namespaces", "namespaces, user", "seccomp", "all"},
    "trace another process": {"namespaces", "namespaces, user", "landlock", "seccomp", "all"},
    "set up io_uring": {"seccomp", "all"},
    "slow another process down": {"namespaces", "namespaces, user", "seccomp", "all"},
    "make a file in memory": {"seccomp", "all"},
    "make memory that outlives it": {"seccomp", "all"},
    "take 6 GiB of memory": {"limits", "all"},
    "write a file of 2 GiB": {"limits", "all"},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(data_dir=tmp_path_factory.mktemp("data"), memory_limit_bytes=2 * 2**30)


@pytest.fixture(scope="module")
def survey(settings):
    return sandbox.survey(settings)


@pytest.fixture(scope="module")
def targets(settings, redis_url, tmp_path_factory):
    """Somebody else's things, and a process to be attacked."""
    uploads = settings.files_dir / "ab"
    uploads.mkdir(parents=True)
    other_job = settings.jobs_dir / "worker" / "job" / "work" / "weights"
    other_job.parent.mkdir(parents=True)
    for path in (uploads / "asked", uploads / "other", other_job):
        path.write_bytes(b"somebody's weights")
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
    named = {
        "other_job": str(other_job), "other_upload": str(uploads / "other"), "victim": victim.pid,
        "outside": str(tmp_path_factory.mktemp("outside") / "planted"), "redis_port": urlsplit(redis_url).port,
    }  # fmt: skip
    path = settings.data_dir / "targets.json"
    path.write_text(json.dumps(named))
    yield SimpleNamespace(path=path, asked=uploads / "asked", named=named)
    victim.kill()
    victim.wait()


def attempt(walls, settings, targets):
    outcome, _ = run_within(walls, "acts", settings, files=(targets.path, targets.asked))
    assert isinstance(outcome, dict), outcome
    assert list(outcome) == list(STOPPED_BY)
    return outcome


def test_the_settings_know_every_wall():
    assert {wall.name for wall in all_walls()} == set(get_args(SandboxWall))


@pytest.mark.parametrize("name", sorted(get_args(SandboxWall)))
def test_this_machine_has_the_wall(name, survey):
    if name in survey.missing:
        pytest.skip(f"the wall {name!r} is not on this machine: {survey.missing[name]}")
    assert name in survey.standing


def test_without_walls_every_act_goes_through(settings, targets):
    """Else the tests below would show nothing."""
    if os.geteuid() != 0:
        pytest.skip("not root: the system alone stops some of the acts")
    outcome = attempt((), settings, targets)
    # A machine may have no network or forbid io_uring altogether.
    unsure = {"open a UDP socket to the network", "set up io_uring"}
    assert {act for act, problem in outcome.items() if problem} <= unsure
    assert targets.asked.read_bytes() == b""
    assert Path(targets.named["outside"]).read_bytes() == b"changed"


@pytest.mark.parametrize("column", COLUMNS)
def test_what_a_wall_stops(column, settings, survey, targets):
    if missing := [name for name in COLUMNS[column] if name not in survey.standing]:
        pytest.skip(f"not on this machine: {', '.join(f'{name} ({survey.missing[name]})' for name in missing)}")
    targets.asked.write_bytes(b"somebody's weights")
    Path(targets.named["outside"]).unlink(missing_ok=True)
    outcome = attempt(COLUMNS[column], settings, targets)
    stopped = {act for act, problem in outcome.items() if problem}
    expected = {act for act, walls in STOPPED_BY.items() if column in walls}
    assert expected <= stopped, {act: outcome[act] for act in expected - stopped}
    if os.geteuid() == 0:
        unsure = {"open a UDP socket to the network", "set up io_uring"}
        assert stopped <= expected | unsure, {act: outcome[act] for act in stopped - expected}
    if column in STOPPED_BY["change the upload it was asked about"]:
        assert targets.asked.read_bytes() == b"somebody's weights"
        assert not Path(targets.named["outside"]).exists()


def test_the_walls_of_this_machine_together_stop_what_each_does(settings, survey, targets):
    """Whatever stands here: its walls don't weaken one another."""
    outcome = attempt(survey.standing, settings, targets)
    expected = {act for act, walls in STOPPED_BY.items() if walls & set(survey.standing)}
    assert expected <= {act for act, problem in outcome.items() if problem}


def test_the_document_says_what_was_tried():
    lines = DOCUMENT.read_text().splitlines()
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines if "|" in line
    }
    assert rows["act"] == ["none", *COLUMNS]
    for act, walls in STOPPED_BY.items():
        assert rows[act] == ["–", *("stopped" if column in walls else "–" for column in COLUMNS)], act


def test_an_endless_loop_is_ended_by_the_kernel(settings, survey):
    if "limits" not in survey.standing:
        pytest.skip(f"not on this machine: limits ({survey.missing['limits']})")
    began = time.monotonic()
    _, status = run_within(survey.standing, "loop", settings, limits=sandbox.Limits(memory_bytes=2**31, cpu_s=2))
    assert status in {-9, -24, 128 + 9, 128 + 24}  # SIGKILL or SIGXCPU, as bubblewrap tells it too
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_digits_are_those_of_a_process_without_walls(threads, settings, survey, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    bare, _ = run_within((), "digits", settings)
    within, _ = run_within(survey.standing, "digits", settings)
    assert isinstance(within, list), within
    assert within[:2] == bare[:2] == [bare[0], int(threads)]
    assert within[2] == bare[2] >= int(threads)  # they have really started
