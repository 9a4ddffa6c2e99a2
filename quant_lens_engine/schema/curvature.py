"""What a run knows of the curvature of one variant: eigenvalues, trace, density, layers, sharpness.

All of it belongs to H = ∇²L, the Hessian of the smooth landscape at the variant's dequantized weights, over the whole
sample, in loss units (nats for cross-entropy).
"""

from __future__ import annotations

import math
from typing import Literal

from quant_lens_engine.schema.base import MaybeFloat, Record

SHARDS = 8
"""Equal parts of the sample that ``batch_std`` is taken over."""


class Eigenvalue(Record):
    """An eigenvalue of ∇²L at the variant's dequantized weights, in loss units.

    Attributes:
        value: the Ritz value θ.
        residual: ‖Hv − θv‖ at the unit Ritz vector v.
        lower: lower end of an interval that holds the eigenvalue at ``confidence``.
        upper: upper end.
        confidence: of the interval, over the random start vector.
        batch_std: standard deviation of vᵀH_s v over eight equal shards s of the sample: what λ owes to the sample.
    """

    value: MaybeFloat = None
    residual: MaybeFloat = None
    lower: MaybeFloat = None
    upper: MaybeFloat = None
    confidence: MaybeFloat = None
    batch_std: MaybeFloat = None

    @property
    def sampling_error(self) -> float:
        """Standard error of the whole sample's λ, which is the mean of its shards'; 0.0 where their spread is unknown.

        Example:
            >>> round(Eigenvalue(batch_std=2.0).sampling_error, 4), Eigenvalue().sampling_error
            (0.7071, 0.0)
        """
        return (self.batch_std or 0.0) / math.sqrt(SHARDS)

    @property
    def reach(self) -> float | None:
        """How far the eigenvalue can be from ``value``: to the farther end of its interval, or the residual where
        there is no interval.

        Example:
            >>> round(Eigenvalue(value=2.0, residual=0.1, lower=1.999, upper=2.01).reach, 6)
            0.01
        """
        if self.value is None or self.lower is None or self.upper is None:
            return self.residual
        return max(self.upper - self.value, self.value - self.lower)


class ProbeEstimate(Record):
    """A number that is estimated from random probes, with its standard error and an interval at ``confidence``."""

    value: MaybeFloat = None
    standard_error: MaybeFloat = None
    lower: MaybeFloat = None
    upper: MaybeFloat = None
    confidence: MaybeFloat = None


class TraceEstimate(ProbeEstimate):
    """A trace, in loss units; ``standard_error`` is 0 and ``probes`` says so where it is exact."""

    probes: int = 0


class Density(Record):
    """Spectral density of H: the share of eigenvalues per unit of λ, seen through a Gaussian of width ``width``.

    Attributes:
        x: λ, ascending.
        y: the density at each x; its integral is 1.
        low: lower end of the band at ``confidence``, pointwise; empty where one run gives none.
        high: upper end.
        width: standard deviation of the Gaussian, in units of λ.
        runs: random start vectors behind it.
        confidence: of the band, over start vectors.
    """

    x: list[float] = []
    y: list[float] = []
    low: list[float] = []
    high: list[float] = []
    width: MaybeFloat = None
    runs: int = 0
    confidence: MaybeFloat = None


class ConvergenceStep(Record):
    """What Lanczos knew after so many products: both extreme Ritz values, how far beyond they could be, residuals."""

    products: int
    highest: MaybeFloat = None
    highest_bound: MaybeFloat = None
    highest_residual: MaybeFloat = None
    lowest: MaybeFloat = None
    lowest_bound: MaybeFloat = None
    lowest_residual: MaybeFloat = None


class LayerCurvature(Record):
    """The diagonal block of H that belongs to one layer's weights.

    Attributes:
        name: the layer.
        parameters: numbers in its weights.
        trace: of the block.
        lambda_max: the block's largest eigenvalue; null where it was not asked for.
    """

    name: str
    parameters: int = 0
    trace: TraceEstimate = TraceEstimate()
    lambda_max: Eigenvalue | None = None


class WorstCase(Record):
    """The largest rise of the loss found within a radius: a lower bound of the largest there is.

    Attributes:
        radius: ρ.
        rise: L(w + ε) − L(w), loss units; null where the loss is not finite at a point that was looked at.
    """

    radius: MaybeFloat = None
    rise: MaybeFloat = None


