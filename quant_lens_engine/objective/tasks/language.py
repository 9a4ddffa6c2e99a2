"""Language modelling: logits ``(rows, tokens, vocabulary)``, labels ``(rows, tokens)``, −100 where a token is not
counted; cross-entropy a token, in nats."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from quant_lens_engine.objective.tasks import TASKS, Task


def next_token(output: Tensor, target: Any) -> tuple[Tensor, Any]:
    """The scores at position t against the token at t + 1."""
    return output[:, :-1].movedim(-1, 1), target[:, 1:]


def same_token(output: Tensor, target: Any) -> tuple[Tensor, Any]:
    """The scores at position t against the token that was masked there."""
    return output.movedim(-1, 1), target


TASKS.add("causal-lm", Task("causal-lm", nn.CrossEntropyLoss, next_token, labels="text", answers="tokens"))
TASKS.add("masked-lm", Task("masked-lm", nn.CrossEntropyLoss, same_token, labels="text", answers="tokens"))
