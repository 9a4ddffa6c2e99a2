"""What is known of an upload while it arrives: a file beside its bytes, so that whoever promises room can count it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quant_lens_engine.schema import Record


class Sidecar(Record):
    """What is known of an upload. ``sha256`` is set when all bytes are there; ``info`` is the tus library's own."""

    owner: str = ""
    sha256: str | None = None
    info: dict[str, Any] = {}

    @property
    def length(self) -> int:
        """Bytes that the client announced."""
        return int(self.info.get("size") or 0)

    @property
    def metadata(self) -> dict[str, str]:
        """The client's metadata: ``filename``, and ``sha256`` where it gave one."""
        metadata = self.info.get("metadata") or {}
        return {"filetype": "application/octet-stream", **metadata}


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar at ``path``; None where there is none."""
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def announced_bytes(folder: Path, owner: str | None = None) -> int:
    """Bytes that unfinished uploads, an owner's or everybody's, will take when they are complete.

    Args:
        folder: where uploads arrive.
        owner: whose; None: everybody's.

    Example:
        >>> announced_bytes(Path("no such folder"))
        0
    """
    sidecars = map(read_sidecar, folder.glob("*.json"))
    return sum(one.length for one in sidecars if one and owner in (None, one.owner) and not one.sha256)
