"""From tokens to the page: CSS custom properties, Mantine's theme, and the small sheet that is drawn with the frame."""

from __future__ import annotations

from typing import Any

from app.components.icon import icon_sheet
from quant_lens_engine.figures.tokens import FONT, GROUND, IRIS, MODES, MONO, VERDICTS, Mode

BUTTON_HEIGHT_PX = 30


def token_sheet() -> str:
    """Both modes' tokens as CSS; Mantine's own variables are set from ours, so that it has no colours of its own."""
    sheets = [f":root{{--font:{FONT};--mono:{MONO}}}"]
    for mode in MODES:
        variables = GROUND[mode].css() | _verdict_variables(mode) | _mantine_variables()
        body = ";".join(f"{name}:{value}" for name, value in variables.items())
        sheets.append(f':root[data-mantine-color-scheme="{mode}"]{{color-scheme:{mode};{body}}}')
    return "\n".join(sheets)


def page_sheet() -> str:
    """What stands in the page's head: tokens and icons, so that nothing is drawn in a wrong colour first."""
    return token_sheet() + icon_sheet()


def mantine_theme() -> dict[str, Any]:
    """The theme of ``dmc.MantineProvider``."""
    return {
        "colors": {"iris": list(IRIS)},
        "primaryColor": "iris",
        "primaryShade": {"light": 7, "dark": 6},
        "fontFamily": FONT,
        "fontFamilyMonospace": MONO,
        "headings": {"fontFamily": FONT, "fontWeight": "600"},
        "defaultRadius": 6,
        "fontSizes": {"xs": "12px", "sm": "13px", "md": "14px"},
        "respectReducedMotion": True,
        "cursorType": "pointer",
        "focusRing": "auto",
        "components": {
            "Button": {"defaultProps": {"size": "xs"}},
            "ActionIcon": {"defaultProps": {"variant": "subtle", "color": "gray", "size": 28}},
            "Select": {"defaultProps": {"size": "xs", "allowDeselect": False, "withCheckIcon": False}},
            "TextInput": {"defaultProps": {"size": "xs"}},
            "NumberInput": {"defaultProps": {"size": "xs"}},
            "SegmentedControl": {"defaultProps": {"size": "xs"}},
            "Checkbox": {"defaultProps": {"size": "xs"}},
            "Switch": {"defaultProps": {"size": "xs"}},
            "Tooltip": {"defaultProps": {"openDelay": 350, "fz": 12, "withArrow": True}},
        },
    }


def _verdict_variables(mode: Mode) -> dict[str, str]:
    variables = {}
    for level, tints in VERDICTS.items():
        variables[f"--{level}"] = tints[mode].text
        variables[f"--{level}-tint"] = tints[mode].tint
    return variables


def _mantine_variables() -> dict[str, str]:
    return {
        "--mantine-color-body": "var(--surface)",
        "--mantine-color-text": "var(--text)",
        "--mantine-color-bright": "var(--text)",
        "--mantine-color-dimmed": "var(--muted)",
        "--mantine-color-placeholder": "var(--muted)",
        "--mantine-color-anchor": "var(--accent)",
        "--mantine-color-default": "var(--surface)",
        "--mantine-color-default-hover": "var(--hover)",
        "--mantine-color-default-color": "var(--text)",
        "--mantine-color-default-border": "var(--strong)",
        "--mantine-color-error": "var(--collapsed)",
        "--mantine-primary-color-filled": "var(--button)",
        "--mantine-color-gray-light-hover": "var(--hover)",
    }
