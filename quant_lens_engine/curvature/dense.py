"""A matrix as an operator: for checks, and for models small enough to write their Hessian down."""

from __future__ import annotations

import torch
from torch import Tensor

from quant_lens_engine.curvature.krylov import SymmetricOperator


class DenseOperator:
    """A symmetric matrix ``(n, n)``, kept in float64.

    Args:
        matrix: as it is.
        product_error: of what it was made of: the largest error of its product with a unit vector.

    Example:
        >>> DenseOperator(torch.eye(2) * 3).matvec(torch.ones(2, dtype=torch.float64)).tolist()
        [3.0, 3.0]
    """

    def __init__(self, matrix: Tensor, product_error: float = 0.0) -> None:
        self.matrix = matrix.double()
        self.dimension = matrix.shape[0]
        self.device = matrix.device
        self.products = 0
        self.product_error = product_error

    def matvec(self, vector: Tensor) -> Tensor:
        """A · ``vector``."""
        self.products += 1
        return self.matrix @ vector


def as_dense(operator: SymmetricOperator) -> Tensor:
    """The matrix of an operator ``(n, n)``, a product a column; for small dimensions."""
    identity = torch.eye(operator.dimension, dtype=torch.float64, device=operator.device)
    return torch.stack([operator.matvec(column) for column in identity], dim=1)
