"""The empirical Fisher matrix: outer products of the gradients of −log p, at the data's labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from quant_lens_engine.curvature.jacobian import Jacobian
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.sample_operator import SampleOperator
from quant_lens_engine.errors import InputError
from quant_lens_engine.objective.criteria import Likelihood
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.sample import Batch


@dataclass(frozen=True)
class Scores:
    """The gradients of −log p of each observation of a micro-batch, as a Jacobian, and their weights."""

    jacobian: Jacobian
    weights: Tensor


class EmpiricalFisherOperator(SampleOperator[Scores]):
    """v ↦ Σ a g (gᵀv) / Σ n, with g = ∇(−log p(y|x)) of each observation and a its weight.

    An observation is a label (each counted position of a sequence is one), or a row of a regression. It is no estimate
    of the Hessian or of the Fisher matrix (Kunstner et al. 2019, arXiv:1905.12558): where the model fits its labels it
    goes to zero.

    Raises:
        InputError: ``no_observations``: the loss is no sum over rows.

    Example:
        >>> import torch
        >>> from quant_lens_engine.objective import Objective
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [3.0]]))]
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> objective = Objective(model, data, task="regression").at({"weight": torch.ones(1, 1)})
        >>> EmpiricalFisherOperator(objective).matvec(torch.ones(1, dtype=torch.float64)).tolist()  # gradients 2 and 0
        [2.0]
    """

    def _linearised(self, batch: Batch, point: Point) -> tuple[Scores, float]:
        output = self.objective.output(batch, point)
        found = self._likelihood(output, batch)
        if found is None:
            raise self._undefined()
        denominator = float(self.objective.terms_of(output, batch).weights.sum())
        return Scores(Jacobian(found.losses, self._leaves), found.weights), denominator

    def _likelihood(self, output: Any, batch: Batch) -> Likelihood | None:
        return self.objective.likelihood_of(output, batch)

    def _undefined(self) -> InputError:
        return InputError(
            "the empirical Fisher matrix needs a loss that is a sum over rows",
            hint="give a criterion that returns one loss a row",
            code="no_observations",
        )

    def _product(self, graph: Scores, directions: list[Tensor], keep: bool) -> Sequence[Tensor | None]:
        pushed = graph.jacobian.push(directions)
        return graph.jacobian.pull(pushed * graph.weights.to(pushed), keep=keep)


OPERATORS.add("empirical-fisher", EmpiricalFisherOperator)
