"""A checkpoint file as tensors by name, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import SAVE_HINT, read_contents
from quant_lens_engine.intake.formats.layout import StoredTensor, non_finite, read_tensors

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose tensors have been found, not read.

    Attributes:
        path: the file.
        filename: what its owner calls it.
        format: its format's registered name.
        container: the key that the state dict stood under; None: the whole file.
        tensors: by name, wrappers' prefixes taken off.
        notes: sentences on what was recognised.
    """

    path: Path
    filename: str
    format: str
    container: str | None
    tensors: Mapping[str, StoredTensor]
    notes: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What an architecture is matched by."""
        return {name: stored.shape for name, stored in self.tensors.items()}

    @property
    def size_bytes(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the tensors, on the CPU, in their stored dtype."""
        return read_tensors(self.path, self.tensors)

    def non_finite(self) -> list[str]:
        """Names of the tensors that hold NaN or infinity."""
        return non_finite(self.path, self.tensors)

    def check_finite(self) -> None:
        """Refuse weights that no loss can be measured with.

        Raises:
            CheckpointError: ``non_finite_weights``, naming the tensors.
        """
        names = self.non_finite()
        if names:
            raise CheckpointError(
                f"{self.filename}: {len(names)} of {len(self.tensors)} tensors hold NaN or infinity: "
                + ", ".join(names[:5])
                + (" …" if len(names) > 5 else ""),
                hint="the training diverged, or the file is damaged: use an earlier checkpoint",
                code="non_finite_weights",
                details={"tensors": names},
            )


def open_checkpoint(path: Path, filename: str | None = None) -> Checkpoint:
    """Find every tensor of a checkpoint. Nothing is deserialised: see :mod:`quant_lens_engine.intake.formats`.

    Args:
        path: the file.
        filename: what its owner calls it; messages say this. Default: the path's last part.

    Raises:
        CheckpointError: not a checkpoint, refused, or damaged; the message says what to do instead.
    """
    shown = Path(filename or path.name).name or "the file"
    name, contents = read_contents(path, shown)
    if not contents.tensors:
        raise CheckpointError(f"{shown}: it holds no tensors", hint=SAVE_HINT, code="no_tensors")
    tensors, notes = _without_wrappers(contents.tensors)
    return Checkpoint(path, shown, name, contents.container, tensors, (*contents.notes, *notes))


def _without_wrappers(tensors: Mapping[str, StoredTensor]) -> tuple[dict[str, StoredTensor], list[str]]:
    found, notes = dict(tensors), []
    if found.keys() != {"n_averaged"} and "n_averaged" in found:  # torch.optim.swa_utils.AveragedModel
        rest = {name: stored for name, stored in found.items() if name != "n_averaged"}
        if all(name.startswith("module.") for name in rest):
            found = rest
            notes.append("An averaged model (n_averaged): its averaged weights are used.")
    for prefix in WRAPPER_PREFIXES * 2:  # a compiled DataParallel has both, in either order
        if all(name.startswith(prefix) and len(name) > len(prefix) for name in found):
            found = {name.removeprefix(prefix): stored for name, stored in found.items()}
            notes.append(f"The prefix {prefix!r} was taken off every key.")
    return found, notes
