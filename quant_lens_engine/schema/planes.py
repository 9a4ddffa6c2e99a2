"""Which planes a run measures, and in which pieces: rows are independent, so several workers share a plane."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from quant_lens_engine.schema.analyses import PlaneOptions
from quant_lens_engine.schema.direction_name import NAMES_A_VARIANT, DirectionName
from quant_lens_engine.schema.landscape import Landscape, Plane, gap_words
from quant_lens_engine.schema.run_result import FLOAT_VARIANT

ROWS_PER_PIECE = 3
"""Small enough that a page fills in smoothly and a stopped worker loses little, large enough that opening a piece
(directions, range) is a small part of it."""


class PlannedPlane(NamedTuple):
    """One plane of a run: whose network, which landscape, which two directions."""

    number: int
    variant: str
    landscape: Landscape
    directions: tuple[str, str]

    @property
    def models(self) -> tuple[str, ...]:
        """The variants that it needs, the float model first."""
        named = (DirectionName.parse(text) for text in self.directions)
        return tuple(
            dict.fromkeys(
                [FLOAT_VARIANT, self.variant, *(name.argument for name in named if name.kind in NAMES_A_VARIANT)]
            )
        )


class PlanePart(NamedTuple):
    """A piece of a plane: some of its rows.

    Example:
        >>> str(PlanePart(0, 7)), PlanePart.parse("1.12")
        ('0.07', PlanePart(plane=1, piece=12))
        >>> PlanePart(0, 6).rows(21), PlanePart(0, 0).rows(21)
        ([18, 19, 20], [0, 1, 2])
    """

    plane: int
    piece: int

    def __str__(self) -> str:
        return f"{self.plane}.{self.piece:02d}"

    @classmethod
    def parse(cls, text: str) -> PlanePart:
        """The inverse of ``str``."""
        plane, _, piece = text.partition(".")
        return cls(int(plane), int(piece))

    def rows(self, points: int) -> list[int]:
        """Indices of the rows of this piece, of a plane of ``points`` × ``points``."""
        start = self.piece * ROWS_PER_PIECE
        return list(range(start, min(start + ROWS_PER_PIECE, points)))


def planned_planes(options: PlaneOptions, schemes: Sequence[str]) -> list[PlannedPlane]:
    """Every plane of a run with variants of these names.

    Without a choice there is one: through FP32 and the first two variants, or through FP32 and the only one, along a
    random direction. The float model's two landscapes are one, and measured once.

    Example:
        >>> planned_planes(PlaneOptions(), ["int8", "int4"])[0].directions
        ('to:int8', 'to:int4')
    """
    if options.steps == 0:
        return []
    through = tuple(f"to:{name}" for name in schemes[:2])
    pairs = options.pairs or ((through if len(through) == 2 else (*through, "random:1")[:2]),)
    found: dict[tuple[str, Landscape, tuple[str, str]], None] = {}
    for pair in pairs:
        for variant in options.variants or (FLOAT_VARIANT, *schemes):
            for landscape in options.landscapes:
                kept: Landscape = "smooth" if variant == FLOAT_VARIANT else landscape
                found[variant, kept, (pair[0], pair[1])] = None
    return [PlannedPlane(number, *key) for number, key in enumerate(found)]


def plane_parts(plane: PlannedPlane, options: PlaneOptions) -> Iterator[PlanePart]:
    """The pieces of a plane, in order of their rows."""
    for piece in range(-(-options.points // ROWS_PER_PIECE)):
        yield PlanePart(plane.number, piece)


def join_pieces(pieces: Sequence[Plane]) -> Plane:
    """One plane from some of its rows; rows that are not there are null.

    Example:
        >>> pieces = [Plane(landscape="smooth", alphas=[0, 1], betas=[0], loss=[[5.0]], measured_rows=[1])]
        >>> join_pieces(pieces).loss
        [[None], [5.0]]
    """
    whole = pieces[0].model_copy(deep=True)
    places = {row: (piece, number) for piece in pieces for number, row in enumerate(piece.measured_rows)}
    none: list[float | None] = [None] * len(whole.betas)
    there = [places.get(row) for row in range(len(whole.alphas))]
    whole.measured_rows = sorted(places)
    whole.loss = [none if found is None else found[0].loss[found[1]] for found in there]
    if any(piece.accuracy is not None for piece in pieces):
        whole.accuracy = [none if f is None or f[0].accuracy is None else f[0].accuracy[f[1]] for f in there]
    if any(piece.estimated is not None for piece in pieces):
        no = [False] * len(whole.betas)
        whole.estimated = [no if f is None or f[0].estimated is None else f[0].estimated[f[1]] for f in there]
    whole.estimate_error = max((p.estimate_error for p in pieces if p.estimate_error is not None), default=None)
    whole.estimate_checks = sum(piece.estimate_checks for piece in pieces)
    whole.points = next((piece.points for piece in pieces if piece.points), [])
    whole.reason = gap_words([loss for row in whole.measured_rows for loss in whole.loss[row]])
    whole.elapsed_s = math.fsum(piece.elapsed_s for piece in pieces)
    return whole
