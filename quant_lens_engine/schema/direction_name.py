"""Names of directions: ``random:2``, ``eigenvector:1``, ``to:int4``."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

DIRECTION_GRAMMAR = (
    "random, random-layer, random-raw (each :N for the Nth), eigenvector:N, gradient, error, to:VARIANT, "
    "checkpoint:N, pca:N"
)
"""The directions that come with the engine; a worker's capabilities list all that there are."""

_KIND = re.compile(r"[a-z][a-z0-9-]{0,40}")
NAMES_A_VARIANT = frozenset({"to"})
"""Kinds whose argument is a variant of the run."""
DRAWN = frozenset({"random", "random-layer", "random-raw"})
"""Kinds of which there are as many as one draws."""
JOINS_POINTS = frozenset({"to", "path", "checkpoint", "pca"})
"""Kinds that lead from the float parameters to other models: their lines and planes start at FP32."""

SPANS_CHECKPOINTS = frozenset({"pca"})
"""Kinds that are made from all further checkpoints: a plane along them is drawn for these."""
OWN = frozenset({"path", "error"})
"""Kinds that are a variant's own: each variant has another direction, so no plane is shared along them."""


class DirectionName(NamedTuple):
    """A kind of direction, and which one of that kind.

    Example:
        >>> DirectionName.parse("to:int3+gptq:act_order=true")
        DirectionName(kind='to', argument='int3+gptq:act_order=true')
        >>> DirectionName.parse("eigenvector:2").number, str(DirectionName("random"))
        (2, 'random')
    """

    kind: str
    argument: str = ""

    @classmethod
    def parse(cls, text: str) -> DirectionName:
        """The inverse of ``str``.

        Raises:
            ValueError: no such name is possible.
        """
        kind, _, argument = text.partition(":")
        if not _KIND.fullmatch(kind) or (kind in NAMES_A_VARIANT and not argument):
            raise ValueError(f"{text[:60]!r} names no direction; known: {DIRECTION_GRAMMAR}")
        return cls(kind, argument)

    def __str__(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    @property
    def number(self) -> int:
        """Which one of the kind, from 1.

        Raises:
            ValueError: the argument is no positive number.
        """
        text = self.argument or "1"
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{str(self)!r}: {self.argument!r} is no number from 1")
        return int(text)


def _checked(text: str) -> str:
    return str(DirectionName.parse(text))


DirectionField = Annotated[str, AfterValidator(_checked)]
"""A direction's name in a specification."""
