"""The command line without a server: words, speed and exit codes."""

import os
import subprocess
import sys
import time

import pytest

from app.doctor import Finding, examine
from app.submission import exit_code
from quant_lens_engine.schema import Comparison, ErrorBody, RunRecord, RunResult, Verdict
from quant_lens_engine.version import __version__
from worker.settings import Settings


def quant_lens(*arguments, **settings):
    env = {key: value for key, value in os.environ.items() if not key.startswith("QUANT_LENS_")}
    env |= {f"QUANT_LENS_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], env=env, capture_output=True, text=True, timeout=120
    )


def test_help_names_every_command_and_comes_fast():
    quant_lens("--help")
    began = time.monotonic()
    shown = quant_lens("--help")
    assert time.monotonic() - began < 1.5
    assert shown.returncode == 0
    for command in ("up", "web", "worker", "analyze", "submit", "schemes", "token", "doctor"):
        assert command in shown.stdout


def test_version():
    assert quant_lens("--version").stdout == f"quant-lens {__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["nonsense"], ["submit"], ["web", "--nonsense"], ["token", "create"]])
def test_a_command_that_is_none_exits_with_2(arguments):
    assert quant_lens(*arguments).returncode == 2


def test_a_bad_setting_is_named_and_exits_with_2():
    done = quant_lens("doctor", port="many")
    assert done.returncode == 2
    assert "QUANT_LENS_PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_no_server_is_said_and_exits_with_2():
    done = quant_lens("submit", "digits-mlp", "--data", "digits", "--server", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "server_unreachable" in done.stderr


@pytest.mark.slow
def test_a_taken_port_is_said_and_exits_with_2(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = quant_lens("web", port=port, data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0")
    assert done.returncode == 2
    assert "port_taken" in done.stderr


@pytest.mark.slow
def test_doctor_says_what_is_missing_and_how_to_get_it(tmp_path):
    (tmp_path / "broken.py").write_text("def broken(:")
    settings = Settings(
        data_dir=tmp_path / "data", redis_url="redis://127.0.0.1:1/0", plugins=tmp_path, host="127.0.0.1", port=65000
    )
    findings: dict[str, Finding] = {finding.what: finding for finding in examine(settings)}
    assert findings["torch"].state == "ok"
    assert findings["data folder"].state == "ok"
    assert findings["Redis"].state == "missing"
    assert "QUANT_LENS_REDIS_URL" in findings["Redis"].remedy
    assert findings["plug-ins"].state == "missing"
    assert "broken.py" in findings["plug-ins"].found
    assert all(finding.remedy for finding in findings.values() if finding.state == "missing")


def test_doctor_says_whether_models_come_from_the_hub_and_never_a_token(tmp_path):
    code = (
        "from app.doctor import _hub; from worker.settings import load_settings; "
        "[print(*_hub(load_settings(hub=on))) for on in (False, True)]"
    )
    told = {"HF_ENDPOINT": "http://hub.example", "HF_TOKEN": "hf_secret", "QUANT_LENS_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | told, capture_output=True, text=True, check=True
    )  # the library reads its variables when it is imported
    off, on = done.stdout.splitlines()
    assert "QUANT_LENS_HUB=1" in off
    assert "http://hub.example with a token" in on
    assert "hf_secret" not in done.stdout + done.stderr


@pytest.mark.slow
def test_doctor_sees_a_server_that_would_be_open(tmp_path):
    settings = Settings(data_dir=tmp_path, host="0.0.0.0", port=65000)
    assert {finding.what: finding.state for finding in examine(settings)}["sign-in"] == "missing"


@pytest.mark.parametrize(
    ("state", "code", "levels", "fail_on", "expected"),
    [
        ("DONE", None, ["safe", "collapsed"], None, 0),
        ("DONE", None, ["safe", "caution"], "caution", 1),
        ("DONE", None, ["safe", "caution"], "degraded", 0),
        ("DONE", None, ["collapsed"], "degraded", 1),
        ("DONE", None, [None], "collapsed", 1),
        ("CANCELLED", None, ["safe"], None, 1),
        ("FAILED", "pickle_with_code", [], None, 2),
        ("FAILED", "engine_crashed", [], None, 3),
        ("LOST", "worker_lost", [], None, 3),
    ],
)
def test_exit_codes_of_submit(state, code, levels, fail_on, expected):
    found = [
        Comparison(variant=f"v{n}", verdict=None if level is None else Verdict(level=level))
        for n, level in enumerate(levels)
    ]
    run = RunRecord(id="a", state=state, error=None if code is None else ErrorBody(code=code, message=""))
    assert exit_code(run, RunResult(comparisons=found), fail_on) == expected


@pytest.mark.slow
def test_analyze_and_schemes_are_the_engine_s_own():
    assert "--plugins" in quant_lens("analyze", "--help").stdout
    assert "int4-g128" in quant_lens("schemes").stdout
    missing = quant_lens("analyze", "nosuch.safetensors", "--data", "digits")
    assert (missing.returncode, "no_such_file" in missing.stderr) == (2, True)
