"""What a stopped analysis has, in a folder: results of its finished stages, and a place for the one in the middle."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from quant_lens_engine.schema import PAYLOADS, InspectPayload, Record, RunSpec, StageKey, stage_fingerprint


class StageFolder:
    """Results by fingerprint, each written whole or not at all.

    Args:
        folder: made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, spec: RunSpec, inspect: InspectPayload, key: StageKey) -> Record | None:
        """The result of a stage that an earlier analysis finished; what cannot be read is computed again."""
        path = self._path(spec, inspect, key)
        with contextlib.suppress(OSError, ValidationError):
            return PAYLOADS[key.kind].model_validate_json(path.read_bytes())
        return None

    def keep(self, spec: RunSpec, inspect: InspectPayload, key: StageKey, payload: Record) -> None:
        """A stage is finished. A disk that is full ends the keeping, not the work."""
        path = self._path(spec, inspect, key)
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(f".{os.getpid()}")
            beside.write_text(payload.model_dump_json(), encoding="utf-8")
            beside.replace(path)

    @contextmanager
    def workplace(self, spec: RunSpec, inspect: InspectPayload, key: StageKey) -> Iterator[Path]:
        """The folder of a stage alone; it is of no more use once the stage has its result."""
        folder = self._folder / stage_fingerprint(spec, inspect, key)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def clear(self, spec: RunSpec, inspect: InspectPayload, keys: Iterator[StageKey]) -> None:
        """The analysis is finished: nothing of it is needed any more."""
        for key in keys:
            self._path(spec, inspect, key).unlink(missing_ok=True)

    def _path(self, spec: RunSpec, inspect: InspectPayload, key: StageKey) -> Path:
        return self._folder / f"{stage_fingerprint(spec, inspect, key)}.json"
