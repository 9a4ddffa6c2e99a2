"""What a server can do: written by a worker at its start, read by the page and by ``GET /capabilities``."""

from __future__ import annotations

from typing import Any

from quant_lens_engine.schema.algorithms import AlgorithmFacts
from quant_lens_engine.schema.base import Record


class Examples(Record):
    """Models and data that ship with the engine.

    ``inspections`` holds what :class:`CheckpointInspection` or :class:`DataInspection` says of each, by name.
    """

    models: list[str] = []
    data: list[str] = []
    inspections: dict[str, dict[str, Any]] = {}


class SchemeFacts(Record):
    """A scheme that the New page offers.

    Attributes:
        effective_bits: stored bits a weight, scales included, of a layer of 1024 × 1024.
        needs_calibration: static activation ranges come from rows.
        common: among those that are asked for most; a list shows them first.
    """

    name: str
    family: str
    bits: float
    effective_bits: float
    description: str
    needs_calibration: bool = False
    common: bool = False


class ObserverFacts(Record):
    """How static activation ranges can be chosen; the name is a flag of a scheme."""

    name: str
    description: str = ""


class ArchitectureFacts(Record):
    """An architecture family, its options, and where it came from (``built-in`` or a plug-in's file name)."""

    name: str
    description: str = ""
    source: str = "built-in"
    options: dict[str, Any] = {}


class FormatFacts(Record):
    """A checkpoint or data format.

    Attributes:
        is_code: a file of it is a program: it is read only where the server trusts such formats.
    """

    name: str
    kind: str
    extensions: list[str] = []
    description: str = ""
    is_code: bool = False


class WorkerFacts(Record):
    """A live worker.

    Attributes:
        sandbox: what stands between an upload and this worker's machine.
        refuses_uploads: which demanded walls it lacks, so that it opens no upload; null: it opens them.
        problems: what an administrator should know.
    """

    id: str
    hostname: str = ""
    queues: list[str] = []
    devices: list[str] = []
    cores: int = 0
    memory_bytes: int = 0
    state: str = "idle"
    run_id: str | None = None
    started_at: str = ""
    sandbox: list[str] = []
    refuses_uploads: str | None = None
    problems: list[str] = []


class Capabilities(Record):
    """What can be asked for.

    Attributes:
        trusted_formats: whether formats that are code (``formats[].is_code``) are read, within the walls.
    """

    engine_version: str = ""
    examples: Examples = Examples()
    schemes: list[SchemeFacts] = []
    observers: list[ObserverFacts] = []
    algorithms: list[AlgorithmFacts] = []
    formats: list[FormatFacts] = []
    trusted_formats: bool = False
    architectures: list[ArchitectureFacts] = []
    analyses: dict[str, Any] = {}
    tasks: list[str] = []
    workers: list[WorkerFacts] = []
    limits: dict[str, int] = {}
