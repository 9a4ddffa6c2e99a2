"""Functions that are given a layer's weight: ``F.linear(x, embed.weight)`` computes what a layer computes, and no
module is called whose input a hook could see."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.filters import is_columns_linear
from quant_lens_engine.quantization.activation import Activation
from quant_lens_engine.quantization.layers import CONVOLUTIONS, EMBEDDINGS, quantized_parameters

_ROLES = {"q_proj_weight": "query", "k_proj_weight": "key", "v_proj_weight": "value"}
_BY_ROWS = (0, "input", "weight")
_BY_COLUMNS = (0, "input", "other")
_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_SPATIAL = (*_CONVOLUTIONS, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_FUNCTIONS: dict[Any, tuple[int, str, str]] = {
    F.linear: _BY_ROWS,
    **dict.fromkeys(_SPATIAL, _BY_ROWS),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _BY_COLUMNS),
    torch.mm: (0, "input", "mat2"),
    Tensor.mm: (0, "input", "mat2"),
    torch.addmm: (1, "mat1", "mat2"),
    Tensor.addmm: (1, "mat1", "mat2"),
}
"""Where a function takes the activation, and the names of it and of the weight behind it."""


class _Owner(NamedTuple):
    name: str
    key: str
    module: nn.Module
    batch_axis: int


class _Weight(NamedTuple):
    """A weight of this pass, and its place in memory."""

    begin: int
    end: int
    tensor: Tensor
    owners: list[_Owner]


class WeightReads:
    """Finds the weights of some layers among the arguments of functions.

    A weight is known by its place in memory: a pass may bring its own parameters, and views keep no word of whose they
    are.

    Args:
        model: the network; what its parameters are is asked anew in each pass.
        modules: names of the layers.
        batch_axes: where the rows of the batch lie in what a module is given, by its name.

    Attributes:
        running: names of modules whose inputs have been seen already, while they run.
    """

    def __init__(self, model: nn.Module, modules: Collection[str], batch_axes: Mapping[str, int]) -> None:
        self._owners = [
            _Owner(name, key, module, batch_axes[name])
            for name, module in model.named_modules()
            if name in modules
            for key in quantized_parameters(module)
            if isinstance(module._parameters.get(key), Tensor)
        ]
        self._weights: list[_Weight] = []
        self._first: Tensor | None = None
        self.running: list[str | None] = []

    def begin(self) -> None:
        """A new pass, with parameters of its own."""
        self._weights = []
        self.running = []

    def shown(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        visit: Callable[[Activation, Tensor], Tensor],
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
        """The arguments, with what a layer's weight is multiplied with given to ``visit`` first."""
        if func not in _FUNCTIONS or not self._owners:
            return args, kwargs
        place, activation_name, weight_name = _FUNCTIONS[func]
        activation = _argument(args, kwargs, place, activation_name)
        weight = _argument(args, kwargs, place + 1, weight_name)
        if not isinstance(activation, Tensor) or not isinstance(weight, Tensor) or not weight.numel():
            return args, kwargs
        found = self._find(weight)
        if found is None or any(owner.name in self.running for owner in found.owners):
            return args, kwargs
        if self._find(activation) is not None:  # a product of two weights is a weight
            return args, kwargs
        values = visit(_activation(func, args, kwargs, weight, found), activation)
        if len(args) > place:
            return (*args[:place], values, *args[place + 1 :]), kwargs
        return args, kwargs | {activation_name: values}

    def _find(self, tensor: Tensor) -> _Weight | None:
        if not self._weights or self._owners[0].module._parameters.get(self._owners[0].key) is not self._first:
            self._look()
        try:
            begin = tensor.data_ptr()
        except RuntimeError:  # a sparse tensor, or a functional transform's
            return None
        index = bisect_right(self._weights, begin, key=lambda weight: weight.begin) - 1
        return self._weights[index] if index >= 0 and begin < self._weights[index].end else None

    def _look(self) -> None:
        self._first = self._owners[0].module._parameters.get(self._owners[0].key)
        known: dict[int, _Weight] = {}
        for owner in self._owners:
            tensor = owner.module._parameters.get(owner.key)
            if isinstance(tensor, Tensor) and tensor.numel():
                begin = tensor.data_ptr()
                known.setdefault(begin, _Weight(begin, begin + tensor.nbytes, tensor, [])).owners.append(owner)
        self._weights = sorted(known.values(), key=lambda weight: weight.begin)


def _activation(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor, weight: _Weight
) -> Activation:
    """The place: of the tied layers the first that multiplies at all."""
    owner = next((owner for owner in weight.owners if not isinstance(owner.module, EMBEDDINGS)), weight.owners[0])
    layer = owner.name if owner.key == "weight" else ".".join(filter(None, (owner.name, owner.key[: -len("_weight")])))
    if _is_whole(func, tensor, weight.tensor, owner) and _computes_alike(func, args, kwargs, owner.module):
        role = _ROLES.get(owner.key, "input")
        if role != "input":
            layer = ".".join(filter(None, (owner.name, "in_proj")))
    else:
        role = "other"
    spatial = func in _SPATIAL
    batch_axis = 0 if spatial else owner.batch_axis
    return Activation(layer, owner.name, role, spatial=spatial, batch_axis=batch_axis, by_function=True)


def _is_whole(func: Callable[..., Any], tensor: Tensor, weight: Tensor, owner: _Owner) -> bool:
    """Whether the weight is read whole, and with its inputs on the axis that the layer has them on."""
    by_rows = _FUNCTIONS[func] == _BY_ROWS
    if by_rows != is_columns_linear(owner.module):
        return tensor.shape == weight.shape and tensor.stride() == weight.stride()
    turned = weight.dim() == 2 and tensor.shape == weight.shape[::-1] and tensor.stride() == weight.stride()[::-1]
    return turned and func not in _SPATIAL


def _computes_alike(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], module: nn.Module) -> bool:
    """Whether a convolution by function meets the inputs at the places at which the layer would."""
    if func not in _SPATIAL:
        return not isinstance(module, CONVOLUTIONS)
    if func not in _CONVOLUTIONS or not isinstance(module, CONVOLUTIONS) or module.padding_mode != "zeros":
        return False
    axes = len(module.kernel_size)
    for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1), (6, "groups", 1)):
        given, own = _argument(args, kwargs, place, name), getattr(module, name)
        if name == "groups" or isinstance(own, str):
            alike = own == (default if given is None else given)
        else:
            sizes = default if given is None else given
            alike = own == ((sizes,) * axes if isinstance(sizes, int) else _sizes(sizes, axes))
        if not alike:
            return False
    return True


def _sizes(given: Any, axes: int) -> Any:
    return given if isinstance(given, str) else tuple(given) * (axes if len(given) == 1 else 1)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)