class Sharpness(Record):
    """Sharpness in norms of filters, and SAM beside it, which scaling changes.

    D scales every weight by the norm ‖w_f‖ of its filter f; biases and normalisation stay where they are. What is
    measured with D stays as it is when a whole layer is scaled in a positive homogeneous network, and when filters in
    front of a normalisation are; not when a single ReLU neuron is scaled by c and its outgoing column by 1/c.

    Attributes:
        relative_lambda_max: largest eigenvalue of D H D (normalised sharpness: Tsuzuku et al. 2020, arXiv:1901.04653).
        relative_trace: Σ_f ‖w_f‖² Tr H_f (relative flatness: Petzka et al. 2021, arXiv:2001.00939).
        adaptive: worst rise within ‖D⁻¹ε‖ ≤ ρ (ASAM: Kwon et al. 2021, arXiv:2102.11600).
        plain: worst rise within ‖ε‖ ≤ ρ (SAM: Foret et al. 2021, arXiv:2010.01412). Not invariant.
    """

    relative_lambda_max: Eigenvalue = Eigenvalue()
    relative_trace: TraceEstimate = TraceEstimate()
    adaptive: WorstCase = WorstCase()
    plain: WorstCase = WorstCase()


class Curvature(Record):
    """The Hessian of the smooth landscape at Q(w).

    Attributes:
        lambda_max: the largest eigenvalue.
        lambda_min: the smallest one.
        eigenvalues: the values of ``largest``.
        largest: the largest eigenvalues, descending, with multiplicity.
        smallest: the smallest ones, ascending.
        trace: Tr H.
        density: null where it was not asked for.
        threshold: eigenvalues nearer to zero than this count as zero, in loss units.
        negative: how many eigenvalues lie below −threshold.
        positive: how many lie above threshold.
        effective_rank: (Tr H)² / Tr H²: how many equal eigenvalues would have the same trace and the same squares.
        convergence: of the first Lanczos process.
        layers: the layers' blocks, in the model's order.
        sharpness: null where it was not asked for.
        hvps: whole-sample Hessian-vector products, the smaller ones of layers as their share of the parameters.
        products: what they were spent on.
        converged: λmax and λmin reached the tolerance: their intervals say so.
        complete: so did the others of ``largest`` and ``smallest``, and none of ``largest`` was missed, nor the first
            of ``smallest``; False: a copy of an eigenvalue may be missing, and one behind it stand in its place.
        dimension: rows of H.
        attention: ``math`` where attention was computed by the kernel that can be differentiated twice.
        derivative: ``finite-difference`` where an operator has no second derivative: then products carry its error.
        without_second_derivative: the operator that has none.
        lowered: what was given up for want of memory; the numbers are the same but for rounding.
        started_from: the variant whose eigenvectors the first process started from.
        weights: the float model's, or a variant's dequantized ones.
        reason: why a number is missing or has not converged.
        cut_off: the cap on products came before the tolerance: the intervals of λmax and λmin say how far they can be,
            and one without an interval may lie further out.
    """

    lambda_max: Eigenvalue = Eigenvalue()
    lambda_min: Eigenvalue = Eigenvalue()
    eigenvalues: list[float] = []
    largest: list[Eigenvalue] = []
    smallest: list[Eigenvalue] = []
    trace: TraceEstimate = TraceEstimate()
    density: Density | None = None
    threshold: MaybeFloat = None
    negative: ProbeEstimate | None = None
    positive: ProbeEstimate | None = None
    effective_rank: ProbeEstimate | None = None
    convergence: list[ConvergenceStep] = []
    layers: list[LayerCurvature] = []
    sharpness: Sharpness | None = None
    hvps: float = 0
    products: dict[str, float] = {}
    elapsed_s: float = 0.0
    converged: bool = False
    complete: bool | None = None
    dimension: int = 0
    attention: str | None = None
    derivative: Literal["exact", "finite-difference"] = "exact"
    without_second_derivative: str | None = None
    lowered: list[str] = []
    started_from: str | None = None
    weights: Literal["float", "dequantized"] = "dequantized"
    reason: str | None = None
    cut_off: bool = False
