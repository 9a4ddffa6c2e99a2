"""What one sandboxed process is told about itself, on its command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.sandbox.limits import Limits


@dataclass(frozen=True)
class Plan:
    """The walls of one process, and what is left open in them.

    Attributes:
        walls: names of the walls that are raised, in their order.
        folder: the process' own; in it ``inputs`` (may only be read), ``work`` and ``checkpoints`` (may be written).
        limits: what it may take.
        reads: folders and files of the system and of our code that may be read.
        devices: graphics devices that may be used.
        answers_fd: the descriptor that it answers on.
    """

    walls: tuple[str, ...]
    folder: str
    limits: Limits
    reads: tuple[str, ...]
    devices: tuple[str, ...]
    answers_fd: int

    @property
    def inputs(self) -> Path:
        """Where the files are that it is asked about."""
        return Path(self.folder, "inputs")

    @property
    def work(self) -> Path:
        """Where it runs, and where its temporary files go."""
        return Path(self.folder, "work")

    @property
    def checkpoints(self) -> Path:
        """Where a stage leaves what a stopped one goes on from."""
        return Path(self.folder, "checkpoints")

    @property
    def other(self) -> Path:
        """A file beside the folder, which belongs to somebody else; only a trial of the walls has one."""
        return Path(f"{self.folder}.other")

    @property
    def maps_device_memory(self) -> bool:
        """Whether a driver is in use that maps far more address space than it takes memory (CUDA, ROCm)."""
        return any(device.startswith(("/dev/nvidia", "/dev/kfd")) for device in self.devices)

    def as_argument(self) -> str:
        """This plan as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, argument: str) -> Plan:
        """The inverse of :meth:`as_argument`.

        Example:
            >>> plan = Plan(("limits",), "/jobs/1", Limits(2**30, 60), ("/usr",), (), 3)
            >>> Plan.parse(plan.as_argument()) == plan
            True
        """
        values = json.loads(argument)
        tuples = {name: tuple(values[name]) for name in ("walls", "reads", "devices")}
        return cls(**{**values, **tuples, "limits": Limits(**values["limits"])})
