"""The generalised Gauss-Newton matrix (Schraudolph 2002), by double vector-Jacobian products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quant_lens_engine.curvature.jacobian import Jacobian
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.sample_operator import SampleOperator
from quant_lens_engine.errors import InputError
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.sample import Batch


@dataclass(frozen=True)
class _Linearised:
    """The network and the loss of one micro-batch at the point: output, and the loss' gradient there."""

    jacobian: Jacobian
    answers: Tensor
    gradient: Tensor


class GaussNewtonOperator(SampleOperator[_Linearised]):
    """v ↦ Σ Jᵀ (∇²ℓ) J v / Σ n, with J the network's Jacobian and ℓ the loss of its output.

    For a network that is linear in its parameters it is the Hessian; for softmax with cross-entropy it is the Fisher
    matrix.

    Raises:
        InputError: ``output_is_no_tensor``.

    Example:
        >>> from quant_lens_engine.objective import Objective
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), data, task="regression")
        >>> GaussNewtonOperator(objective).matvec(torch.ones(1, dtype=torch.float64)).tolist()
        [10.0]
    """

    def _linearised(self, batch: Batch, point: Point) -> tuple[_Linearised, float]:
        output = self.objective.output(batch, point)
        if not isinstance(output, Tensor):
            raise InputError(
                f"the Gauss-Newton matrix needs a model whose output is one tensor, not a {type(output).__name__}",
                hint="give forward= that picks it out, or take the Hessian",
                code="output_is_no_tensor",
            )
        jacobian = Jacobian(output, self._leaves)
        answers = output.detach().requires_grad_()
        terms = self.objective.terms_of(answers, batch)
        (gradient,) = torch.autograd.grad(terms.losses.double().sum(), answers, create_graph=True)
        return _Linearised(jacobian, answers, gradient), float(terms.weights.sum())

    def _product(self, graph: _Linearised, directions: list[Tensor], keep: bool) -> Sequence[Tensor | None]:
        if not graph.gradient.requires_grad:  # a loss that is linear in the output
            return [None] * len(directions)
        pushed = graph.jacobian.push(directions)
        (bent,) = torch.autograd.grad(graph.gradient, graph.answers, pushed, retain_graph=True)
        return graph.jacobian.pull(bent, keep=keep)


OPERATORS.add("gauss-newton", GaussNewtonOperator)
