"""Tensors that are made when they are asked for: a direction through all parameters in the memory of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor


class Steps(Mapping[str, Tensor]):
    """Tensors by parameter name, each made anew whenever it is asked for, and not kept.

    Args:
        names: of the tensors, in order.
        make: the tensor of a name: the same digits each time.

    Example:
        >>> import torch
        >>> steps = Steps(["a", "b"], lambda name: torch.full((2,), float(len(name))))
        >>> steps["b"].tolist(), list(steps)
        ([1.0, 1.0], ['a', 'b'])
    """

    def __init__(self, names: Iterable[str], make: Callable[[str], Tensor]) -> None:
        self._names = dict.fromkeys(names)
        self._make = make

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
