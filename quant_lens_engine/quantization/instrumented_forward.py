"""A forward pass with a place to look at, and to change, each activation: hooks at layers, a watch over functions that
are given a layer's weight, attention written out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from quant_lens_engine.objective.function import Point
from quant_lens_engine.quantization.activation import Activation, Visit
from quant_lens_engine.quantization.attention import multihead_attention, scaled_dot_product
from quant_lens_engine.quantization.batch_axis import batch_axes
from quant_lens_engine.quantization.layers import CONVOLUTIONS, EMBEDDINGS, TRANSPOSED_CONVOLUTIONS
from quant_lens_engine.quantization.weight_reads import WeightReads

_SPATIAL = (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)
_MATRIX_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)


ATTENTION_ROLES = {"query": "queries", "key": "keys", "value": "values", "probabilities": "probabilities"}


class InstrumentedForward:
    """A network with the same parameters whose activations pass by ``visit``.

    Args:
        model: its modules are copied, its parameters and buffers shared.
        modules: names of the layers whose inputs are visited.
        visit: sees each activation, and gives back what the layer behind gets.
        products: also visit what attention multiplies, in ``nn.MultiheadAttention`` and wherever
            ``F.scaled_dot_product_attention`` is called.
        written_out: take matrix products of two activations for attention, too.

    Attributes:
        model: the network with its hooks; names and shapes of its parameters are those of the original.
    """

    def __init__(
        self, model: nn.Module, modules: Collection[str], visit: Visit, *, products: bool = False,
        written_out: bool = False,
    ) -> None:  # fmt: skip
        self.model = structural_copy(model)
        self.visit = visit
        self._batch_axes = batch_axes(self.model)
        self._reads = WeightReads(self.model, modules, self._batch_axes)
        self._mode = _FunctionMode(visit, self._reads, products, written_out, self.model)
        for name, module in self.model.named_modules():
            if isinstance(module, nn.MultiheadAttention):
                owners = {"in_proj": name, "out_proj": _joined(name, "out_proj")}
                visited = {part: owner for part, owner in owners.items() if owner in modules}
                if visited or products:
                    self._write_out(name, module, visited, products)
            elif name in modules and not isinstance(module, EMBEDDINGS) and not self._is_inside_attention(name):
                spatial = isinstance(module, _SPATIAL)
                batch_axis = 0 if spatial else self._batch_axes[name]
                self._hook(Activation(name, name, spatial=spatial, batch_axis=batch_axis), module)

    def prepare(self, batch: int, at: Callable[[Point], Any]) -> None:
        """Nothing: each pass stands by itself."""

    def for_other_rows(self) -> InstrumentedForward:
        """Itself: nothing of a micro-batch is kept."""
        return self

    @contextmanager
    def around(self, batch: int) -> Iterator[None]:  # noqa: ARG002
        """Watch for functions that are given a weight, and for calls of attention."""
        self._mode.begin()
        with self._mode:
            yield

    def _hook(self, activation: Activation, module: nn.Module) -> None:
        def visit_input(
            _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
            seen = self._visit_first(activation, inputs, named)
            self._reads.running.append(None if seen is None else activation.module)
            return seen

        def ended(*_: Any) -> None:
            if self._reads.running:
                self._reads.running.pop()

        module.register_forward_pre_hook(visit_input, with_kwargs=True)
        module.register_forward_hook(ended, always_call=True)

    def _visit_first(
        self, activation: Activation, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments with the first of them visited; None where it is no tensor."""
        if inputs and isinstance(inputs[0], Tensor):
            return (self.visit(activation, inputs[0]), *inputs[1:]), named
        name = None if inputs else next(iter(named), None)
        if name is None or not isinstance(named[name], Tensor):
            return None
        return inputs, named | {name: self.visit(activation, named[name])}

    def _write_out(self, name: str, attention: nn.MultiheadAttention, visited: dict[str, str], products: bool) -> None:
        """Attention whose parts can be seen, in place of the fused function."""

        def seen(role: str, values: Tensor) -> Tensor:
            projection, _, part = role.partition(".")
            if projection in visited:
                # what reaches the output projection has the batch first, however the module is given it
                batch_axis = self._batch_axes[name] if projection == "in_proj" else 0
                layer, module = _joined(name, projection), visited[projection]
                return self.visit(Activation(layer, module, part or "input", batch_axis=batch_axis), values)
            if role in ATTENTION_ROLES and products:
                return self.visit(Activation(name or "attention", name, ATTENTION_ROLES[role]), values)
            return values

        def written_out(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
            with self._mode.resting():
                return multihead_attention(attention, seen, *args, **kwargs)

        attention.forward = written_out  # type: ignore[method-assign]

    def _is_inside_attention(self, name: str) -> bool:
        return isinstance(self.model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention)


class _FunctionMode(TorchFunctionMode):
    """Shows what functions multiply layers' weights with; what ``F.scaled_dot_product_attention`` takes, and products
    of two activations, where that is asked for."""

    def __init__(
        self, visit: Visit, reads: WeightReads, products: bool, written_out: bool, model: nn.Module
    ) -> None:  # fmt: skip
        super().__init__()
        self._visit, self._reads, self._model = visit, reads, model
        self._products, self._written_out = products, products and written_out
        self._calls = 0
        self._rests = False
        self._parameters: set[int] | None = None

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Let everything pass: what is multiplied here is shown already."""
        before, self._rests = self._rests, True
        try:
            yield
        finally:
            self._rests = before

    def begin(self) -> None:
        """A new pass: calls are counted from 1, so that the same call has the same name in each."""
        self._calls, self._parameters = 0, None
        self._reads.begin()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Show the arguments of layers and of attention; everything else passes."""
        kwargs = kwargs or {}
        if self._rests:
            return func(*args, **kwargs)
        args, kwargs = self._reads.shown(func, args, kwargs, self._visit)
        if self._products and func is F.scaled_dot_product_attention:
            label = self._label("attention")
            return scaled_dot_product(lambda role, x: self._seen(label, ATTENTION_ROLES[role], x), *args, **kwargs)
        if self._written_out and func in _MATRIX_PRODUCTS and self._multiplies_activations(args):
            label = self._label("matmul")
            return func(self._seen(label, "left", args[0]), self._seen(label, "right", args[1]))
        return func(*args, **kwargs)

    def _seen(self, label: str, role: str, values: Tensor) -> Tensor:
        return self._visit(Activation(label, label, role), values)

    def _multiplies_activations(self, args: tuple[Any, ...]) -> bool:
        return len(args) == 2 and all(
            isinstance(arg, Tensor) and arg.dim() >= 3 and arg.is_floating_point() and not self._is_parameter(arg)
            for arg in args
        )

    def _is_parameter(self, tensor: Tensor) -> bool:
        """A weight, or a view of one (the experts of a mixture have three axes)."""
        if self._parameters is None:
            self._parameters = {id(parameter) for parameter in self._model.parameters()}
        return id(tensor) in self._parameters or (tensor._base is not None and id(tensor._base) in self._parameters)

    def _label(self, kind: str) -> str:
        self._calls += 1
        return f"{kind}{self._calls}"


def structural_copy(model: nn.Module) -> nn.Module:
    """The modules copied, their parameters and buffers shared."""
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    # what a pass has left behind (old-style weight_norm) is computed anew by the next, and torch refuses to copy it
    left = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    shared |= {id(value): value.detach() for value in left if not value.is_leaf}
    return copy.deepcopy(model, shared)


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))
