"""Lines and planes through the loss landscape, as they stand in a RunResult."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from quant_lens_engine.schema.base import MaybeFloat, Record

Landscape = Literal["deployed", "smooth"]


def gap_words(losses: Sequence[float | None]) -> str | None:
    """Why measured losses are missing, in a sentence; None where none is.

    Example:
        >>> gap_words([0.5, None, 2.0])
        'the loss is not finite at 1 of 3 points'
    """
    missing = sum(loss is None for loss in losses)
    return f"the loss is not finite at {missing} of {len(losses)} points" if missing else None


class Band(Record):
    """Lowest and highest loss over the directions, at each α."""

    low: list[MaybeFloat] = []
    high: list[MaybeFloat] = []


class Line(Record):
    """The loss along one direction, or along several of one kind.

    Attributes:
        landscape: ``deployed`` is L(Q(w + αd)), ``smooth`` is L(Q(w) + αd).
        direction: the kind: ``random`` (filter-normalised), ``eigenvector:1`` … or ``path`` (FP32 → variant).
        directions: how many there are.
        origin: where α = 0 is: ``own`` is the variant's point, ``FP32`` the float parameters (``path``).
        unit: what α = 1 is, in words.
        alphas: the grid; α = 0 is in it.
        distance: the grid spans −distance to +distance.
        distance_choice: how that was chosen, in a sentence.
        loss: mean over the directions.
        band: over the directions; null for a single one.
        per_direction: the loss along each direction, ``[direction][alpha]``.
        accuracy: mean accuracy over the directions, 0 to 1; null where there are no classes.
        kl: mean KL(float ‖ network at α) over rows and directions, nats; null where outputs are not categorical.
        basin_width: width in α over which the mean loss stays below its value at α = 0 plus the rise; null where
            the line does not leave the basin.
        basin_rise: the rise that ends the basin: the float model's loss again, or 0.1 nats where that is below 0.01.
        basin_widths: the same along each direction.
        basin_asymmetry: (right − left) / (right + left) of the basin's two halves, −1 to 1; 0 is symmetric.
        roughness: of a deployed line: root mean square of deployed − smooth over the grid and the directions, in units
            of the loss: how far the staircase strays from the curve that curvature describes.
        epsilon_sharpness: largest rise of the loss within |α| ≤ ``epsilon`` over the directions, in percent of
            1 + L(0) (Keskar et al. 2017, arXiv:1609.04836, on these directions in place of a box).
        epsilon: the radius of it, in units of α.
        barrier: of a path: the largest rise of the loss above the straight line between its ends, for α in [0, 1]
            (Frankle et al. 2020, arXiv:1912.05671), in units of the loss; 0: there is none.
        method: how smooth losses away from α = 0 were made quicker to compute, with the measured change, in a sentence;
            empty: they were not.
        reason: why losses are missing.
    """

    landscape: Landscape
    direction: str = "random"
    directions: int = 1
    origin: Literal["own", "FP32"] = "own"
    unit: str = "‖d‖ = ‖θ‖ per filter"
    alphas: list[float] = []
    distance: MaybeFloat = None
    distance_choice: str = ""
    loss: list[MaybeFloat] = []
    band: Band | None = None
    per_direction: list[list[MaybeFloat]] = []
    accuracy: list[MaybeFloat] | None = None
    kl: list[MaybeFloat] | None = None
    basin_width: MaybeFloat = None
    basin_rise: MaybeFloat = None
    basin_widths: list[MaybeFloat] = []
    basin_asymmetry: MaybeFloat = None
    roughness: MaybeFloat = None
    epsilon_sharpness: MaybeFloat = None
    epsilon: MaybeFloat = None
    barrier: MaybeFloat = None
    method: str = ""
    reason: str | None = None
    elapsed_s: float = 0.0


class PlanePoint(Record):
    """A model that lies on, or beside, a plane.

    Attributes:
        name: a variant, or a checkpoint of the trajectory.
        alpha: of its projection onto the plane.
        beta: of its projection onto the plane.
        distance: out of the plane, in ‖w‖ (as it is where every weight is 0); 0: it lies on it.
        shift: ‖its weights − w‖, in ‖w‖ too.
        loss: its evaluated loss, which is the plane's there only where ``distance`` is 0 and nothing but weights is
            rounded; null while it is not evaluated.
        accuracy: its evaluated accuracy, 0 to 1.
    """

    name: str
    alpha: float
    beta: float
    distance: float
    shift: MaybeFloat = None
    loss: MaybeFloat = None
    accuracy: MaybeFloat = None


class Plane(Record):
    """The loss over two directions.

    Attributes:
        landscape: ``deployed`` is L(Q(w + αd₁ + βd₂)), ``smooth`` is L(Q(w) + αd₁ + βd₂).
        directions: the two, by name.
        origin: where α = β = 0 is: ``own`` is the variant's point, ``FP32`` the float parameters.
        units: what α = 1 and β = 1 are, in words.
        isometric: whether the axes are orthogonal and of one length, so that distances on the picture are distances
            between parameters.
        alphas: the grid of the first direction; 0 is in it.
        betas: of the second.
        distance: both span −distance to +distance.
        distance_choice: how that was chosen, in a sentence.
        loss: ``loss[alpha][beta]``; null where it is not measured yet, or not finite.
        accuracy: the same of the accuracy, 0 to 1; null where there are no classes.
        measured_rows: indices of ``alphas`` whose row is measured.
        estimated: ``estimated[alpha][beta]``: whether that loss is interpolated, not measured; null where every point
            is measured. An estimated point has no accuracy.
        estimate_error: of the estimated losses, as a share of the loss there (of the rise that ends a basin where it is
            below): three times the largest miss of points that were predicted before they were measured.
        estimate_checks: how many these were.
        points: the models on or beside the plane.
        network: how activations are computed, in a sentence; empty: in float.
        method: how the losses away from the origin were made quicker to compute, with the measured change, in a
            sentence; empty: they were not.
        reason: why measured losses are missing.
    """

    landscape: Landscape
    directions: list[str] = []
    origin: Literal["own", "FP32"] = "own"
    units: list[str] = []
    isometric: bool = False
    alphas: list[float] = []
    betas: list[float] = []
    distance: MaybeFloat = None
    distance_choice: str = ""
    loss: list[list[MaybeFloat]] = []
    accuracy: list[list[MaybeFloat]] | None = None
    measured_rows: list[int] = []
    estimated: list[list[bool]] | None = None
    estimate_error: MaybeFloat = None
    estimate_checks: int = 0
    points: list[PlanePoint] = []
    network: str = ""
    method: str = ""
    reason: str | None = None
    elapsed_s: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether every row is measured."""
        return len(self.measured_rows) == len(self.alphas)

    @property
    def estimates(self) -> str:
        """How many points are estimated, and how well, in a sentence; empty: none is.

        Example:
            >>> Plane(landscape="smooth", estimated=[[False, True, False]], estimate_error=0.018, estimate_checks=7,
            ...       betas=[-1, 0, 1], measured_rows=[0]).estimates
            '1 of 3 points is interpolated along β, within about 1.8 % of the loss by 7 checks'
        """
        found = 0 if self.estimated is None else sum(map(sum, self.estimated))
        if not found or self.estimate_error is None:
            return ""
        verb, points = "is" if found == 1 else "are", len(self.measured_rows) * len(self.betas)
        within = f"within about {100 * self.estimate_error:.2g} % of the loss by {self.estimate_checks} checks"
        return f"{found} of {points} points {verb} interpolated along β, {within}"
