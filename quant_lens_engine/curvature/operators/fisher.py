"""The Fisher information matrix, with labels drawn from the model's own answers (Martens 2020, arXiv:1412.1193)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.operators.empirical_fisher import EmpiricalFisherOperator
from quant_lens_engine.curvature.plan import HvpPlan
from quant_lens_engine.errors import InputError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.criteria import Likelihood
from quant_lens_engine.objective.randomness import generator
from quant_lens_engine.objective.sample import Batch


class FisherOperator(EmpiricalFisherOperator):
    """v ↦ Σ a g (gᵀv) / Σ n, with g = ∇(−log p(y|x)) and one y drawn from p(y|x) for each observation.

    Its mean over seeds is the Gauss-Newton matrix, the exact Fisher matrix of a softmax or of a Gaussian: take
    :class:`~quant_lens_engine.curvature.operators.gauss_newton.GaussNewtonOperator` for that. A row's label depends on
    the seed and on the row's number, not on micro-batches.

    Args:
        objective: at the point of interest, which is also where labels are drawn.
        plan: see :class:`~quant_lens_engine.curvature.sample_operator.SampleOperator`.
        seed: of the labels.
        check_cancelled: called before each micro-batch.

    Raises:
        InputError: ``no_likelihood``: the loss is not cross-entropy, NLL, squared error or BCE with logits.

    Example:
        >>> import torch
        >>> data = [(torch.eye(2), torch.tensor([0, 1]))]
        >>> objective = Objective(torch.nn.Linear(2, 2, bias=False), data).at({"weight": torch.zeros(2, 2)})
        >>> direction = torch.tensor([1.0, 0, -1, 0], dtype=torch.float64)  # of the first row's logits
        >>> FisherOperator(objective).matvec(direction).tolist()
        [0.25, 0.0, -0.25, 0.0]
    """

    def __init__(
        self,
        objective: Objective,
        plan: HvpPlan | None = None,
        *,
        seed: int = 0,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(objective, plan, check_cancelled=check_cancelled)
        self._seed = seed

    def _likelihood(self, output: Any, batch: Batch) -> Likelihood | None:
        before = self.objective.sample.batches[: batch.index]
        first = sum(other.rows for other in before)
        draws = [generator(self._seed, "drawn target", row) for row in range(first, first + batch.rows)]
        return self.objective.likelihood_of(output, batch, draws)

    def _undefined(self) -> InputError:
        return InputError(
            "the loss is no likelihood that targets can be drawn from",
            hint="cross-entropy, NLL, MSE and BCE with logits are; gauss-newton is defined for any loss",
            code="no_likelihood",
        )


OPERATORS.add("fisher", FisherOperator)
