"""The one set of colours and sizes: the page's CSS, the grid and every chart read it from here.

Two colour sets, light and dark. Contrast is measured on ``surface``: ``muted`` is at least 4.5:1 on every ground it
stands on, an ``ink`` at least 4.6:1, a ``fill`` at least 3:1 (a test measures it again).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

Mode = Literal["light", "dark"]
MODES: tuple[Mode, Mode] = ("light", "dark")


@dataclass(frozen=True)
class Ground:
    """Everything on a page that is not data. ``accent`` is links, focus and progress; never data."""

    bg: str
    surface: str
    sunken: str
    hover: str
    selected: str
    border: str
    strong: str
    field: str
    text: str
    second: str
    muted: str
    grid: str
    axis: str
    accent: str
    accent_soft: str
    button: str
    shadow: str

    def css(self) -> dict[str, str]:
        """Each token as a CSS custom property: ``accent_soft`` is ``--accent-soft``."""
        return {f"--{field.name.replace('_', '-')}": getattr(self, field.name) for field in fields(self)}


GROUND: dict[Mode, Ground] = {
    "light": Ground(
        bg="#f6f7f9", surface="#ffffff", sunken="#eef0f3", hover="#f3f4f7", selected="#f1f0fd",
        border="#e1e4e9", strong="#c6cbd3", field="#858d9a",
        text="#14171c", second="#3f4651", muted="#626a76", grid="#eceef1", axis="#b9bfc8",
        accent="#5145cd", accent_soft="#eeedfb", button="#5145cd", shadow="0 1px 2px rgba(16,20,28,.05)",
    ),
    "dark": Ground(
        bg="#0e1014", surface="#15181d", sunken="#1c2026", hover="#1a1e24", selected="#1f1d36",
        border="#272c34", strong="#3a414c", field="#6b7482",
        text="#e6e9ee", second="#c0c6d0", muted="#98a1ae", grid="#20252c", axis="#4a525e",
        accent="#a49cff", accent_soft="#26224d", button="#6257e0", shadow="none",
    ),
}  # fmt: skip

IRIS: tuple[str, ...] = (
    "#f3f2fe", "#e4e2fb", "#c9c5f6", "#aca5f2", "#938bee", "#7a70e8", "#6257e0", "#5145cd", "#443ab0", "#382f92",
)  # fmt: skip
"""The primary scale, palest first. Violet, because blue is the float model's."""


@dataclass(frozen=True)
class Tint:
    """A text colour and the tint it stands on."""

    text: str
    tint: str


VERDICTS: dict[str, dict[Mode, Tint]] = {
    "safe": {"light": Tint("#0b6e4f", "#e4f3ec"), "dark": Tint("#74dfb6", "#13291f")},
    "caution": {"light": Tint("#7a5200", "#fcf1d6"), "dark": Tint("#e8bd55", "#2c230d")},
    "degraded": {"light": Tint("#a13a00", "#fdeadf"), "dark": Tint("#f79a66", "#321c10")},
    "collapsed": {"light": Tint("#a3123f", "#fce6ec"), "dark": Tint("#f27390", "#35141f")},
}
"""Verdict levels, best first. Neighbours are close for a colour-blind reader: word and shape always go with them."""


@dataclass(frozen=True)
class ClassColour:
    """The colours of one class of bits: ``fill`` for lines and bars, ``ink`` for text."""

    fill: str
    ink: str


BIT_CLASSES: dict[str, dict[Mode, ClassColour]] = {
    "float": {"light": ClassColour("#0360b4", "#0360b4"), "dark": ClassColour("#3b97fc", "#3b97fc")},
    "16-bit": {"light": ClassColour("#231649", "#231649"), "dark": ClassColour("#e5f0db", "#e5f0db")},
    "8-bit": {"light": ClassColour("#cb5c00", "#bc5602"), "dark": ClassColour("#ff8b5a", "#ff8b5a")},
    "float8": {"light": ClassColour("#069cd3", "#097ca7"), "dark": ClassColour("#7ad0ee", "#7ad0ee")},
    "6-bit": {"light": ClassColour("#5f0702", "#5f0702"), "dark": ClassColour("#f1402f", "#ff6a5a")},
    "4-bit": {"light": ClassColour("#009261", "#02865a"), "dark": ClassColour("#0a8f58", "#179461")},
    "3-bit": {"light": ClassColour("#9a1b72", "#9a1b72"), "dark": ClassColour("#c06ca6", "#c06ca6")},
    "2-bit": {"light": ClassColour("#584d03", "#584d03"), "dark": ClassColour("#ffcf28", "#ffcf28")},
}
"""Colour says the bits. ``6-bit`` serves 5 to 7."""

