"""A checkpoint file as tensors by name, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import SAVE_HINT, read_contents
from quant_lens_engine.intake.formats.layout import Contents, StoredTensor, files_of, non_finite, read_tensors
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.graphs import BroughtNetwork
from quant_lens_engine.intake.named_class import NamedClass

STATISTICS = ("running_mean", "running_var")
"""Floating-point tensors of a state dict that nobody trains end like this."""

WRAPPER_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose tensors have been found, not read.

    Attributes:
        path: the file, or the folder.
        filename: what its owner calls it.
        format: its format's registered name.
        container: the part that is used, by the key that it stood under; None: the whole file.
        tensors: by name, wrappers' prefixes taken off.
        notes: sentences on what was recognised.
        parts: every state dict of a training checkpoint that could be chosen, by name.
        network: that the file brings along; None: an architecture must be found for its tensors.
        named: the class of transformers that the configuration beside the weights names; None: there is none.
        ran: the file was run to read it, since it was trusted.
    """

    path: Path
    filename: str
    format: str
    container: str | None
    tensors: Mapping[str, StoredTensor]
    notes: tuple[str, ...] = ()
    parts: Mapping[str, Mapping[str, StoredTensor]] = field(default_factory=dict)
    network: BroughtNetwork | None = None
    named: NamedClass | None = None
    ran: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """What an architecture is matched by."""
        return {name: stored.shape for name, stored in self.tensors.items()}

    @property
    def integers(self) -> frozenset[str]:
        """Names of the tensors that hold whole numbers or truth values."""
        return frozenset(
            name
            for name, stored in self.tensors.items()
            if not stored.dtype.is_floating_point and not stored.dtype.is_complex
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of the file, or of those that hold the tensors."""
        return sum(file.stat().st_size for file in files_of(self.path, self.tensors))

    def with_part(self, name: str) -> Checkpoint:
        """The same file, with another of its ``parts``."""
        tensors, notes = _without_wrappers(self.parts[name])
        return replace(self, container=name, tensors=tensors, notes=tuple(notes))

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


def count_parameters(tensors: Mapping[str, StoredTensor]) -> int:
    """Numbers in floating-point tensors, without running statistics."""
    learnt = (name for name, stored in tensors.items() if stored.dtype.is_floating_point)
    return sum(tensors[name].count for name in learnt if not name.endswith(STATISTICS))


def open_checkpoint(
    path: Path, filename: str | None = None, part: str | None = None, *, trusted: bool = False,
    given: GivenFile | None = None,
) -> Checkpoint:  # fmt: skip
    """Find every tensor of a checkpoint. Nothing is deserialised: see :mod:`quant_lens_engine.intake.formats`.

    Args:
        path: the file.
        filename: what its owner calls it; messages say this. Default: the path's last part.
        part: which state dict of a training checkpoint is meant, such as ``ema`` or ``ema.module``; also the first
            part of keys, such as ``generator`` for ``generator.conv.weight``. None: the likeliest.
        trusted: a TorchScript archive or a pickled module may be run, in this process, to read it. Files of any other
            format are read as data all the same.
        given: what was seen of the file already: an archive's directory is not read twice.

    Raises:
        CheckpointError: not a checkpoint, refused, or damaged; the message says what to do instead; ``no_such_part``.
    """
    shown = Path(filename or path.name).name or "the file"
    name, contents = read_contents(given or GivenFile.at(path), shown, trusted=trusted)
    if not contents.tensors:
        raise CheckpointError(f"{shown}: it holds no tensors", hint=SAVE_HINT, code="no_tensors")
    if contents.network is not None:
        if contents.ran and part is not None and part != contents.container:
            raise _no_part(shown, part, [contents.container] if contents.container else [])
        return Checkpoint(
            path, shown, name, contents.container, contents.tensors, contents.notes, network=contents.network,
            ran=contents.ran,
        )  # fmt: skip
    if contents.bundle is not None:
        named = NamedClass.read(path, contents.tensors, contents.bundle)
        said = (*named.notes, *contents.notes)
        return Checkpoint(path, shown, name, contents.container, named.tensors, said, named=named)
    container, chosen, said = contents.container, contents.tensors, contents.notes
    if part is not None and part != container:
        container, chosen, said = part, _part(contents, part, shown), (f"The part {part!r} was chosen.",)
    tensors, notes = _without_wrappers(chosen)
    return Checkpoint(path, shown, name, container, tensors, (*said, *notes), contents.parts)


def _part(contents: Contents, part: str, shown: str) -> Mapping[str, StoredTensor]:
    """The tensors of a state dict, or those whose keys begin with ``part``."""
    if part in contents.parts:
        return contents.parts[part]
    for path, tensors in (*contents.parts.items(), ("", contents.tensors)):
        if not path or part.startswith(path + "."):
            prefix = (part.removeprefix(path + ".") if path else part) + "."
            found = {name.removeprefix(prefix): stored for name, stored in tensors.items() if name.startswith(prefix)}
            if found:
                return found
    raise _no_part(shown, part, list(contents.parts))


def _no_part(shown: str, part: str, parts: list[str]) -> CheckpointError:
    return CheckpointError(
        f"{shown}: there is no part {part!r}",
        hint=f"it has {', '.join(parts)}" if parts else "it is one state dict: leave the part out",
        code="no_such_part",
        details={"parts": parts},
    )


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
