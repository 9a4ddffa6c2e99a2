"""How texts become rows of tokens: the fields, and their meaning."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import html

from quant_lens_engine.schema import TextOptions

PACKING: dict[str, bool | None] = {"": None, "joined": True, "each": False}
"""``TextOptions.packed`` by the name of the choice."""

_WORDS = {
    "": "as the file is: running text joined, a text a line apart",
    "joined": "joined, and cut into full rows",
    "each": "a row for each text",
}
DEFAULT_LENGTH = TextOptions().length
LONGEST = 65_536


def packing_of(packed: bool | None) -> str:
    """The name of a choice.

    Example:
        >>> packing_of(None), packing_of(True), packing_of(False)
        ('', 'joined', 'each')
    """
    return next(name for name, value in PACKING.items() if value is packed)


def text_fields(length: int | None, packing: str) -> html.Div:
    """Shown where the data are texts."""
    fields = [
        dmc.NumberInput(
            id="new-text-length", label="Tokens a row", value=length, min=2, max=LONGEST, step=128, w=130,
            allowDecimal=False,
        ),
        dmc.Select(
            id="new-packing", label="Rows", value=packing, w=420, allowDeselect=False,
            data=[{"value": name, "label": words} for name, words in _WORDS.items()],
        ),
    ]  # fmt: skip
    return html.Div(fields, id="new-text-block", className="ql-fields", hidden=True)
