"""Who may know whom: read from the imports, and seen in a fresh process."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_no_import_breaks_a_rule_of_the_house() -> None:
    """In a process of its own: import-linter switches off every logger that it finds."""
    told = subprocess.run([str(Path(sys.executable).with_name("lint-imports"))], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr


TORCH_FREE = [
    "quant_lens_engine",
    "quant_lens_engine.schema",
    "quant_lens_engine.figures",
    "worker.settings",
    "worker.store",
    "worker.queue",
    "worker.celery_app",
    "worker.tasks",
    "worker.supervisor",
    "app.main",
    "app.client",
    "app.cli",
]


@pytest.mark.slow
@pytest.mark.parametrize("module", TORCH_FREE)
def test_importing_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
