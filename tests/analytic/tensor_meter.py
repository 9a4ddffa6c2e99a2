"""How many bytes of tensors are in memory at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class TensorMeter(TorchDispatchMode):
    """Counts the storages that operations make while it is entered, those that were there before left out.

    A storage counts from the operation that gives it to the first operation after it is let go of. What an operator
    takes and gives back within itself is not seen.

    Args:
        known: tensors that were there before.

    Attributes:
        peak: the largest number of bytes at once.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.peak = 0
        self._known = {StorageWeakRef(tensor.untyped_storage()).cdata for tensor in known}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._at_most = 0

    @property
    def now(self) -> int:
        """Bytes that are held."""
        self._live = {key: found for key, found in self._live.items() if not found[0].expired()}
        self._at_most = sum(size for _, size in self._live.values())
        return self._at_most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, and what it gives."""
        given = func(*args, **(kwargs or {}))
        for tensor in tree_iter(given):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        if self._at_most > self.peak:  # only then can there be more than ever: what was let go of is looked for
            self.peak = max(self.peak, self.now)
        return given

    def _count(self, tensor: Tensor) -> None:
        reference, size = StorageWeakRef(tensor.untyped_storage()), tensor.untyped_storage().nbytes()
        found = self._live.get(reference.cdata)
        if reference.cdata in self._known or (found is not None and not found[0].expired()):
            return
        self._live[reference.cdata] = reference, size
        self._at_most += size
