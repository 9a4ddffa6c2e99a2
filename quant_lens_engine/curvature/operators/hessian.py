"""The Hessian of the loss, by reverse over reverse or by forward over reverse (Pearlmutter 1994)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quant_lens_engine.curvature.forward_over_reverse import ForwardOverReverse
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.sample_operator import SampleOperator, require_dependence
from quant_lens_engine.curvature.second_derivatives import named_operators, refuse_hidden_errors
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.sample import Batch

Gradient = list[Tensor | None]
"""Of one micro-batch's numerator, with its graph; None where the loss does not depend on a parameter."""


class HessianOperator(SampleOperator[Gradient | ForwardOverReverse]):
    """v ↦ ∇²L(w) v for the free parameters; see :class:`~quant_lens_engine.curvature.sample_operator.SampleOperator`.

    Example:
        >>> from quant_lens_engine.objective import Objective
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), data, task="regression")
        >>> HessianOperator(objective).matvec(torch.ones(1, dtype=torch.float64)).tolist()
        [10.0]
    """

    plans = ("reuse", "fresh", "forward-over-reverse")

    def _linearised(self, batch: Batch, point: Point) -> tuple[Gradient | ForwardOverReverse, float]:
        if self.plan == "forward-over-reverse":
            if batch.index not in self._weights:
                with torch.no_grad():
                    self._weights[batch.index] = float(self.objective.terms(batch).weights.sum())
            return ForwardOverReverse(self.objective, batch, point, width=self.width), self._weights[batch.index]
        terms = self.objective.terms(batch, point)
        loss = terms.losses.double().sum()
        require_dependence(loss)
        self._finite(loss.detach())  # where it is linear in the parameters, nothing else would show it
        with named_operators():
            gradient = torch.autograd.grad(loss, self._leaves, create_graph=True, allow_unused=True)
        if not self.products:
            refuse_hidden_errors(gradient)
        return list(gradient), float(terms.weights.sum())

    def _add_products(
        self, totals: Tensor, graph: Gradient | ForwardOverReverse, directions: list[list[Tensor]]
    ) -> None:
        if not isinstance(graph, ForwardOverReverse):
            return super()._add_products(totals, graph, directions)
        for total, product in zip(totals, graph(directions), strict=True):
            self._add(total, product)
        return None

    def _product(
        self, graph: Gradient | ForwardOverReverse, directions: list[Tensor], keep: bool
    ) -> Sequence[Tensor | None]:
        if isinstance(graph, ForwardOverReverse):
            return graph([directions])[0]
        # A gradient that is constant (a linear loss) has no graph, and adds nothing to the Hessian.
        pairs = [(g, d) for g, d in zip(graph, directions, strict=True) if g is not None and g.requires_grad]
        if not pairs:
            return [None] * len(directions)
        with named_operators():
            return torch.autograd.grad(
                [g for g, _ in pairs],
                self._leaves,
                [d for _, d in pairs],
                retain_graph=keep,
                allow_unused=True,
            )


OPERATORS.add("hessian", HessianOperator)
