"""The unit of a loss, and of everything that is derived from it."""

from __future__ import annotations


def loss_unit(*tasks: str) -> str:
    """``nats`` where the loss is a negative log-likelihood of categories or a divergence, else the loss' own.

    Args:
        tasks: of the results that are shown together.

    Example:
        >>> loss_unit("classification"), loss_unit("classification", "regression")
        ('nats', 'loss units')
    """
    return "loss units" if "regression" in tasks else "nats"
