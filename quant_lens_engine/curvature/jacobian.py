"""Products with a Jacobian and its transpose, both by reverse mode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quant_lens_engine.curvature.sample_operator import require_dependence
from quant_lens_engine.curvature.second_derivatives import named_operators, refuse_hidden_errors


class Jacobian:
    """J of some values with respect to the parameters.

    uᵀJ is a vector-Jacobian product, and linear in u: its own derivative with respect to u, transposed, is J v. So no
    operator needs a forward mode, which many of torch's have not.

    Args:
        values: of any shape, with a graph.
        leaves: the parameters that they depend on.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> jacobian = Jacobian(w.square(), [w])
        >>> jacobian.push([torch.tensor([1.0, 1.0])]).tolist(), jacobian.pull(torch.tensor([1.0, 0.0]))[0].tolist()
        ([2.0, 4.0], [2.0, 0.0])
    """

    def __init__(self, values: Tensor, leaves: Sequence[Tensor]) -> None:
        require_dependence(values)
        self._values, self._leaves = values, list(leaves)
        self._dual = torch.zeros_like(values, requires_grad=True)
        with named_operators():
            self._pulled = torch.autograd.grad(values, self._leaves, self._dual, create_graph=True, allow_unused=True)
        refuse_hidden_errors(self._pulled)

    def push(self, directions: Sequence[Tensor]) -> Tensor:
        """J v, of the shape of the values; ``directions`` is v, a tensor a parameter."""
        pairs = [(p, d) for p, d in zip(self._pulled, directions, strict=True) if p is not None and p.requires_grad]
        with named_operators():
            (pushed,) = torch.autograd.grad([p for p, _ in pairs], self._dual, [d for _, d in pairs], retain_graph=True)
        return pushed

    def pull(self, cotangent: Tensor, *, keep: bool = True) -> Sequence[Tensor | None]:
        """Jᵀ u, a tensor a parameter; ``keep`` the graph for another product."""
        with named_operators():
            return torch.autograd.grad(
                self._values, self._leaves, cotangent.to(self._values.dtype), retain_graph=keep, allow_unused=True
            )
