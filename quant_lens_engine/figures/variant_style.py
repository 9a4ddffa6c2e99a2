"""Which colour, dash and marker a variant has: solved here, once, for charts, tables and badges alike.

Colour and dash are the class of bits. A second scheme of one class in the same run (``int4`` and ``int4-g128``)
gets another dash and a shade of the class's colour, in the order of the run; it never changes while more variants
join behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from quant_lens_engine.figures.tokens import (
    BIT_CLASSES,
    CLASS_DASHES,
    CLASS_MARKERS,
    GROUND,
    MODES,
    SECOND_DASHES,
    Mode,
    mix,
)
from quant_lens_engine.schema import FLOAT_VARIANT, Recipe, Variant
from quant_lens_engine.schema.recipe_description import without_details

LONGEST_LABEL = 18
"""Letters beside a line's end or before a bar."""

_SHADES = (0.0, 0.34, 0.18, 0.5, 0.26, 0.42)
"""How far the second, third … scheme of a class moves towards the text colour; towards it contrast only grows."""


@dataclass(frozen=True)
class VariantStyle:
    """How one variant is drawn, in both modes; ``label`` stands for its name where there is little room."""

    name: str
    label: str
    bit_class: str
    fill: dict[Mode, str]
    ink: dict[Mode, str]
    dash: str
    marker: str

    @property
    def dash_lengths(self) -> list[float]:
        """Drawn and skipped lengths in pixels, in turn; empty for a solid line."""
        return [] if self.dash == "solid" else [float(part.removesuffix("px")) for part in self.dash.split(",")]


def bit_class(bits: float | None, number_format: str = "integer") -> str:
    """The class of bits that colour and dash stand for; None is the float model.

    Example:
        >>> bit_class(4), bit_class(7), bit_class(None)
        ('4-bit', '6-bit', 'float')
    """
    if bits is None:
        return "float"
    if number_format.startswith("fp8"):
        return "float8"
    for name, most in (("2-bit", 2.5), ("3-bit", 3.5), ("4-bit", 4.75), ("6-bit", 7.5), ("8-bit", 12)):
        if bits < most:
            return name
    return "16-bit"


def variant_styles(variants: Sequence[Variant]) -> dict[str, VariantStyle]:
    """The style of every variant of a run, by name, in the run's order."""
    facts = [(item.name, *_bits_and_format(item)) for item in variants]
    return _styles(facts)


def scheme_styles(recipes: Sequence[Recipe]) -> dict[str, VariantStyle]:
    """The same for recipes that are only chosen yet, the float model included.

    Example:
        >>> from quant_lens_engine.schema import parse_recipe
        >>> styles = scheme_styles([parse_recipe("int4"), parse_recipe("int4-g128")])
        >>> styles["int4"].dash == styles["int4-g128"].dash
        False
    """
    facts = [(item.name, float(item.scheme.bits), item.scheme.format) for item in recipes]
    return _styles([(FLOAT_VARIANT, None, ""), *facts])


def short_labels(names: Sequence[str], most: int = LONGEST_LABEL) -> dict[str, str]:
    """What stands for each name beside a line or a bar: the name, where it is too long without its options, and cut
    where it still is; no two are the same.

    Example:
        >>> list(short_labels(["int4", "w8a8+smoothquant:alpha=0.7", "w4a8-g128+smoothquant+gptq"]).values())
        ['int4', 'w8a8+smoothquant', 'w4a8-g128+smooth…']
        >>> list(short_labels(["int4+gptq:block=16:damping=0.1", "int4+gptq:block=16:damping=0.2"]).values())
        ['int4+gptq', 'int4+gptq (2)']
    """
    labels: dict[str, str] = {}
    for name in names:
        plain = without_details(name)
        label = next((text for text in (name, plain) if len(text) <= most), f"{plain[: most - 2]}…")
        taken, number = set(labels.values()), 2
        wanted = label
        while label in taken:
            label = f"{wanted} ({number})"
            number += 1
        labels[name] = label
    return labels


def _bits_and_format(variant: Variant) -> tuple[float | None, str]:
    if variant.name == FLOAT_VARIANT:
        return None, ""
    scheme = variant.scheme or {}
    bits = scheme.get("bits", variant.effective_bits)
    # A custom model says neither its scheme nor, until it is measured, its bits: 8 is what such models have.
    return 8.0 if bits is None else float(bits), str(scheme.get("format", ""))


def _styles(facts: Sequence[tuple[str, float | None, str]]) -> dict[str, VariantStyle]:
    seen: Counter[str] = Counter()
    labels = short_labels([name for name, _, _ in facts])
    styles = {}
    for name, bits, number_format in facts:
        group = bit_class(bits, number_format)
        styles[name] = _style(name, labels[name], group, seen[group])
        seen[group] += 1
    return styles


def _style(name: str, label: str, group: str, nth: int) -> VariantStyle:
    colours = BIT_CLASSES[group]
    shade = _SHADES[nth % len(_SHADES)]
    dash = CLASS_DASHES[group] if nth == 0 else SECOND_DASHES[(nth - 1) % len(SECOND_DASHES)]
    return VariantStyle(
        name=name,
        label=label,
        bit_class=group,
        fill={mode: mix(colours[mode].fill, GROUND[mode].text, shade) for mode in MODES},
        ink={mode: mix(colours[mode].ink, GROUND[mode].text, shade) for mode in MODES},
        dash=dash,
        marker=CLASS_MARKERS[group] + ("" if nth == 0 else "-open"),
    )
