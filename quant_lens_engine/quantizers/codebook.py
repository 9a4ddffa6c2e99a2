"""Codebooks: a code is the number of a level; real value = level · scale, scale = amax / max |level|.

``nf4`` holds the quantiles of a normal distribution after Dettmers et al. 2023 (QLoRA, arXiv:2305.14314). Any other
codebook is given by its levels: ``codebook[-1:-0.5:0:0.5:1]-g64``. They are of both signs. Without a level of 0, as in
a binary network's ``codebook[-1:1]``, no weight is 0 afterwards, and the description says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from quant_lens_engine.quantizers import QUANTIZERS, NumberFormat, QParams, Range, StoredBits
from quant_lens_engine.quantizers._scales import SCALE_BITS, scale_in_words, stored_scale

if TYPE_CHECKING:
    from torch import Tensor

NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip

MOST_LEVELS = 256

_NUMBER = re.compile(r"[+-]?(inf|nan|([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?)", re.IGNORECASE)
"""Narrower than Python's own, which reads digits of every script, spaces and underscores."""

NARROWEST = 1e-5
"""Levels of a codebook are no nearer to each other than this part of its reach."""


class CodebookQuantizer:
    """The nearest of some levels; a tie goes to the lower one."""

    family = "block"

    def __init__(self, name: str, levels: tuple[float, ...] | None) -> None:
        self._known = levels
        self.stem = re.compile(name if levels else rf"{name}\[(?P<levels>[^\[\]]*)\]")
        self.defaults: Mapping[str, Any] = {"bits": _bits(levels), "levels": levels} if levels else {}

    def fields(self, match: re.Match[str]) -> dict[str, Any]:
        """The levels, where the name holds them."""
        if self._known is not None:
            return {}
        parts = match["levels"].split(":")
        if not all(map(_NUMBER.fullmatch, parts)):
            raise ValueError("a codebook is a list of numbers: codebook[-1:0:1]")
        levels = tuple(map(float, parts))
        return {"levels": levels, "bits": _bits(levels)}

    def stem_of(self, fmt: NumberFormat) -> str:
        """``nf4``, or the levels."""
        if self._known is not None:
            return fmt.format
        return f"codebook[{':'.join(map(_written, fmt.levels))}]"

    def check(self, fmt: NumberFormat) -> None:
        """Ascending levels of both signs, with as many bits as their number needs. A level of 0 there need not be."""
        levels = fmt.levels
        if self._known is not None and levels != self._known:
            raise ValueError(f"{fmt.format} has levels of its own: name another codebook codebook[…]")
        if not 2 <= len(levels) <= MOST_LEVELS:
            raise ValueError(f"a codebook has 2 to {MOST_LEVELS} levels, not {len(levels)}")
        if not all(low < high for low, high in pairwise(levels)) or not all(map(math.isfinite, levels)):
            raise ValueError("the levels of a codebook are finite and ascend")
        if not levels[0] < 0 < levels[-1]:
            sign = "negative" if levels[0] >= 0 else "positive"
            raise ValueError(f"a codebook has levels of both signs: every {sign} value would lose its sign without one")
        if min(high - low for low, high in pairwise(levels)) < NARROWEST * (levels[-1] - levels[0]):
            raise ValueError(f"two levels of a codebook lie closer than {NARROWEST:g} of its reach")
        if fmt.bits != _bits(levels):
            raise ValueError(f"{len(levels)} levels take {_bits(levels)} bits, not {fmt.bits}")
        if not fmt.symmetric or fmt.full_range:
            raise ValueError(f"-asym and -full clash with {fmt.format}: its levels say where it reaches")
        if fmt.scale_dtype == "e4m3":
            raise ValueError(f"{fmt.format} has scales of fp32, fp16 or e8m0; scales of e4m3 belong to nvfp4")

    def offered(self) -> Sequence[str]:
        """NF4 at the block sizes in use; another codebook is named by its user."""
        return ("nf4-g64", "nf4-g128") if self._known else ()

    def describe(self, fmt: NumberFormat) -> str:
        """For example ``NF4, quantiles of a normal distribution; fp16 scale = amax``."""
        what = "NF4, quantiles of a normal distribution" if self._known else f"a codebook of {len(fmt.levels)} levels"
        reach = _reach(fmt)
        what += "" if 0 in fmt.levels else ", no zero level"
        formula = "amax" if reach == 1 else f"amax / {reach:g}"
        return f"{what}; {scale_in_words(formula, fmt.scale_dtype)}"

    def stored_bits(self, fmt: NumberFormat) -> StoredBits:
        """A level's number, and a scale a block; the levels themselves are the scheme's."""
        return StoredBits(fmt.bits, SCALE_BITS[fmt.scale_dtype])

    def qparams(self, span: Range, fmt: NumberFormat, whole: Range | None = None) -> QParams:  # noqa: ARG002
        """The largest magnitude becomes the level of the largest magnitude."""
        return QParams(stored_scale(span.amax / _reach(fmt), fmt.scale_dtype))

    def encode(self, blocks: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:
        """How many midpoints between levels lie below.

        The line is cut into equal cells that hold one midpoint at most: a cell says how many midpoints lie before it,
        and one comparison the rest.
        """
        scaled = (blocks / qparams.scale).reshape(-1)
        cells = _cells(fmt.levels)
        place = ((scaled - cells.first) * cells.density).nan_to_num(0.0).clamp(0, len(cells.before) - 1).long()
        before = scaled.new_tensor(cells.before).index_select(0, place)
        passed = scaled > scaled.new_tensor(cells.midpoint).index_select(0, place)
        return (before + passed).reshape(blocks.shape)

    def decode(self, codes: Tensor, qparams: QParams, fmt: NumberFormat) -> Tensor:
        """Level times scale."""
        levels = codes.new_tensor(fmt.levels).index_select(0, codes.reshape(-1).long())
        return levels.reshape(codes.shape) * qparams.scale

    def edges(self, qparams: QParams, fmt: NumberFormat) -> Range:
        """The outermost levels, and half the step before each."""
        first, second, *_ = fmt.levels
        *_, before, last = fmt.levels
        return Range((first - (second - first) / 2) * qparams.scale, (last + (last - before) / 2) * qparams.scale)


class _Cells(NamedTuple):
    """Equal cells from ``first`` on, ``density`` of them in a unit.

    Of each cell: how many midpoints lie before it, and the midpoint inside it (infinity where there is none).
    """

    first: float
    density: float
    before: list[float]
    midpoint: list[float]


@cache
def _cells(levels: tuple[float, ...]) -> _Cells:
    midpoints = [(low + high) / 2 for low, high in pairwise(levels)]
    narrowest = min((high - low for low, high in pairwise(midpoints)), default=1.0)
    density = 2.0 ** math.ceil(math.log2(2 / narrowest))
    count = int((midpoints[-1] - midpoints[0]) * density) + 3
    first = midpoints[0] - 1 / density
    before, inside, passed = [], [], 0
    for cell in range(count):
        end = first + (cell + 1) / density
        here = passed < len(midpoints) and (midpoints[passed] < end or cell == count - 1)
        before.append(float(passed))
        inside.append(midpoints[passed] if here else math.inf)
        passed += here
    return _Cells(first, density, before, inside)


def _written(level: float) -> str:
    """Without the plus of an exponent, which joins the steps of a recipe, and without the sign of −0."""
    return repr(level + 0.0).removesuffix(".0").replace("e+", "e")


def _bits(levels: Sequence[float]) -> int:
    return max(1, (len(levels) - 1).bit_length())


def _reach(fmt: NumberFormat) -> float:
    return max(abs(fmt.levels[0]), abs(fmt.levels[-1]))


QUANTIZERS.add("nf4", CodebookQuantizer("nf4", NF4_LEVELS))
QUANTIZERS.add("codebook", CodebookQuantizer("codebook", None))
