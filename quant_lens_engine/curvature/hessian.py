"""Products of the loss Hessian with vectors, over the whole sample."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import no_weight
from quant_lens_engine.objective.model_call import plain_paths
from quant_lens_engine.objective.sample import Batch, tensors

HvpPlan = Literal["reuse", "fresh"]

REUSE_BYTES = 2**30
"""The gradient's graphs of all micro-batches are kept up to this size: a rule by shape, so that a run's plan, and with
it its digits, do not depend on the memory that happens to be free."""


class HessianOperator:
    """v ↦ ∇²L(w) v for the free parameters, by reverse over reverse (Pearlmutter 1994).

    Vectors are flat, float64, in the order of ``objective.free``; the products themselves are taken in the model's
    dtype. Attention runs on the math kernel, the only one that can be differentiated twice.

    Args:
        objective: at the point of interest.
        plan: ``reuse`` keeps the graph of each micro-batch's gradient between products, ``fresh`` builds it for each
            product; None: ``reuse`` where all graphs fit :data:`REUSE_BYTES`. Both give the same digits.
        check_cancelled: called before each micro-batch.

    Attributes:
        dimension: length of the vectors.
        products: whole-sample products so far.
        weight: the criterion's denominator over the sample, known after the first product.
        attention: ``"math"`` if the model called attention, else None; known after the first product.

    Example:
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(nn.Linear(1, 1, bias=False), data, task="regression")
        >>> HessianOperator(objective).matvec(torch.ones(1, dtype=torch.float64)).tolist()
        [10.0]
    """

    def __init__(
        self,
        objective: Objective,
        plan: HvpPlan | None = None,
        *,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        self.objective = objective
        self.plan: HvpPlan = plan or choose_plan(objective)
        self.dimension = objective.dimension
        self.device = objective.device
        self.products = 0
        self.weight = 0.0
        self.attention: str | None = None
        self._check_cancelled = check_cancelled
        self._shapes = [objective.point[name].shape for name in objective.free]
        self._leaves = [objective.point[name].detach().requires_grad_() for name in objective.free]
        self._graphs: list[list[Tensor | None]] = []

    def matvec(self, vector: Tensor) -> Tensor:
        """∇²L · ``vector``, both ``(dimension,)`` in float64.

        Raises:
            NumericalError: ``not_twice_differentiable``, naming the operator; or ``non_finite_curvature``.
            DataError: ``nothing_counts``: the sample's weight is zero.
        """
        with twice_differentiable(self.objective.model):
            directions = self._split(vector)
            total = torch.zeros(self.dimension, dtype=torch.float64, device=self.device)
            for gradient in self._gradients():
                self._check_cancelled()
                self._add_product(total, gradient, directions)
        self.products += 1
        if not self.weight:
            raise no_weight()
        if not bool(torch.isfinite(total).all()):
            raise NumericalError(
                "the Hessian-vector product is not finite",
                hint="the loss or a gradient overflows at these weights",
                code="non_finite_curvature",
            )
        return total / self.weight

    def release(self) -> None:
        """Forget the graphs, and with them their memory."""
        self._graphs.clear()

    def _gradients(self) -> Iterator[list[Tensor | None]]:
        """The gradient of each micro-batch's numerator, with its graph."""
        if self._graphs:
            yield from self._graphs
            return
        kept: list[list[Tensor | None]] = []
        weight = 0.0
        for batch in self.objective.batches():
            gradient, batch_weight = self._gradient(batch)
            weight += batch_weight
            if self.plan == "reuse":
                kept.append(gradient)
            self.weight = weight
            yield gradient
        self._graphs = kept

    def _gradient(self, batch: Batch) -> tuple[list[Tensor | None], float]:
        point = self.objective.point | dict(zip(self.objective.free, self._leaves, strict=True))
        with _AttentionWatch() as watch:
            terms = self.objective.terms(batch, point)
        if watch.seen:
            self.attention = "math"
        loss = terms.losses.double().sum()
        if not loss.requires_grad:
            raise NumericalError(
                "the loss does not depend on the parameters",
                hint="a part of the model is detached or runs in integers: give a model in floating point",
                code="not_differentiable",
            )
        with _named_operators():
            gradient = torch.autograd.grad(loss, self._leaves, create_graph=True, allow_unused=True)
        if not self.products:
            _refuse_hidden_errors(gradient)
        return list(gradient), float(terms.weights.sum())

    def _add_product(self, total: Tensor, gradient: list[Tensor | None], directions: list[Tensor]) -> None:
        # A gradient that is constant (a linear loss) has no graph, and adds nothing to the Hessian.
        pairs = [(g, d) for g, d in zip(gradient, directions, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return
        with _named_operators():
            parts = torch.autograd.grad(
                [g for g, _ in pairs],
                self._leaves,
                [d for _, d in pairs],
                retain_graph=self.plan == "reuse",
                allow_unused=True,
            )
        start = 0
        for part, shape in zip(parts, self._shapes, strict=True):
            end = start + shape.numel()
            if part is not None:
                total[start:end] += part.reshape(-1)
            start = end

    def _split(self, vector: Tensor) -> list[Tensor]:
        pieces = torch.split(vector.to(self.device), [shape.numel() for shape in self._shapes])
        return [
            piece.to(leaf.dtype).view(shape)
            for piece, leaf, shape in zip(pieces, self._leaves, self._shapes, strict=True)
        ]


def choose_plan(objective: Objective) -> HvpPlan:
    """``reuse`` where the graphs of all micro-batches fit :data:`REUSE_BYTES`, by what the largest one saves."""
    batches = objective.sample.batches
    largest = max(batches, key=lambda batch: batch.rows)
    saved = graph_bytes(objective, largest)
    return "reuse" if saved * objective.samples <= REUSE_BYTES * largest.rows else "fresh"


def graph_bytes(objective: Objective, batch: Batch) -> int:
    """Bytes that the graph of one micro-batch's gradient keeps alive, parameters and data apart."""
    seen: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    moved = batch.to(objective.device, objective.dtype)
    if objective.call.works_in_place is None:  # its first call is given copies, which are not to be counted
        with torch.no_grad(), plain_paths():
            objective.output(moved)
    parameters = {name: objective.point[name].detach().requires_grad_() for name in objective.free}
    with (
        twice_differentiable(objective.model),
        _named_operators(),
        saved_tensors_hooks(count, lambda tensor: tensor),
    ):
        loss = objective.terms(moved, objective.point | parameters).losses.sum()
        kept = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
    data = (*tensors(moved.content), *tensors(moved.target))  # often a view of the whole sample
    for tensor in (*objective.point.values(), *objective.model.buffers(), *data):
        seen.pop(tensor.untyped_storage().data_ptr(), None)
    del kept
    return sum(seen.values())


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Kernels with a second derivative: math attention, no inference fast path, no cuDNN recurrent layers."""
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(plain_paths())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


_NO_SECOND_DERIVATIVE = re.compile(
    r"derivative for '?(?:aten::)?(?P<operator>\w+)'? is not implemented"
    r"|once_differentiable|double backward|differentiate twice",
    re.IGNORECASE,
)


@contextmanager
def _named_operators() -> Iterator[None]:
    """Turn torch's complaint about a missing second derivative into ours, with the operator's name."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        found = _NO_SECOND_DERIVATIVE.search(str(error))
        if found is None:
            raise
        raise _not_twice(found["operator"] or "an operator of the model", str(error).splitlines()[0]) from error


def _refuse_hidden_errors(gradient: Iterable[Tensor | None]) -> None:
    """Raise if a custom function forbids a second derivative.

    ``once_differentiable`` leaves an error node in the graph, but behind a detached tensor, where products with
    respect to the parameters never come by: they would be wrong without a word.
    """
    seen: set[Node] = set()
    waiting = [tensor.grad_fn for tensor in gradient if tensor is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "torch::autograd::Error":
            raise _not_twice("a custom autograd function", "it is marked once_differentiable")
        waiting.extend(following for following, _ in node.next_functions)


def _not_twice(operator: str, reason: str) -> NumericalError:
    return NumericalError(
        f"{operator} cannot be differentiated twice, so the Hessian is not available: {reason}",
        hint="loss, accuracy and landscape are not affected",
        code="not_twice_differentiable",
        details={"operator": operator},
    )


class _AttentionWatch(TorchFunctionMode):
    """Notices calls of attention."""

    _ATTENTION = (F.scaled_dot_product_attention, F.multi_head_attention_forward)

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.seen |= func in self._ATTENTION
        return func(*args, **(kwargs or {}))
