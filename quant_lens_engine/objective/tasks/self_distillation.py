"""Self-distillation: KL(float ‖ variant) in nats, which needs no labels.

At the float point its Hessian is the Fisher information of the outputs; elsewhere it is the Hessian of that KL.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.objective.tasks import TASKS, Task


class DistillationLoss(nn.Module):
    """KL(target ‖ softmax(output)) a row, ``(rows,)``, summed over positions; classes on axis 1."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """``target`` holds log-probabilities of the float model, in the outputs' shape."""
        log_probability = F.log_softmax(output, dim=1)
        divergence = F.kl_div(log_probability, target, reduction="none", log_target=True)
        return divergence.reshape(output.shape[0], -1).sum(1)


def log_probabilities(output: Tensor) -> Tensor:
    """The float model's answer, as the target of its variants."""
    return torch.log_softmax(output, dim=-1)


def classes_second(output: Tensor, target: Any) -> tuple[Tensor, Any]:
    """Classes are on the last axis of outputs; the loss wants them on the second."""
    return output.movedim(-1, 1), target.movedim(-1, 1)


TASKS.add(
    "self-distillation",
    Task("self-distillation", DistillationLoss, classes_second, labels="none", target=log_probabilities),
)
