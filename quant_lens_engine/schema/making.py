"""How the variants of a result were made, in words: the same for page, report and command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quant_lens_engine.schema import numbers
from quant_lens_engine.schema.algorithms import AlgorithmFacts
from quant_lens_engine.schema.recipe_description import layer_parts, recipe_of, recipe_parts, sentence_names
from quant_lens_engine.schema.run_result import FLOAT_VARIANT, RunResult, SkippedLayer, Variant


class Making(NamedTuple):
    """One variant: its recipe part by part, and what it was calibrated on (`` , on …``, or nothing)."""

    variant: Variant
    parts: tuple[tuple[str, str], ...]
    calibrated: str = ""


def makings(result: RunResult, algorithms: Sequence[AlgorithmFacts] = ()) -> list[Making]:
    """Every variant but the float model; a custom model has no parts.

    Args:
        result: complete, partial, or just begun.
        algorithms: what is known of them, for a line on each.

    Example:
        >>> from quant_lens_engine.schema import parse_scheme
        >>> scheme = parse_scheme("w8a8")
        >>> variant = Variant(name="w8a8", scheme=scheme.model_dump(), calibrated_by=["static activation ranges"])
        >>> result = RunResult(variants=[variant])
        >>> result.data.calibration_samples = 256
        >>> making = makings(result)[0]
        >>> making.parts[1][0], making.calibrated
        ('activations', ', calibrated on 256 rows (static activation ranges)')
    """
    found = []
    for variant in result.variants:
        if variant.name == FLOAT_VARIANT:
            continue
        recipe = recipe_of(variant)
        parts = tuple(recipe_parts(recipe, algorithms)) if recipe is not None else ()
        if variant.skipped_layers:  # which they are is said with their names
            parts = tuple(part for part in parts if part not in layer_parts(recipe.layers)) if recipe else parts
        found.append(Making(variant, parts, _calibrated(result, variant)))
    return found


def unmapped_note(reason: str) -> str:
    """What a reader should know of a custom model whose weights are no point among the float model's parameters.

    Example:
        >>> unmapped_note("there is no 0.weight")[:60]
        'curvature and landscape were not measured, and size and bits'
    """
    return (
        "curvature and landscape were not measured, and size and bits are not known: its weights could not be laid "
        f"onto the float model's. {reason[0].upper()}{reason[1:]}."
    )


def calibrated_variants(result: RunResult) -> list[str]:
    """The variants that looked at calibration rows."""
    return [variant.name for variant in result.variants if variant.calibrated_by]


def overlap_sentence(result: RunResult) -> str:
    """What to heed where calibration rows are measured too; empty where they are not.

    Example:
        >>> result = RunResult(variants=[Variant(name="w8a8", calibrated_by=["static activation ranges"])])
        >>> result.data.overlap = True
        >>> overlap_sentence(result)[:77]
        'W8A8 was calibrated on rows that it is measured on, for too few others were l'
    """
    if not result.data.overlap:
        return ""
    shown = sentence_names([variant.name for variant in result.variants])
    names = [shown[name] for name in calibrated_variants(result)]
    if not names:
        who, verb = "The run's calibration looked at", "rows that are measured too"
        return f"{who} {verb}, for too few others were left. {_WAY_OUT}"
    who = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    verb = "was calibrated on rows that it is" if len(names) == 1 else "were calibrated on rows that they are"
    return f"{who} {verb} measured on, for too few others were left. {_WAY_OUT}"


_WAY_OUT = (
    "The numbers come out better than they would on new rows: measure fewer rows, or give a file to calibrate on."
)


def shared_skips(result: RunResult) -> list[SkippedLayer]:
    """The layers that stayed in float in every variant, for the same reason; none where there is one variant."""
    lists = [variant.skipped_layers for variant in result.variants if variant.evaluation and variant.scheme]
    if len(lists) < 2:
        return []
    return [layer for layer in lists[0] if all(layer in others for others in lists[1:])]


def layers_by_reason(layers: Sequence[SkippedLayer]) -> dict[str, list[str]]:
    """Names by the reason for which they stayed in float."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        found.setdefault(layer.reason, []).append(layer.name)
    return found


def quantized_words(making: Making) -> str:
    """``3 layers, calibrated on 256 rows (gptq)``; empty before the variant is made."""
    count = making.variant.quantized_layers
    if count is None:
        return ""
    return f"{numbers.count(count)} layer{'' if count == 1 else 's'}{making.calibrated}"


def _calibrated(result: RunResult, variant: Variant) -> str:
    if not variant.calibrated_by:
        return ""
    rows = f" on {numbers.count(result.data.calibration_samples)} rows" if result.data.calibration_samples else ""
    return f", calibrated{rows} ({', '.join(variant.calibrated_by)})"
