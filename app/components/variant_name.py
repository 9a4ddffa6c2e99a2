"""A variant's name with its swatch: the colour and dash that it has in every chart."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from dash import html

from quant_lens_engine.figures import VariantStyle


def variant_name(style: VariantStyle, text: str = "") -> html.Span:
    """``╌╌ int4-g128``; a long recipe is broken before a ``+``, and stands in the title as a whole."""
    shown = html.Span(recipe_name(text or style.name), className="recipe-name")
    return html.Span([variant_swatch(style), shown], className="variant-name", title=style.name)


def recipe_name(name: str) -> list[Any]:
    """The scheme, and what is done to come to it in muted letters; a line may break before each step.

    Example:
        >>> [part.children for part in recipe_name("int4+gptq")]
        ['int4', None, '+gptq']
    """
    scheme, *steps = name.split("+")
    shown = [html.Span(scheme, className="recipe-scheme")]
    for step in steps:
        shown += [html.Wbr(), html.Span(f"+{step}", className="recipe-step")]
    return shown


def variant_swatch(style: VariantStyle) -> html.Span:
    """A short piece of the variant's line."""
    return html.Span(className="swatch", style=swatch_style(style), **{"aria-hidden": "true"})


def swatch_style(style: VariantStyle) -> dict[str, Any]:
    """CSS variables of a swatch; the sheet chooses the colour of the mode. Serialisable, so the grid can use it too."""
    return {
        "--fill-light": style.fill["light"],
        "--fill-dark": style.fill["dark"],
        "--dash": dash_gradient(style.dash_lengths),
    }


def dash_gradient(lengths: list[float]) -> str:
    """A dash pattern as a CSS gradient.

    Example:
        >>> dash_gradient([7, 3])
        'repeating-linear-gradient(90deg,currentColor 0 7px,transparent 7px 10px)'
    """
    if not lengths:
        return "linear-gradient(currentColor,currentColor)"
    edges = [0.0]
    for length in lengths:
        edges.append(edges[-1] + length)
    stops = [
        f"{'transparent' if index % 2 else 'currentColor'} {start:g}{'px' if start else ''} {end:g}px"
        for index, (start, end) in enumerate(pairwise(edges))
    ]
    return f"repeating-linear-gradient(90deg,{','.join(stops)})"
