"""What a hostile file would do, tried within the walls. Loaded by ``worker/sandbox/inside.py``, as an engine is.

``inputs/0/targets.json`` names what to try it on. Each act answers null where it went through, or what stopped it.
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys

from worker.sandbox.plan import Plan

_PTRACE_SEIZE, _PTRACE_DETACH = 0x4206, 17
_IO_URING_SETUP = 425
_LIBC = ctypes.CDLL(None, use_errno=True)


def prepare(plan: Plan) -> None:
    """Nothing is imported later."""


def read(path: str) -> None:
    with open(path, "rb") as file:
        file.read(16)


def write(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"changed")


def call(*arguments: int) -> int:
    answer = _LIBC.syscall(*map(ctypes.c_long, arguments))
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer


def connect(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as redis:
        redis.sendall(b"PING\r\n")
        if not redis.recv(16):
            raise ConnectionError("no answer")


def datagram(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("192.0.2.1", 9))  # sends nothing; needs a route


def fork() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)


def trace(pid: int) -> None:
    _LIBC.ptrace.restype = ctypes.c_long
    if _LIBC.ptrace(_PTRACE_SEIZE, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def io_uring() -> None:
    parameters = ctypes.create_string_buffer(120)
    os.close(call(_IO_URING_SETUP, 1, ctypes.addressof(parameters)))


def truncate(path: str) -> None:
    os.truncate(path, 0)


def truncate_by_opening(path: str) -> None:
    os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))


def shared_memory() -> None:
    _LIBC.shmget.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_int)
    if (segment := _LIBC.shmget(0, 4096, 0o600)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _LIBC.shmctl(segment, 0, None)


def big_file(plan: Plan) -> None:
    with open(plan.work / "big", "wb") as file:
        file.truncate(2 * 2**30)


def acts(plan: Plan, targets: dict) -> dict:
    victim = targets["victim"]
    brought = str(next((plan.inputs / "1").iterdir()))
    return {
        "read the files of another job": lambda: read(targets["other_job"]),
        "read an upload it was not asked about": lambda: read(targets["other_upload"]),
        "read /etc/shadow": lambda: read("/etc/shadow"),
        "read the environment of another process": lambda: read(f"/proc/{victim}/environ"),
        "write outside its folder": lambda: write(targets["outside"]),
        "change the upload it was asked about": lambda: write(brought),
        "truncate the upload it was asked about": lambda: truncate(brought),
        "truncate it by opening it to be read": lambda: truncate_by_opening(brought),
        "connect to Redis": lambda: connect(targets["redis_port"]),
        "open a UDP socket to the network": lambda: datagram(9),
        "run a program": lambda: subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True),
        "fork": fork,
        "signal another process": lambda: os.kill(victim, signal.SIGCONT),
        "trace another process": lambda: trace(victim),
        "set up io_uring": io_uring,
        "slow another process down": lambda: os.setpriority(os.PRIO_PROCESS, victim, 19),
        "make a file in memory": lambda: os.close(os.memfd_create("hidden")),
        "make memory that outlives it": shared_memory,
        "take 6 GiB of memory": lambda: bytearray(6 * 2**30),
        "write a file of 2 GiB": lambda: big_file(plan),
    }


def main(plan: Plan) -> None:
    targets = json.loads(next((plan.inputs / "0").iterdir()).read_bytes())
    outcome = {}
    for name, act in acts(plan, targets).items():
        try:
            act()
        except (OSError, MemoryError, subprocess.SubprocessError) as error:
            outcome[name] = f"{type(error).__name__}: {error}"
        else:
            outcome[name] = None
    os.write(plan.answers_fd, json.dumps(outcome).encode())
