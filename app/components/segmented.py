"""Switches of a chart: one choice of a few, each a word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import html

from quant_lens_engine.figures import DENSITY_SCALES, LAMBDA_SCALES


def segmented(name: str, label: str, value: str, choices: Mapping[Any, str]) -> dmc.SegmentedControl:
    """One switch.

    Args:
        name: its id.
        label: what is chosen, for who does not see it.
        value: the present choice.
        choices: in their order, with the words for each.
    """
    return dmc.SegmentedControl(
        id=name,
        value=value,
        data=[{"value": key, "label": words} for key, words in choices.items()],
        attributes={"root": {"aria-label": label}},
    )


def density_switches(page: str, density: str, horizontal: str) -> html.Div:
    """The switches of both axes of a chart of densities; their ids begin with the page's name."""
    return html.Div(
        [
            segmented(f"{page}-lambda", "Horizontal axis", horizontal, LAMBDA_SCALES),
            segmented(f"{page}-density", "Vertical axis", density, DENSITY_SCALES),
        ],
        className="chart-switches",
    )