CLASS_DASHES: dict[str, str] = {
    "float": "solid",
    "16-bit": "1px,3px",
    "8-bit": "7px,3px",
    "float8": "10px,3px,2px,3px",
    "6-bit": "9px,2px,2px,2px,2px,2px",
    "4-bit": "2px,2.5px",
    "3-bit": "6px,2px,2px,2px",
    "2-bit": "12px,4px",
}
"""Dash says the class too, for a reader who does not see the colour."""

SECOND_DASHES: tuple[str, ...] = ("14px,3px,3px,3px", "4px,4px", "10px,6px", "3px,2px,3px,6px", "1px,5px")
"""For a second, third … scheme of one class in one run."""

CLASS_MARKERS: dict[str, str] = {
    "float": "circle",
    "16-bit": "hexagon",
    "8-bit": "square",
    "float8": "pentagon",
    "6-bit": "cross",
    "4-bit": "diamond",
    "3-bit": "triangle-up",
    "2-bit": "triangle-down",
}

RUN_MARKERS: tuple[str, ...] = ("circle", "square", "triangle-up", "diamond", "pentagon", "cross", "star", "hexagon")
"""On a comparison the marker says the run."""

SEQUENTIAL: tuple[str, ...] = (
    "#19123c", "#18275b", "#024171", "#015c7b", "#057685", "#02918c", "#30ab8b", "#78be89", "#afcf92", "#dde0aa",
    "#fff3d3",
)  # fmt: skip
"""Losses on a plane, low is dark; the same in both modes. Perceptually uniform."""

DIVERGING: dict[Mode, tuple[str, ...]] = {
    "light": ("#003e70", "#32689c", "#6f93b8", "#abbfd3", "#eceef0", "#d9bcae", "#b68169", "#964e2b", "#662701"),
    "dark": ("#7fb4e6", "#33628f", "#22262d", "#8f4f2c", "#f0a27c"),
}
"""Differences, centred on zero; blue is better."""


def colour_scale(colours: tuple[str, ...]) -> list[list[Any]]:
    """Plotly's form of a scale of equal steps.

    Example:
        >>> colour_scale(("#000000", "#808080", "#ffffff"))
        [[0.0, '#000000'], [0.5, '#808080'], [1.0, '#ffffff']]
    """
    return [[place / (len(colours) - 1), colour] for place, colour in enumerate(colours)]


def scale_colour(colours: tuple[str, ...], share: float) -> str:
    """The colour of a scale at ``share`` of its length."""
    place = min(max(share, 0.0), 1.0) * (len(colours) - 1)
    start = min(int(place), len(colours) - 2)
    return mix(colours[start], colours[start + 1], place - start)


FONT = "Inter, InterVariable, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MONO = "'JetBrains Mono', 'JetBrains Mono Variable', ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
TICK_SIZE = 11.5
TITLE_SIZE = 12


def mix(colour: str, other: str, share: float) -> str:
    """``colour`` moved ``share`` of the way to ``other``, both ``#rrggbb``.

    Example:
        >>> mix("#000000", "#ffffff", 0.5)
        '#808080'
    """
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def transparent(colour: str, alpha: float) -> str:
    """``colour`` as ``rgba()`` with that opacity.

    Example:
        >>> transparent("#0360b4", 0.08)
        'rgba(3,96,180,0.08)'
    """
    red, green, blue = _channels(colour)
    return f"rgba({red},{green},{blue},{alpha:g})"


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
