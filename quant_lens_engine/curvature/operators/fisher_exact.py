"""The Fisher information matrix, with its expectation over targets taken exactly (Martens 2020, arXiv:1412.1193)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from quant_lens_engine.curvature.jacobian import Jacobian
from quant_lens_engine.curvature.operators import OPERATORS
from quant_lens_engine.curvature.sample_operator import SampleOperator
from quant_lens_engine.errors import InputError
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.sample import Batch


@dataclass(frozen=True)
class Information:
    """The network's Jacobian on a micro-batch, and the Fisher information of its output, as a product."""

    jacobian: Jacobian
    product: Callable[[Tensor], Tensor]


class ExactFisherOperator(SampleOperator[Information]):
    """v ↦ Σ a Jᵀ E[g gᵀ] J v / Σ n, with g the gradient of −log p(y|x) in the output, y drawn from p, a its weight.

    It does not look at the data's labels, but for their weights: those that are ignored do not count. Of a softmax, a
    Gaussian or a Bernoulli it is the Gauss-Newton matrix. It is not where the loss is linear in the output (NLL of
    log-probabilities: there Gauss-Newton is zero) or with label smoothing.

    Raises:
        InputError: ``no_likelihood``: the loss is not cross-entropy, NLL, squared error or BCE with logits.

    Example:
        >>> import torch
        >>> from quant_lens_engine.objective import Objective
        >>> data = [(torch.eye(2), torch.tensor([0, 1]))]
        >>> objective = Objective(torch.nn.Linear(2, 2, bias=False), data).at({"weight": torch.zeros(2, 2)})
        >>> direction = torch.tensor([1.0, 0, -1, 0], dtype=torch.float64)  # of the first row's logits
        >>> ExactFisherOperator(objective).matvec(direction).tolist()
        [0.25, 0.0, -0.25, 0.0]
    """

    def _linearised(self, batch: Batch, point: Point) -> tuple[Information, float]:
        found = self.objective.information(batch, point)
        if found is None:
            raise InputError(
                "the loss is no likelihood whose targets have a distribution",
                hint="cross-entropy, NLL, MSE and BCE with logits are; gauss-newton is defined for any loss",
                code="no_likelihood",
            )
        output, product, weight = found
        return Information(Jacobian(output, self._leaves), product), weight

    def _product(self, graph: Information, directions: list[Tensor], keep: bool) -> Sequence[Tensor | None]:
        pushed = graph.jacobian.push(directions)
        return graph.jacobian.pull(graph.product(pushed), keep=keep)


OPERATORS.add("fisher-exact", ExactFisherOperator)
