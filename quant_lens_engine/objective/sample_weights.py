"""Weights of rows: a loss where some rows count more than others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from quant_lens_engine.errors import DataError, InputError
from quant_lens_engine.objective.criteria import Likelihood, Terms


def checked_weights(weights: Tensor | Sequence[float], rows: int) -> Tensor:
    """One finite, non-negative weight a row, ``(rows,)`` in float64.

    Raises:
        DataError: ``wrong_weights``.
    """
    found = torch.as_tensor(weights, dtype=torch.float64).detach().cpu()
    if found.shape != (rows,):
        raise DataError(
            f"sample weights have the shape {tuple(found.shape)}, the sample has {rows} rows",
            hint="give one weight a row",
            code="wrong_weights",
        )
    wrong = ~torch.isfinite(found) | (found < 0)
    if bool(wrong.any()):
        row = int(torch.nonzero(wrong)[0, 0])
        raise DataError(
            f"the weight of row {row} is {float(found[row])}",
            hint="weights are finite and not negative",
            code="wrong_weights",
            details={"row": row},
        )
    if not bool(found.any()):
        raise DataError("every sample weight is zero", hint="some row has to count", code="wrong_weights")
    return found


def weighted_terms(terms: Terms | None, weights: Tensor) -> Terms:
    """Numerators and denominators of a batch whose rows count ``weights`` times.

    Raises:
        InputError: ``no_row_losses``: the criterion gives nothing finer than a batch.
    """
    if terms is None:
        raise InputError(
            "sample weights need a loss that is a sum over rows",
            hint="give a criterion that returns one loss a row",
            code="no_row_losses",
        )
    return Terms(terms.losses * weights.to(terms.losses), terms.weights * weights.to(terms.weights))


def weighted_likelihood(likelihood: Likelihood, weights: Tensor) -> Likelihood:
    """Observations whose row counts ``weights`` times."""
    found = likelihood.weights
    return Likelihood(likelihood.losses, (found.reshape(len(weights), -1) * weights.to(found)[:, None]).reshape(-1))


def weighted_information(information: Callable[[Tensor], Tensor], weights: Tensor) -> Callable[[Tensor], Tensor]:
    """The Fisher information of an output whose rows count ``weights`` times."""

    def product(direction: Tensor) -> Tensor:
        found = information(direction)
        rows = found.reshape(len(weights), -1) * weights.to(found)[:, None]
        return rows.view_as(found)

    return product
