"""Contrast, measured as WCAG 2 has it; the colours of neighbours."""

import itertools

import pytest

from quant_lens_engine.figures.tokens import BIT_CLASSES, GROUND, MODES, VERDICTS, Mode
from quant_lens_engine.figures.variant_style import LONGEST_LABEL, scheme_styles
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
    names = ["int8", "int8-tensor", "w8a8", "int4", "int4+gptq", "nvfp4", "int6", "int7", "int3", "int2", "fp8-e4m3"]
    names += ["w8a8-fp8-dynamic", "w4a8+smoothquant+gptq"]
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


def test_a_swatch_tells_schemes_of_one_class_apart() -> None:
    """A swatch is 20 px wide: what is drawn of a dash there differs from every other's in several pixels."""

    def drawn(lengths: list[float]) -> list[bool]:
        pixels = [bool(index % 2 == 0) for index, length in enumerate(lengths) for _ in range(round(length))] or [True]
        return [pixels[x % len(pixels)] for x in range(20)]

    recipes = ["int4", "int4+gptq", "w4a8+smoothquant+gptq", "nvfp4", "int4+clip"]
    swatches = [drawn(style.dash_lengths) for style in scheme_styles([parse_recipe(name) for name in recipes]).values()]
    for one, other in itertools.combinations(swatches, 2):
        assert sum(a != b for a, b in zip(one, other, strict=True)) >= 3


def test_labels_are_short_and_no_two_are_the_same() -> None:
    names = ["int4", "int4+gptq:damping=0.02:block=32", "int4+gptq:damping=0.03:block=32", "int4+gptq",
             "w4a8-g128-dynamic+smoothquant", "w4a8-g128-dynamic+smoothquant+gptq"]  # fmt: skip
    styles = scheme_styles([parse_recipe(name) for name in names])
    labels = [style.label for style in styles.values()]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= LONGEST_LABEL + 4
    assert styles["int4"].label == "int4"
