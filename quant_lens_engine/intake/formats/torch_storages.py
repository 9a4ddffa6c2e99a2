"""What both torch formats share: from a followed pickle to a state dict whose tensors lie in the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import SAVE_HINT
from quant_lens_engine.intake.formats.layout import MAX_TENSORS, Contents, StoredTensor
from quant_lens_engine.intake.formats.pickle_program import PickledDict, StorageReference, TensorReference

NESTED_NAMES = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
    "ema_state_dict", "state_dict_ema", "model_ema", "ema", "generator",
)  # fmt: skip
"""Where training scripts put the weights inside a larger checkpoint, the likeliest first."""

TRAINING_STATE = (
    "optim", "lr_sched", "sched", "scaler", "grad_scaler", "callbacks", "loops", "rng", "random", "hyper_param",
    "sampler", "args", "config",
)  # fmt: skip
"""How the names of what belongs to a training, not to a model, begin: its tensors are left aside."""

LIGHTNING = "pytorch-lightning_version"
_DEEPEST = 4


@dataclass(frozen=True)
class FoundParts:
    """The state dicts of a followed pickle.

    Attributes:
        parts: tensors by the path of the dict that they stand in; ``""``: the file's own.
        chosen: the path of the one that is meant when none is named.
        notes: sentences on what was recognised.
    """

    parts: Mapping[str, Mapping[str, TensorReference]]
    chosen: str
    notes: tuple[str, ...] = ()


def find_parts(root: Any) -> FoundParts:
    """Every state dict of a followed pickle, and the likeliest.

    A dict counts where it holds tensors by name; optimizers, schedulers and the like are left aside. The likeliest has
    the first of :data:`NESTED_NAMES`, or the most tensors; a file whose own tensors are the most is one state dict.

    Raises:
        CheckpointError: ``no_tensors``, or a dict that names a tensor twice.
    """
    if not isinstance(root, PickledDict):
        raise _no_tensors()
    parts = dict(_walk(root, "", 0))
    if not parts:
        raise _no_tensors()
    nested = [path for path in parts if path]
    own = sum(bool(tensor.shape) and not _is_training_state(name) for name, tensor in parts.get("", {}).items())
    if not nested or own >= max(len(parts[path]) for path in nested):
        return FoundParts({"": parts[""]}, "")
    chosen = min(nested, key=lambda path: (_likelihood(path), path.count("."), -len(parts[path])))
    notes = [f"The weights were found under {chosen!r}."]
    if LIGHTNING in dict(root.named()):
        parts = dict(_by_attribute(parts, chosen))
        if chosen not in parts:
            chosen = min((path for path in parts if path.startswith(chosen + ".")), key=lambda path: -len(parts[path]))
            notes = [f"A Lightning checkpoint: the weights of the attribute {chosen.partition('.')[2]!r} are used."]
    if others := [path for path in parts if path != chosen]:
        named = ", ".join(repr(path) if path else "loose tensors" for path in others[:5])
        notes.append(f"Not used: {named}.")
    return FoundParts({path: parts[path] for path in parts if path}, chosen, tuple(notes))


def place_tensors(
    tensors: Mapping[str, TensorReference],
    storages: Mapping[str, tuple[int, int]],
    notes: Iterable[str] = (),
    under: str | None = None,
) -> Contents:
    """Contents from the references of one state dict and the ``(byte offset, bytes)`` of each storage in the file.

    Raises:
        CheckpointError: ``storage_mismatch`` where the file holds another number of bytes than the pickle claims.
    """
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"it lists {len(tensors)} tensors; at most {MAX_TENSORS} are read", hint=SAVE_HINT)
    placed: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        offset, size = _checked_storage(name, tensor.storage, storages)
        stored = StoredTensor(
            tensor.shape, tensor.dtype, offset, size // tensor.dtype.itemsize, tensor.start, tensor.stride
        )
        stored.check_bounds(name)
        placed[name] = stored
    return Contents(placed, under, tuple(notes))


def place_parts(found: FoundParts, storages: Mapping[str, tuple[int, int]], *notes: str) -> Contents:
    """The same of every part; one that is damaged is left out, unless it is the chosen one."""
    placed: dict[str, Mapping[str, StoredTensor]] = {}
    for path, tensors in found.parts.items():
        try:
            placed[path] = place_tensors(tensors, storages).tensors
        except CheckpointError:
            if path == found.chosen:
                raise
    parts = placed if found.chosen else {}
    return Contents(placed[found.chosen], found.chosen or None, (*found.notes, *notes), parts)


def _walk(value: PickledDict, path: str, depth: int) -> Iterator[tuple[str, dict[str, TensorReference]]]:
    """Each dict that holds tensors, the outermost first."""
    if tensors := _tensors_of(value):
        yield path, tensors
    if depth == _DEEPEST:
        return
    for name, inner in value.named():
        if isinstance(inner, PickledDict) and not _is_training_state(name):
            yield from _walk(inner, f"{path}.{name}" if path else name, depth + 1)


def _is_training_state(name: str) -> bool:
    return name.lower().startswith(TRAINING_STATE)


def _likelihood(path: str) -> int:
    first = path.partition(".")[0]
    return NESTED_NAMES.index(first) if first in NESTED_NAMES else len(NESTED_NAMES)


def _by_attribute(
    parts: Mapping[str, dict[str, TensorReference]], chosen: str
) -> Iterator[tuple[str, dict[str, TensorReference]]]:
    """A LightningModule's state dict taken apart by the attribute that each network is."""
    for path, tensors in parts.items():
        attributes = {name.partition(".")[0] for name in tensors}
        if path != chosen or any("." not in name for name in tensors):
            yield path, tensors
            continue
        for attribute in sorted(attributes, key=list(dict.fromkeys(n.partition(".")[0] for n in tensors)).index):
            own = attribute + "."
            yield f"{path}.{attribute}", {n.removeprefix(own): t for n, t in tensors.items() if n.startswith(own)}


def _checked_storage(name: str, storage: StorageReference, storages: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    offset, size = storages.get(storage.key, (0, -1))
    if size != storage.elements * storage.dtype.itemsize:
        found = "is not in the file" if size < 0 else f"holds {size} bytes"
        raise CheckpointError(
            f"tensor {name!r} claims a storage of {storage.elements} elements, which {found}",
            hint="the file is damaged or cut off: upload it again, or save it again",
            code="storage_mismatch",
            details={"tensor": name, "claimed_elements": storage.elements},
        )
    return offset, size


def _tensors_of(value: PickledDict) -> dict[str, TensorReference]:
    found: dict[str, TensorReference] = {}
    for name, item in _items(value):
        if name in found:
            raise CheckpointError(f"it names the tensor {name[:80]!r} twice", hint=SAVE_HINT, code="duplicate_tensor")
        found[name] = item
    return found


def _items(value: PickledDict) -> Iterator[tuple[str, TensorReference]]:
    return ((name, item) for name, item in value.named() if isinstance(item, TensorReference))


def _no_tensors() -> CheckpointError:
    return CheckpointError("it holds no state dict: no tensors by name", hint=SAVE_HINT, code="no_tensors")
