"""What a web process has in memory, and whom it refuses to serve."""

import json
import os
import subprocess
import sys

import pytest

from app.auth.exposure import refuse_open_server
from worker.settings import Settings, SettingsError

_PROGRAM = """
import json, sys
import app.cli, app.client, app.serve
from app.main import create_app
from worker.settings import Settings
from starlette.testclient import TestClient
application = create_app(Settings(redis_url="redis://127.0.0.1:1/0", data_dir=sys.argv[1]))
with TestClient(application, base_url="http://127.0.0.1") as http:
    for path in ("/", "/new", "/runs/abc", "/compare?runs=a", "/api/docs", "/healthz", "/metrics"):
        http.get(path)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.integration
def test_a_web_process_has_no_torch_and_nothing_that_reads_uploads(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"dash", "fastapi", "redis"} <= loaded
    assert not loaded & {"torch", "safetensors", "sklearn", "torchao"}


def test_the_command_line_starts_without_the_server(tmp_path):
    program = "import sys; import app.cli; print([m for m in ('torch','dash','fastapi','celery') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lens.example"])
def test_a_server_without_sign_in_stays_on_its_machine(host):
    with pytest.raises(SettingsError) as refused:
        refuse_open_server(Settings(host=host))
    assert refused.value.code == "open_without_sign_in"
    refuse_open_server(Settings(host=host, auth="token"))
    refuse_open_server(Settings(host=host, allow_open=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_its_machine_it_serves(host):
    refuse_open_server(Settings(host=host))


@pytest.mark.parametrize("command", ["web", "up"])
def test_the_commands_refuse_it_with_exit_code_2(command, tmp_path):
    env = {**os.environ, "QUANT_LENS_HOST": "0.0.0.0", "QUANT_LENS_AUTH": "none", "QUANT_LENS_DATA_DIR": str(tmp_path)}
    env["QUANT_LENS_REDIS_URL"] = "redis://127.0.0.1:1/0"
    env.pop("QUANT_LENS_ALLOW_OPEN", None)
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", command], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "open_without_sign_in" in done.stderr
