"""How far an extreme eigenvalue can be from the Ritz value that Lanczos shows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_PRECISION = 1e-12
"""Relative, of the distance between Ritz value and bound."""

_MOST_ITERATIONS = 200


def upper_bound(ritz: Array, betas: Array, dimension: int, confidence: float) -> float:
    """A bound on the largest eigenvalue that holds with probability ``confidence`` over the random start vector.

    The Lanczos polynomial p(λ) = ∏ⱼ (λ − θⱼ)/βⱼ gives the next Lanczos vector, p(A) q₁, which has norm one. So
    |γ| p(λmax) ≤ 1, where γ is the share of λmax's eigenvector in the start vector q₁. For q₁ uniform on the sphere
    |γ| ≥ c = δ √(π / 2n) with probability 1 − δ at least, and the bound is the root of p(λ) = 1/c beyond θ₁
    (van Dorsselaer, Hochstenbach and van der Vorst, SIAM J. Matrix Anal. Appl. 22, 2000). One event covers every
    step, so the bound may be looked at after each of them.

    A small residual only says that *some* eigenvalue is near; this says that no larger one was missed.

    Args:
        ritz: eigenvalues θ of the tridiagonal matrix ``(m,)``, any order.
        betas: β₁ … βₘ, the last one of the residual ``(m,)``; a zero ends the Krylov space, and the bound is max θ.
        dimension: n, of the space that the start vector was drawn from.
        confidence: 1 − δ.

    Example:
        >>> bound = upper_bound(np.array([1.0, 3.0]), np.array([0.5, 1e-3]), dimension=100, confidence=0.95)
        >>> 3.0 < bound < 3.05
        True
    """
    top = float(ritz.max())
    if not np.all(betas > 0):
        return top
    share = min(1.0, (1 - confidence) * math.sqrt(math.pi / (2 * dimension)))
    goal = float(np.log(betas).sum()) - math.log(share)
    with np.errstate(divide="ignore"):
        gaps = np.log(top - ritz)
    # In u = log(λ − θ₁) the logarithm of ∏(λ − θⱼ) rises and is convex: from above Newton's method stays above it.
    place = goal / len(ritz)
    for _ in range(_MOST_ITERATIONS):
        heights = np.logaddexp(place, gaps)
        step = (float(heights.sum()) - goal) / float(np.exp(place - heights).sum())
        place -= step
        if step <= _PRECISION:
            break
    return top + math.exp(place)


def perturbed(value: float, residual: float, bound: float) -> float:
    """The largest that the i-th eigenvalue can be, whose Ritz value is ``value`` (Li and Li 2005).

    In a basis of the Ritz vectors and their complement, A is block diagonal but for the residuals, of norm ``residual``
    together. With no eigenvalue of the complement's block above ``bound``, and η = value − bound, the i-th eigenvalue
    is at most value + 2r²/(η + √(η² + 4r²)) (Linear Algebra Appl. 395, 2005, theorem 2).

    Example:
        >>> perturbed(2.0, 0.1, 1.0) < 2.01 and perturbed(2.0, 0.1, 2.5) == 2.6
        True
    """
    if bound >= value:
        return bound + residual
    gap = value - bound
    return value + 2 * residual**2 / (gap + math.hypot(gap, 2 * residual))
