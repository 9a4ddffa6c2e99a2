"""A network whose activations are rounded as a scheme says; live, or frozen at one point."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization.activation import Activation
from quant_lens_engine.quantization.activation_quantizer import ActivationQuantizer, PassControl, Tape
from quant_lens_engine.quantization.instrumented_forward import InstrumentedForward
from quant_lens_engine.schema import ActivationFormat, QuantizationScheme

FROZEN_BYTES = {"cpu": 2**31, "cuda": 2**33}
"""What the tapes of a sample may take; a micro-batch whose tape is not kept is run at its first point again."""


class QuantizedForward:
    """The forward pass of a network with its activations rounded.

    Rounded are the inputs of the layers in ``modules``, also where not the module is called but a function is given its
    weight (``F.linear``, ``F.conv2d`` and the like, ``x @ weight.T``); where the scheme says so, what attention
    multiplies, or its keys and values. Attention is found in ``nn.MultiheadAttention`` and in
    ``F.scaled_dot_product_attention``; with ``-attn``, a product of two activations that a model writes out itself is
    taken for attention too.

    Args:
        model: shared, not copied, are its parameters and buffers.
        scheme: its ``activations``, ``kv`` and ``attention``.
        modules: names of the layers whose inputs are rounded.
        smoothing: factors of the features of an input ``(features,)``, by the name of the module that reads it; with
            the role behind it where attention reads query, key and value apart.

    Attributes:
        model: the network with its hooks; names and shapes of its parameters are those of the original.
        quantizers: by the name of the activation, in the order in which they were first met.

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> plain = nn.Sequential(nn.Linear(2, 2, bias=False))
        >>> plain[0].weight.data.copy_(torch.eye(2)).sum().item()
        2.0
        >>> QuantizedForward(plain, parse_scheme("w16a4-dynamic"), ["0"]).model(torch.tensor([[7.0, 3.3]])).tolist()
        [[7.0, 3.0]]
    """

    def __init__(
        self, model: nn.Module, scheme: QuantizationScheme, modules: Collection[str],
        smoothing: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.scheme = scheme
        self.modules = frozenset(modules if scheme.activations is not None else ())
        self.control = PassControl()
        self.quantizers: dict[str, ActivationQuantizer] = {}
        self._smoothing = dict(smoothing or {})
        self._inner = InstrumentedForward(
            model, self.modules, self.rounded, products=self.rounds_products, written_out=scheme.attention
        )
        self.model = self._inner.model

    @property
    def rounds_products(self) -> bool:
        """Whether anything that attention multiplies is rounded."""
        return self.scheme.attention or self.scheme.kv is not None

    def prepare(self, batch: int, at: Callable[[Point], Any]) -> None:
        """Nothing: each pass stands by itself."""

    def around(self, batch: int) -> AbstractContextManager[None]:
        """Watch for calls of attention, where the scheme rounds what it multiplies."""
        return self._inner.around(batch)

    def for_other_rows(self) -> QuantizedForward:
        """Itself: nothing of a micro-batch is kept."""
        return self

    def calibrate(self, objective: Objective, progress: Progress = SILENT) -> None:
        """Choose static ranges on the rows of ``objective``, at its point, with every activation in float.

        Raises:
            NumericalError: an activation is not finite.
        """
        watched = objective.through(self)
        with self.control.during("watch"):
            for batch in watched.batches():
                progress.check_cancelled()
                watched.scores(batch)
        for quantizer in self.quantizers.values():
            quantizer.settle()

    def meet(self, objective: Objective) -> None:
        """Meet every activation that is rounded, on two rows."""
        first = next(iter(objective.batches()))
        objective.through(self).scores(first.select(slice(0, min(2, first.rows))))

    def frozen(self, point: Point, device: torch.device) -> FrozenForward:
        """The smooth function that has, at ``point``, the value and the derivatives of this one."""
        return FrozenForward(self, dict(point), FROZEN_BYTES[device.type])

    def rounded(self, activation: Activation, values: Tensor) -> Tensor:
        """An activation as the layer behind it gets it."""
        fmt = self._format(activation)
        if fmt is None:
            return values
        quantizer = self.quantizers.get(activation.name)
        if quantizer is None:
            quantizer = ActivationQuantizer(activation, fmt, self.control, self._factors(activation))
            self.quantizers[activation.name] = quantizer
        return quantizer(values)

    def _factors(self, activation: Activation) -> Tensor | None:
        if not activation.is_layer_input:
            return None
        own = self._smoothing.get(f"{activation.module}.{activation.role}")
        return self._smoothing.get(activation.module) if own is None else own

    def _format(self, activation: Activation) -> ActivationFormat | None:
        if not activation.inside_attention:
            return self.scheme.activations if activation.module in self.modules else None
        if activation.role in ("keys", "values") and self.scheme.kv is not None:
            return self.scheme.kv
        return self.scheme.activations if self.scheme.attention else None


class FrozenForward:
    """The smooth function at one point: every activation keeps the offset and the mask that it had there.

    A micro-batch's offsets are kept while they fit in memory; otherwise the micro-batch is run at that point again.
    """

    def __init__(self, source: QuantizedForward, point: Point, budget_bytes: int) -> None:
        self.model = source.model
        self._source, self._point, self._budget = source, point, budget_bytes
        self._whole_budget = budget_bytes
        self._kept: dict[int, Tape] = {}
        self._current = Tape()

    def prepare(self, batch: int, at: Callable[[Point], Any]) -> None:
        """Have the offsets of this micro-batch at hand."""
        if batch in self._kept:
            self._current = self._kept[batch]
            return
        tape = Tape()
        with torch.no_grad(), self._source.control.during("record", tape), self._source.around(batch):
            at(self._point)
        if tape.size_bytes <= self._budget:
            self._kept[batch] = tape
            self._budget -= tape.size_bytes
        self._current = tape

    @contextmanager
    def around(self, batch: int) -> Iterator[None]:
        """Replay them."""
        with self._source.control.during("replay", self._current), self._source.around(batch):
            yield

    def for_other_rows(self) -> FrozenForward:
        """The same function, with the offsets of its micro-batches still to be met."""
        return FrozenForward(self._source, self._point, self._whole_budget)
