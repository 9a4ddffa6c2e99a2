"""The printed report: the verdict, a table of variants, the sharpness ratio of each, and how the numbers are read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from quant_lens_engine.diagnosis.verdict import SIGNAL_RULES
from quant_lens_engine.figures.metrics import METRICS, Metric
from quant_lens_engine.figures.variant_style import short_labels
from quant_lens_engine.report_spectrum import written_spectrum
from quant_lens_engine.schema import FLOAT_VARIANT, Activation, Comparison, RunResult, Variant, numbers
from quant_lens_engine.schema.curvature_notes import curvature_notes
from quant_lens_engine.schema.layer_notes import reestimation_sentence, signal_sentence
from quant_lens_engine.schema.making import layers_by_reason, makings, overlap_sentence, quantized_words
from quant_lens_engine.schema.summary import verdict_sentence

WIDTH = 100
LONGEST_LABEL = 22
SHOWN_RANGES = 6
OWN_KERNELS = "†"
"""Marks a custom model, which is run itself for its loss and accuracy."""

_TABLES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss and accuracy", ("effective_bits", "size_bytes", "loss", "delta_loss", "accuracy", "delta_accuracy")),
    ("Curvature and landscape", ("lambda_max", "sharpness_ratio", "lambda_min", "trace", "basin_width")),
    ("Spectrum", ("lambda_max_spread", "effective_rank", "negative_eigenvalues", "positive_eigenvalues")),
    ("Sharpness that scaling a whole layer leaves as it is (a single ReLU neuron: not), and SAM's",
     ("relative_lambda_max", "relative_trace", "adaptive_rise", "plain_rise")),
)  # fmt: skip


def written_report(result: RunResult) -> str:
    """A result as text of at most 100 columns.

    Example:
        >>> from quant_lens_engine.schema import RunResult, Variant
        >>> written_report(RunResult(variants=[Variant(name="FP32")])).startswith("Quant Lens ─")
        True
    """
    sections = [_heading(result)]
    if _is_measured(result):
        sections += _verdict(result)
        for title, keys in _TABLES:
            sections += _table(result, title, [METRICS[key] for key in keys])
        sections += [
            *_ratios(result),
            *written_spectrum(result, _labels(result), WIDTH),
            *_layers(result),
            *_makings(result),
            *_notes(result),
        ]
    sections += _failures(result)
    lines = "\n\n".join(sections).replace(numbers.THIN_SPACE, " ").splitlines()
    return "\n".join(line.rstrip() for line in lines)


def _is_measured(result: RunResult) -> bool:
    return any(variant.evaluation or variant.curvature or variant.lines for variant in result.variants)


def _heading(result: RunResult) -> str:
    title = "Quant Lens "
    facts = [
        result.model.architecture,
        None if result.model.parameters is None else f"{numbers.amount(result.model.parameters)} parameters",
        None if result.data.samples is None else f"{numbers.count(result.data.samples)} rows",
        f"calibrated on {numbers.count(rows)}" if (rows := result.data.calibration_samples) else None,
        f"seed {result.seed}",
        result.execution.get("device"),
    ]
    return f"{title}{'─' * (WIDTH - len(title))}\n{' · '.join(fact for fact in facts if fact)}"


def _verdict(result: RunResult) -> Iterator[str]:
    if not any(comparison.verdict for comparison in result.comparisons):
        return
    summary = verdict_sentence(result)
    yield "\n".join(
        textwrap.fill(text, WIDTH) for text in (f"{summary.lead} {summary.rest}".strip(), summary.evidence) if text
    )
    lines = []
    for comparison in result.comparisons:
        if comparison.verdict is not None:
            reasons = "; ".join([*comparison.verdict.reasons, *comparison.verdict.signals])
            label = f"  {comparison.variant}: {comparison.verdict.level}. "
            lines.append(textwrap.fill(reasons, WIDTH, initial_indent=label, subsequent_indent="    "))
    yield "\n".join(["Verdicts", *lines])
    if caution := overlap_sentence(result):
        yield textwrap.fill(caution, WIDTH)


def _table(result: RunResult, title: str, metrics: Sequence[Metric]) -> Iterator[str]:
    """Without the columns that no variant has a number for (the accuracy of a regression)."""
    metrics = [m for m in metrics if any(m.read(result, variant).value is not None for variant in result.variants)]
    if not metrics:
        return
    heads = [["", *(metric.label for metric in metrics)], ["", *(_unit(metric, result) for metric in metrics)]]
    labels = _labels(result)
    rows = [
        [labels[variant.name], *(_cell(metric, result, variant) for metric in metrics)] for variant in result.variants
    ]
    widths = [max(len(row[column]) for row in [*heads, *rows]) for column in range(len(heads[0]))]
    names, units, *shown = [_line(row, widths) for row in [*heads, *rows]]
    rule = "─" * (len(names) - 2)
    yield "\n".join([title, names, *([units] if units.strip() else []), f"  {rule}", *shown])


def _layers(result: RunResult) -> Iterator[str]:
    """What each variant's layers are left with, and what new running statistics would give back."""
    for title, words in (
        ("Outputs of layers", {item.name: signal_sentence(item) for item in result.variants}),
        ("Re-estimating BatchNorm", {item.name: reestimation_sentence(item, result.task) for item in result.variants}),
    ):
        lines = [
            textwrap.fill(said, WIDTH, initial_indent=f"  {name}: ", subsequent_indent="    ")
            for name, said in words.items()
            if said
        ]
        if lines:
            yield "\n".join([title, *lines])


