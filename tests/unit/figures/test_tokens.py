"""Contrast, measured as WCAG 2 has it; the colours of neighbours."""

import itertools

import pytest

from quant_lens_engine.figures.tokens import BIT_CLASSES, GROUND, MODES, VERDICTS, Mode
from quant_lens_engine.figures.variant_style import scheme_styles
from quant_lens_engine.schema import parse_recipe


def luminance(colour: str) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", MODES)
def test_text_is_readable_on_every_ground(mode: Mode) -> None:
    ground = GROUND[mode]
    for text, on in itertools.product(
        (ground.text, ground.second, ground.muted), (ground.bg, ground.surface, ground.sunken, ground.selected)
    ):
        assert contrast(text, on) >= 4.5, (text, on)
    assert contrast(ground.accent, ground.surface) >= 4.5
    assert contrast("#ffffff", ground.button) >= 4.5
    assert contrast(ground.field, ground.surface) >= 3


@pytest.mark.parametrize("mode", MODES)
def test_verdicts_are_readable_on_their_tint_and_on_cards(mode: Mode) -> None:
    for level, tints in VERDICTS.items():
        assert contrast(tints[mode].text, tints[mode].tint) >= 4.5, level
        assert contrast(tints[mode].text, GROUND[mode].surface) >= 4.5, level


@pytest.mark.parametrize("mode", MODES)
def test_lines_are_seen_and_labels_are_read(mode: Mode) -> None:
    for name, colours in BIT_CLASSES.items():
        assert contrast(colours[mode].fill, GROUND[mode].surface) >= 3, name
        assert contrast(colours[mode].ink, GROUND[mode].surface) >= 4.5, name


def test_every_scheme_of_a_run_is_told_apart_by_dash_and_by_colour() -> None:
    names = ["int8", "int8-tensor", "int8-asym", "int4", "int4-g32", "int4-g128", "int6", "int7", "int3", "int2"]
    styles = scheme_styles([parse_recipe(name) for name in [*names, "int16"]])
    for one, other in itertools.combinations(styles.values(), 2):
        if one.bit_class == other.bit_class:
            assert one.dash != other.dash, (one.name, other.name)
        assert all(one.fill[mode] != other.fill[mode] for mode in MODES), (one.name, other.name)


def test_a_shade_never_loses_contrast() -> None:
    for style in scheme_styles([parse_recipe(f"int4-g{2**power}") for power in range(1, 7)]).values():
        for mode in MODES:
            assert contrast(style.fill[mode], GROUND[mode].surface) >= 3, style.name


def test_a_style_does_not_change_when_variants_join_behind() -> None:
    few = scheme_styles([parse_recipe("int4"), parse_recipe("int4-g32")])
    more = scheme_styles([parse_recipe("int4"), parse_recipe("int4-g32"), parse_recipe("int4-g64")])
    assert all(more[name] == style for name, style in few.items())
    assert few["FP32"].dash == "solid"
