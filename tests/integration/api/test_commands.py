"""The commands that talk to a store or a server."""

import os
import subprocess
import sys

import pytest

from app.client import Client

pytestmark = pytest.mark.integration


def quant_lens(*arguments, **settings):
    env = {key: value for key, value in os.environ.items() if not key.startswith("QUANT_LENS_")}
    env |= {f"QUANT_LENS_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments], env=env, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("own_store", [False, True])
def test_tokens_are_made_listed_and_revoked_with_and_without_a_running_store(redis_url, tmp_path, own_store):
    settings = {"data_dir": tmp_path} if own_store else {"data_dir": tmp_path, "redis_url": redis_url}
    made = quant_lens("token", "create", "dora", "--admin", **settings)
    assert made.returncode == 0
    assert made.stdout.startswith("ql_")
    listed = quant_lens("token", "list", **settings)
    assert "dora\tadmin\t1 token(s)" in listed.stdout
    assert made.stdout.strip() not in listed.stdout
    assert quant_lens("token", "revoke", "dora", **settings).returncode == 0
    again = quant_lens("token", "revoke", "dora", **settings)
    assert (again.returncode, "user_not_found" in again.stderr) == (2, True)
    assert not (tmp_path / "redis" / "address").exists()


def test_a_name_that_cannot_be_is_refused(redis_url, tmp_path):
    refused = quant_lens("token", "create", "a b", redis_url=redis_url, data_dir=tmp_path)
    assert (refused.returncode, "bad_user_name" in refused.stderr) == (2, True)


def test_submit_sends_the_files_and_says_the_run(server, tmp_path):
    model, data = tmp_path / "m.pt", tmp_path / "d.npz"
    model.write_bytes(os.urandom(1000))
    data.write_bytes(os.urandom(1000))
    asked = ["submit", str(model), "--data", str(data), "--server", server.url, "--no-wait", "--scheme", "w8a8+gptq"]
    rows = tmp_path / "rows.npz"
    rows.write_bytes(os.urandom(1000))
    asked += ["--calibration", str(rows), "--calibration-limit", "40"]
    asked += ["--transform", '{"layout": "NHW", "scale": 0.5}', "--limit", "7", "--seed", "3", "--preset", "quick"]
    asked += ["--curvature", '{"top": 4}']
    done = quant_lens(*asked)
    assert done.returncode == 0, done.stderr
    with Client(server.url) as client:
        run = client.run(done.stdout.strip())
        assert client.file(run.spec["model"]["file"]).filename == "m.pt"
        assert client.file(run.spec["data"]["calibration"]["file"]).filename == "rows.npz"
    assert run.name == "m, w8a8+gptq"
    assert (run.spec["schemes"], run.spec["seed"], run.spec["data"]["limit"]) == (["w8a8+gptq"], 3, 7)
    assert run.spec["data"]["calibration"]["limit"] == 40
    assert (run.spec["analyses"]["curvature"]["top"], run.spec["analyses"]["curvature"]["bottom"]) == (4, 1)
    assert run.spec["data"]["transform"]["layout"] == "NHW"
    assert run.spec["analyses"]["preset"] == "quick"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (["--scheme", "int9"], "unknown_scheme"),
        (["--transform", "{"], "bad_spec"),
        (["--transform", '{"layout": "WHN"}'], "bad_spec"),
        (["--task", "endless"], "bad_spec"),
        (["--device", "tpu"], "bad_spec"),
        (["--limit", "0"], "bad_spec"),
        (["--calibration-limit", "0"], "bad_spec"),
        (["--scheme", "int4+smoothquant"], "not_defined"),
        (["--data", "nosuch"], "no_such_file"),
        (["--data", "/"], "no_such_file"),
        (["--data", "0" * 64], "file_not_found"),
    ],
)
def test_submit_says_what_is_wrong_and_exits_with_2(server, say_algorithms, tmp_path, changes, code):
    say_algorithms()
    model = tmp_path / "m.pt"
    model.write_bytes(b"weights")
    done = quant_lens("submit", str(model), "--data", str(model), "--server", server.url, "--no-wait", *changes)
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert "Traceback" not in done.stderr
