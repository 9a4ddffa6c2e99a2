"""The door to an engine process: its environment, its folder, its command, what a survey finds and refuses.

What the walls stop is tried in ``tests/security/test_walls.py``.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from worker import sandbox, tether
from worker.checkpoints import Checkpoints
from worker.sandbox.wall import all_walls
from worker.settings import Settings, SettingsError, load_settings


def command(tmp_path, **changes) -> sandbox.Command:
    return sandbox.command_for(tmp_path / "job", Settings(data_dir=tmp_path, **changes), (), 3, module="json")


def test_the_environment_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANT_LENS_REDIS_URL", "redis://:secret@host/0")
    monkeypatch.setenv("QUANT_LENS_SECRET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    env = command(tmp_path).env
    assert "secret" not in json.dumps(env)
    assert env["HOME"] == env["TMPDIR"] == str(tmp_path / "job" / "work")
    assert env["OMP_NUM_THREADS"] == "1"  # digits depend on it


def test_nothing_is_imported_from_the_working_folder(tmp_path):
    (tmp_path / "colorsys.py").write_text("print('planted')")
    done = subprocess.run(
        [sys.executable, "-c", "import colorsys; print(colorsys.__file__)"], env=command(tmp_path).env, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "planted" not in done.stdout
    assert str(tmp_path) not in done.stdout


def test_no_folder_that_holds_the_data_may_be_read(tmp_path, monkeypatch):
    """A checkout has its data beside its packages, and may be the working folder and on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path.parent), *sys.path])
    reads = list(map(Path, command(tmp_path / "data").plan.reads))
    assert not [path for path in reads if (tmp_path / "data").is_relative_to(path.resolve())]
    assert not [path for path in reads if (sandbox.ENGINE.parent / "data").is_relative_to(path.resolve())]
    assert sandbox.ENGINE in reads


def test_files_come_in_without_being_copied_and_go_without_being_lost(tmp_path):
    upload = tmp_path / "upload"
    upload.write_bytes(b"weights")
    folder = sandbox.JobFolder(tmp_path / "jobs")
    brought = Path(folder.bring(str(upload)))
    assert brought.samefile(upload)
    assert brought.is_relative_to(folder.path / "inputs")
    assert folder.bring(str(upload)) == str(brought)
    folder.remove()
    assert upload.read_bytes() == b"weights"
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_folder_comes_in_with_all_that_it_holds(tmp_path):
    model = tmp_path / "model"
    (model / "part").mkdir(parents=True)
    (model / "part" / "weights").write_bytes(b"weights")
    brought = Path(sandbox.JobFolder(tmp_path / "jobs").bring(str(model)))
    assert brought.name == "model"
    assert (brought / "part" / "weights").samefile(model / "part" / "weights")


def test_a_link_in_a_folder_brings_nothing_in(tmp_path):
    """The parsers refuse links; what they lead to must not come in as a file."""
    (tmp_path / "secret").write_bytes(b"secret")
    model = tmp_path / "model"
    model.mkdir()
    (model / "link").symlink_to(tmp_path / "secret")
    assert (Path(sandbox.JobFolder(tmp_path / "jobs").bring(str(model))) / "link").is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has engine processes of another user")
def test_nobody_may_read_what_was_brought_and_an_administrator_s_file_is_left_as_it_is(tmp_path):
    upload, private = tmp_path / "upload", tmp_path / "private"
    for path, mode in ((upload, 0o440), (private, 0o640)):
        path.write_bytes(b"weights")
        path.chmod(mode)
    folder = sandbox.JobFolder(tmp_path / "jobs", is_nobodys=True)
    linked, copied = (Path(folder.bring(str(path))) for path in (upload, private))
    assert linked.samefile(upload)
    assert not copied.samefile(private)
    assert private.stat().st_gid == os.getegid()
    for path in (linked, copied):
        assert path.stat().st_gid == 65534
        assert path.stat().st_mode & 0o777 == 0o440