def _labels(result: RunResult) -> dict[str, str]:
    """What heads each variant's row: its name, or what is left of a long recipe; no two are the same."""
    short = short_labels([variant.name for variant in result.variants], LONGEST_LABEL)
    return {
        variant.name: short[variant.name] + (f" {OWN_KERNELS}" if _runs_itself(variant) else "")
        for variant in result.variants
    }


def _runs_itself(variant: Variant) -> bool:
    return variant.evaluation is not None and variant.evaluation.forward == "own"


def _unit(metric: Metric, result: RunResult) -> str:
    if metric.form != "number":
        return ""  # a size and a ratio bring theirs along
    return metric.shown_unit or metric.of(result.task).unit


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    return "  " + "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])


def _cell(metric: Metric, result: RunResult, variant: Variant) -> str:
    value, error = metric.written(metric.read(result, variant))
    return f"{value} ± {error}" if error and error != "0" else value


def _ratios(result: RunResult) -> Iterator[str]:
    if result.comparisons:
        labels = _labels(result)
        width = max(len(labels[item.variant]) for item in result.comparisons)
        lines = [
            f"  {labels[comparison.variant].ljust(width)}  {_ratio(result, comparison)}"
            for comparison in result.comparisons
        ]
        yield "\n".join(["Sharpness ratio, λmax(variant) / λmax(FP32)", *lines])


def _ratio(result: RunResult, comparison: Comparison) -> str:
    if comparison.sharpness_ratio is not None:
        threshold = SIGNAL_RULES["sharper"].threshold
        signal = f"  sharper than {threshold:g} × the float model" if comparison.sharpness_ratio > threshold else ""
        return f"{numbers.number(comparison.sharpness_ratio)} ×{signal}"
    curvature = result.variant(comparison.variant).curvature
    if curvature is None or curvature.lambda_max.value is None:
        return f"–  {(curvature.reason if curvature else None) or 'no curvature'}"
    float_curvature = result.variant(FLOAT_VARIANT).curvature
    if float_curvature is None or float_curvature.lambda_max.value is None:
        return "–  λmax(FP32) is not known"
    return "–  λmax(FP32) is within its own uncertainty of zero"


def _makings(result: RunResult) -> Iterator[str]:
    """What each recipe is, and what a reader should know of how it was made."""
    lines = []
    for making in makings(result):
        said = [words if part == "weights" else f"{part} {words}" for part, words in making.parts]
        said += [f"quantized {quantized}"] if (quantized := quantized_words(making)) else []
        said += [f"{item.name} from {_ends(item)}" for item in making.variant.activations[:SHOWN_RANGES]
                 if item.low is not None]  # fmt: skip
        label = f"  {making.variant.name}: "
        if said:
            lines.append(textwrap.fill("; ".join(said), WIDTH, initial_indent=label, subsequent_indent="    "))
        lines += [
            textwrap.fill(note, WIDTH, initial_indent="    note: ", subsequent_indent="    ")
            for note in making.variant.notes
        ]
    if lines:
        yield "\n".join(["How each variant was made", *lines])


def _ends(item: Activation) -> str:
    return f"{numbers.number(item.low)} to {numbers.number(item.high)}"


def _notes(result: RunResult) -> Iterator[str]:
    notes = [
        "± is a standard error over rows (paired for differences), over probes for Tr H, the farther end of the "
        "interval for λ, and half the interval for counts of eigenvalues. λ and Tr H are in units of the loss and "
        "belong to its Hessian at the dequantized weights; basin width to the smooth line through them.",
    ]
    notes += [f"{note.rstrip('.')}." for note in result.notes]
    notes += _own_kernels(result)
    notes += [
        f"{variant.name}: {note}."
        for variant in result.variants
        if variant.curvature is not None and variant.unmapped is None
        for note in curvature_notes(variant.curvature)
    ]
    notes += _skipped(result)
    yield _filled(notes)


def _own_kernels(result: RunResult) -> Iterator[str]:
    """What of a custom model is its own, and where its curvature is taken, if it is."""
    own = [variant for variant in result.variants if _runs_itself(variant)]
    mapped = [variant.name for variant in own if variant.unmapped is None]
    unmapped = [variant.name for variant in own if variant.unmapped is not None]
    itself = "loss and accuracy are those of the model itself, with its own kernels"
    if mapped:
        yield (
            f"{OWN_KERNELS} {', '.join(mapped)}: {itself}; curvature and landscape are taken in the float model at its "
            "dequantized weights."
        )
    if unmapped:
        names = ", ".join(unmapped)
        yield f"{OWN_KERNELS} {names}: {itself}; curvature and landscape were not measured, as its note says."


def _failures(result: RunResult) -> Iterator[str]:
    if result.failures:
        yield _filled(
            f"{item.stage}{f' of {item.variant}' if item.variant else ''} failed: {item.message}"
            for item in result.failures
        )


def _filled(notes: Iterable[str]) -> str:
    return "\n".join(textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes)


def _skipped(result: RunResult) -> Iterator[str]:
    """Once for all variants that skipped the same layers."""
    by_layers: dict[tuple[tuple[str, str], ...], list[Variant]] = {}
    for variant in result.variants:
        if variant.skipped_layers:
            layers = tuple((layer.name, layer.reason) for layer in variant.skipped_layers)
            by_layers.setdefault(layers, []).append(variant)
    for variants in by_layers.values():
        names = ", ".join(variant.name for variant in variants)
        for reason, skipped in layers_by_reason(variants[0].skipped_layers).items():
            shown = ", ".join(skipped[:6]) + (f" and {len(skipped) - 6} more" if len(skipped) > 6 else "")
            yield f"In float in {names}: {shown} ({reason})."
