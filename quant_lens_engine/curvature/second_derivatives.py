"""Kernels that can be differentiated twice, and what is said where there are none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective.model_call import plain_paths


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
def named_operators() -> Iterator[None]:
    """Turn torch's complaint about a missing second derivative into ours, with the operator's name."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        found = _NO_SECOND_DERIVATIVE.search(str(error))
        if found is None:
            raise
        raise _not_twice(found["operator"] or "an operator of the model", str(error).splitlines()[0]) from error


def refuse_hidden_errors(gradient: Iterable[Tensor | None]) -> None:
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
        hint="measure_curvature(Objective(model, loader, criterion)) takes differences of gradients where it has to, "
        "and so do QuantDiagnostic and quant-lens analyze; loss, accuracy and landscape are not affected",
        code="not_twice_differentiable",
        details={"operator": operator},
    )


class AttentionWatch(TorchFunctionMode):
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