def test_a_checkpoint_is_lent_taken_back_and_found_where_a_killed_worker_left_it(tmp_path):
    settings = Settings(data_dir=tmp_path)
    checkpoints = Checkpoints(settings)
    first, second = (sandbox.JobFolder(settings.jobs_dir / worker) for worker in ("killed", "next"))
    lent = checkpoints.lend("f1", first.checkpoints)
    assert not lent.exists()
    lent.mkdir()
    (lent / "part").write_bytes(b"1")
    again = checkpoints.lend("f1", second.checkpoints)  # the worker of the first was killed
    assert (again / "part").read_bytes() == b"1"
    checkpoints.take_back(second.checkpoints)
    assert (settings.checkpoints_dir / "f1" / "part").read_bytes() == b"1"
    checkpoints.lend("f1", first.checkpoints)
    checkpoints.rescue(first.path.parent)
    assert (settings.checkpoints_dir / "f1" / "part").is_file()
    checkpoints.forget("f1")
    assert list(settings.checkpoints_dir.iterdir()) == []


def test_a_wall_that_is_not_there_is_missing_with_its_reason_and_refuses_uploads(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = sandbox.survey(Settings(data_dir=tmp_path))
    assert "namespaces" not in found.standing
    assert found.missing["namespaces"] in {"bubblewrap is not installed", "only Linux has it"}
    assert set(found.standing) | set(found.missing) == {wall.name for wall in all_walls()}
    found.check(("limits",))
    with pytest.raises(sandbox.SandboxError, match=found.missing["namespaces"]) as refused:
        found.check(("limits", "namespaces"))
    assert refused.value.code == "sandbox_below_minimum"
    assert refused.value.details == {"lacking": ["namespaces"]}
    assert str(tmp_path) not in json.dumps(refused.value.as_dict())


def test_a_trial_leaves_nothing_behind(tmp_path):
    sandbox.survey(Settings(data_dir=tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list((tmp_path / "jobs").iterdir()) == []


@pytest.mark.skipif(shutil.which("true") is None, reason="needs a program to find")
def test_walls_that_a_bubblewrap_without_rights_cannot_raise_are_missing(tmp_path, monkeypatch):
    """As in a container that may not make namespaces: the program is there, and fails."""
    program = tmp_path / "bin" / "bwrap"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    found = sandbox.survey(Settings(data_dir=tmp_path / "data"))
    assert found.missing["namespaces"] == "bwrap: No permissions to create new namespace"
    assert "limits" in found.standing


def test_a_wall_that_is_none_is_refused_by_its_setting(monkeypatch):
    monkeypatch.setenv("QUANT_LENS_SANDBOX_MINIMUM", "landlock, moat")
    with pytest.raises(SettingsError, match="QUANT_LENS_SANDBOX_MINIMUM"):
        load_settings()
    monkeypatch.setenv("QUANT_LENS_SANDBOX_MINIMUM", "landlock, seccomp")
    assert load_settings().sandbox_minimum == ("landlock", "seccomp")


def test_a_tied_process_dies_with_the_one_that_started_it(tmp_path):
    starter = subprocess.Popen(
        [
            sys.executable, "-c",
            "import os, time; from worker import tether; "
            "print(tether.start(['sleep', '600'], env=dict(os.environ)).pid, flush=True); time.sleep(600)",
        ],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    child = psutil.Process(int(starter.stdout.readline()))
    deadline = time.monotonic() + 10
    while child.name() != "sleep":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    starter.kill()
    starter.wait()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_process_is_not_started_for_a_parent_that_is_gone():
    done = subprocess.run([sys.executable, "-I", "-S", tether.__file__, "1", "echo", "too late"], capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")


def test_a_process_leaves_nothing_in_the_name_of_another_stage(tmp_path):
    settings = Settings(data_dir=tmp_path)
    checkpoints, worker = Checkpoints(settings), settings.jobs_dir.absolute() / "worker"
    hostile, victim = sandbox.JobFolder(worker), sandbox.JobFolder(worker)
    checkpoints.lend("own", hostile.checkpoints).mkdir()
    (hostile.checkpoints / "another").mkdir()
    assert not checkpoints.lend("another", victim.checkpoints).exists()
    checkpoints.take_back(hostile.checkpoints)
    assert [path.name for path in settings.checkpoints_dir.iterdir()] == ["own"]
    (settings.checkpoints_dir / "own").rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (hostile.checkpoints / "own").symlink_to(elsewhere)
    checkpoints.take_back(hostile.checkpoints)
    assert not checkpoints.lend("own", victim.checkpoints).exists()
