"""What both torch formats share: from a followed pickle to a state dict whose tensors lie in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import SAVE_HINT
from quant_lens_engine.intake.formats.layout import MAX_TENSORS, Contents, StoredTensor
from quant_lens_engine.intake.formats.pickle_program import PickledDict, StorageReference, TensorReference

NESTED_NAMES = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
    "ema_state_dict", "model_ema", "ema", "generator",
)  # fmt: skip
"""Where training scripts put the weights inside a larger checkpoint, the likeliest first."""


def find_state_dict(root: Any) -> tuple[dict[str, TensorReference], str | None, list[str]]:
    """The state dict of a followed pickle, the key it stood under (None: the whole file), and notes.

    Raises:
        CheckpointError: ``no_tensors``, or a dict that names a tensor twice.
    """
    if not isinstance(root, PickledDict):
        raise _no_tensors()
    own = _tensors_of(root)
    if own:
        return own, None, []
    nested = {name: _tensors_of(value) for name, value in root.named() if isinstance(value, PickledDict)}
    filled = {name: tensors for name, tensors in nested.items() if tensors and name != "optimizer"}
    known = [name for name in NESTED_NAMES if name in filled]
    if not filled:
        raise _no_tensors()
    chosen = known[0] if known else max(filled, key=lambda name: len(filled[name]))
    notes = [f"The weights were found under {chosen!r}."]
    if others := [name for name in filled if name != chosen]:
        notes.append(f"Not used: {', '.join(map(repr, others[:5]))}.")
    return filled[chosen], chosen, notes


def place_tensors(
    tensors: Mapping[str, TensorReference], storages: Mapping[str, tuple[int, int]], notes: list[str], under: str | None
) -> Contents:
    """Contents from references and the ``(byte offset, bytes)`` of each storage in the file.

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
