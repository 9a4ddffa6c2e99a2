"""Checkpoint formats: one file each, each registers itself.

No format here deserialises, but for the two that are code by their nature (TorchScript, pickled modules), and those
only where the file is trusted. Every other reader finds out where each tensor lies and checks that against the file's
real size; the tensors are then copied from the file. Code in a file has nothing that would run it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from quant_lens_engine.errors import CheckpointError, QuantLensError, is_out_of_memory
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.graphs.refusals import EXPORT_CALL
from quant_lens_engine.intake.tree import Tree, ZipTree
from quant_lens_engine.intake.zip_archive import Member, UnsoundArchiveError
from quant_lens_engine.registry import Registry, load_rooms

SAVE_HINT = (
    "save the weights alone: torch.save(model.state_dict(), 'model.pt'), "
    "or safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
)
"""What to do instead, in one line."""

NETWORK_HINT = f"{SAVE_HINT}; or bring the whole network as a graph without code: {EXPORT_CALL}"
"""The same for who brings a network together with its code."""


TRUST_HINT = (
    "Such a file is a program: an administrator can have this server run it within its walls "
    "(QUANT_LENS_TRUSTED_FORMATS=1); on the command line --trust-checkpoint runs it without walls"
)
"""How a file that is code can be read all the same, in one line."""


@dataclass(frozen=True)
class CheckpointFormat:
    """One format.

    Attributes:
        recognises: from the first bytes, or the names of a folder's or zip's members; the extension proves nothing.
        read: finds every tensor's place in the file, or raises CheckpointError. Runs nothing of it.
        extensions: what such files are usually called.
        description: one line for people.
        general: it takes every file of its kind (a zip) that no other format knows: it is asked last.
        refused: this format is recognised only to say why it is not read.
        run: reads the file by running it, where it is trusted; None: there is nothing in it to run. ``read`` then says
            why it is not read otherwise.
    """

    recognises: Callable[[GivenFile], bool]
    read: Callable[[GivenFile], Contents]
    extensions: tuple[str, ...] = ()
    description: str = ""
    general: bool = False
    refused: bool = False
    run: Callable[[GivenFile], Contents] | None = None


def unsound_archive(error: UnsoundArchiveError, what: str, hint: str) -> CheckpointError:
    """What is wrong with a zip, as an error: ``bad_zip``, ``zip_bomb`` or ``truncated_file``."""
    code = "zip_bomb" if error.bomb else "truncated_file" if error.truncated else "bad_zip"
    said = "the file is cut off: upload it again" if error.truncated else hint
    return CheckpointError(f"not a sound {what}: {error}", hint=said, code=code)


def member_bytes(tree: Tree, name: str, limit: int) -> bytes:
    """At most ``limit`` bytes of a member that lies beside the tensors: a configuration, an index.

    Raises:
        CheckpointError: ``bad_zip``: it does not inflate, or is not what its checksum says.
    """
    try:
        return tree.read(name, limit)
    except Exception as error:  # zipfile's, zlib's and the system's have no common base
        raise CheckpointError(
            f"{name.rpartition('/')[2][:80]!r} in it cannot be read ({error.__class__.__name__})",
            hint="the file is damaged: upload it again, or zip the folder again: cd folder && zip -0 -r ../model.zip .",
            code="bad_zip",
        ) from None


def tree_of(given: GivenFile, what: str, hint: str) -> Tree:
    """The members of a folder or zip.

    Raises:
        CheckpointError: ``bad_zip``, ``zip_bomb`` or ``truncated_file``.
    """
    if isinstance(given.found, Tree):
        return given.found
    raise unsound_archive(given.found, what, hint)


def members_of(given: GivenFile, what: str, hint: str) -> dict[str, Member]:
    """The members of a zip with their places.

    Raises:
        CheckpointError: as :func:`tree_of`; ``bad_zip`` where it is none.
    """
    found = tree_of(given, what, hint)
    if not isinstance(found, ZipTree):
        raise CheckpointError(f"not a sound {what}: it is no zip", hint=hint, code="bad_zip")
    return found.members


def member_names(given: GivenFile) -> frozenset[str]:
    """Last parts of the names of a sound zip's members; none of anything else."""
    found = given.found
    return frozenset(PurePosixPath(name).name for name in found.members) if isinstance(found, ZipTree) else frozenset()


@contextlib.contextmanager
def running(path: Path, what: str, *, hint: str, code: str) -> Iterator[None]:
    """While a file is run that is trusted: whatever its code raises is an error of the file.

    Args:
        path: the file; it is not told.
        what: it is, as in *a pickled model*.
        hint: what to do.
        code: of the error.

    Raises:
        CheckpointError: ``code``. What is typed already, and want of memory, is left as it is.

    Example:
        >>> with running(Path("m.pt"), "a script", hint="", code="script_failed"):
        ...     raise ValueError("no such thing in m.pt")
        Traceback (most recent call last):
        quant_lens_engine.errors.CheckpointError: a script that cannot be loaded (ValueError: no such thing in it)
    """
    try:
        yield
    except QuantLensError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().replace(str(path), "it").partition("\n")[0][:200]
        raise CheckpointError(
            f"{what} that cannot be loaded ({error.__class__.__name__}: {reason})", hint=hint, code=code
        ) from None


FORMATS: Registry[CheckpointFormat] = Registry("format", CheckpointError)

load_rooms(sys.modules[__name__])


def recognise(given: GivenFile) -> str | None:
    """The name of the format of a file or folder; None where none is recognised.

    Raises:
        CheckpointError: ``empty_file``.
    """
    if given.is_empty:
        raise CheckpointError(
            "the file is empty", hint="upload it again; check that it was saved completely", code="empty_file"
        )
    ordered = sorted(FORMATS.items(), key=lambda item: item[1].general)
    return next((name for name, known in ordered if known.recognises(given)), None)


def without_trust(error: CheckpointError) -> CheckpointError:
    """The same refusal of a file that is never run, trusted or not: without the way to have it run.

    Example:
        >>> without_trust(CheckpointError("a script", hint=f"{NETWORK_HINT}. {TRUST_HINT}")).hint == SAVE_HINT
        True
        >>> without_trust(CheckpointError("it is empty", hint="give another")).hint
        'give another'
    """
    hint = SAVE_HINT if error.hint.endswith(TRUST_HINT) else error.hint
    return CheckpointError(error.message, hint=hint, code=error.code, details=error.details)


def read_contents(given: GivenFile, filename: str, *, trusted: bool = False) -> tuple[str, Contents]:
    """Format and contents of a checkpoint.

    Args:
        given: the file.
        filename: what its owner calls it; messages say this and never the path.
        trusted: a file of a format that is code may be run to read it. A file of any other format never is.

    Raises:
        CheckpointError: ``not_a_checkpoint``, or what the format has against the file.
    """
    try:
        name = recognise(given)
        if name is not None:
            known = FORMATS[name]
            read = known.run if trusted and known.run is not None else known.read
            return name, read(given)
    except CheckpointError as error:
        error.about(filename)
        raise
    raise CheckpointError(
        f"{filename} is not a checkpoint: neither safetensors nor a file of torch.save",
        hint=SAVE_HINT,
        code="not_a_checkpoint",
    )
