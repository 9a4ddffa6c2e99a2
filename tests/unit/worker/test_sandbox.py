"""What an engine process is given, seen from inside one."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from worker import sandbox, tether
from worker.settings import Settings


def run_inside(code: str, tmp_path, **changes) -> subprocess.CompletedProcess:
    command = sandbox.command_for(tmp_path, Settings(data_dir=tmp_path, **changes), 1)
    program = f"import sys; from worker import sandbox; limits = sandbox.parse_limits(sys.argv[1:]); {code}"
    arguments = [argument for argument in command.argv if "=" in argument]
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], env=command.env, cwd=tmp_path, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_the_environment_holds_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("QUANT_LENS_REDIS_URL", "redis://:secret@host/0")
    monkeypatch.setenv("QUANT_LENS_SECRET_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    env = sandbox.command_for(tmp_path, Settings(data_dir=tmp_path), 3).env
    assert "secret" not in json.dumps(env)
    assert env["HOME"] == env["TMPDIR"] == str(tmp_path)
    assert env["OMP_NUM_THREADS"] == "1"  # digits depend on it


def test_limits_hold_inside(tmp_path):
    done = run_inside(
        "sandbox.apply_limits(limits); sandbox.limit_memory(limits); import resource; "
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], resource.getrlimit(resource.RLIMIT_NOFILE)[0])",
        tmp_path,
    )
    assert done.stdout.split() == ["0", "1024"], done.stderr


def test_memory_beyond_the_limit_is_refused(tmp_path):
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("with CUDA the parent watches resident memory instead of the address space")
    code = "sandbox.limit_memory(limits); bytearray({})"
    assert run_inside(code.format(2**27), tmp_path, memory_limit_bytes=2**28).returncode == 0
    assert "MemoryError" in run_inside(code.format(2**29), tmp_path, memory_limit_bytes=2**28).stderr


def test_a_file_beyond_the_limit_is_refused(tmp_path):
    done = run_inside(
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); sandbox.apply_limits(limits); "
        "open('big', 'wb').truncate(2**31)",
        tmp_path,
    )
    assert "File too large" in done.stderr


def test_nothing_is_imported_from_the_working_folder(tmp_path):
    (tmp_path / "colorsys.py").write_text("print('planted')")
    done = run_inside("import colorsys; print(colorsys.__file__)", tmp_path)
    assert "planted" not in done.stdout
    assert str(tmp_path) not in done.stdout


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
