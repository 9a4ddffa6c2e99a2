"""Token classification (tagging): a class a token; cross-entropy a token that counts, in nats.

Outputs are ``(rows, tokens, classes)``, y is ``(rows, tokens)``; a token whose label is −100 (padding, the later pieces
of a word) counts for nothing. Accuracy is the share of the counted tokens that are right; the mean of the classes' F1
stands beside it, token by token: that of whole entities is not taken.
"""

from __future__ import annotations

from torch import nn

from quant_lens_engine.objective.tasks import TASKS, Task
from quant_lens_engine.objective.tasks.language import same_token

TASKS.add(
    "token-classification",
    Task("token-classification", nn.CrossEntropyLoss, same_token, labels="position", answers="tokens", overlap="f1"),
)
