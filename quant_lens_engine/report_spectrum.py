"""The spectrum in the printed report: eigenvalues of both ends with their intervals, and curvature by layer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from quant_lens_engine.schema import Curvature, Eigenvalue, LayerCurvature, RunResult, numbers

SHOWN_EIGENVALUES = 5
SHOWN_LAYERS = 12
_KEEP = "\u00a0"
"""A space at which no line breaks."""

_UNBOUNDED = "?"
"""Marks an eigenvalue without an interval: nothing says how much further out the true one lies."""


def written_spectrum(result: RunResult, labels: Mapping[str, str], width: int) -> Iterator[str]:
    """A section for the eigenvalues and one for the layers; nothing where neither was measured.

    Args:
        result: with its curvatures.
        labels: what heads each variant's row.
        width: of a line, in letters.

    Example:
        >>> list(written_spectrum(RunResult(), {}, 100))
        []
    """
    known = [(labels[item.name], item.curvature) for item in result.variants if item.curvature is not None]
    yield from _eigenvalues(known, width)
    yield from _layers(known)


def _eigenvalues(known: Sequence[tuple[str, Curvature]], width: int) -> Iterator[str]:
    ends = [
        (label, end, found[:SHOWN_EIGENVALUES])
        for label, curvature in known
        for end, found in (("largest", curvature.largest), ("smallest", curvature.smallest))
    ]
    ends = [item for item in ends if item[2]]
    if not ends:
        return
    sure = next((value.confidence for _, _, found in ends for value in found if value.confidence is not None), None)
    wide = any("[" in _interval(value) for _, _, found in ends for value in found)
    head = "Eigenvalues of both ends"
    if sure and wide:
        head += f"; in brackets the {numbers.percent(sure, digits=2)} interval where it is wider than the digits"
    if any(_is_unbounded(value) for _, _, found in ends for value in found):
        head += f"; {_UNBOUNDED} marks one without an interval: the true one may lie further out"
    column = max(len(label) for label, _, _ in ends)
    lines = []
    for label, end, found in ends:
        indent = f"  {(label if end == 'largest' else '').ljust(column)}  {end.ljust(8)}  "
        said = ", ".join(_interval(value) for value in found)
        lines.append(textwrap.fill(said, width, initial_indent=indent, subsequent_indent=" " * len(indent)))
    yield "\n".join([textwrap.fill(head, width, subsequent_indent="  "), *lines]).replace(_KEEP, " ")


def _interval(found: Eigenvalue) -> str:
    """The interval where it differs from the value in the digits that are shown; a mark where there is none."""
    shown, low, high = (numbers.number(value, digits=4) for value in (found.value, found.lower, found.upper))
    if _is_unbounded(found):
        return f"{shown}{_UNBOUNDED}"
    if low == high:
        return shown
    return f"{shown}{_KEEP}[{low}{_KEEP}to{_KEEP}{high}]"


def _is_unbounded(found: Eigenvalue) -> bool:
    return found.value is not None and (found.lower is None or found.upper is None)


def _layers(known: Sequence[tuple[str, Curvature]]) -> Iterator[str]:
    """The float model's layers, or the first variant's: the largest trace first."""
    label, layers = next(((label, curvature.layers) for label, curvature in known if curvature.layers), ("", []))
    if not layers:
        return
    order = sorted(layers, key=lambda layer: -(layer.trace.value or 0.0))
    shown = order[:SHOWN_LAYERS]
    rows = [["layer", "parameters", "Tr H", "Tr H / n", "λmax"], *(_layer(layer) for layer in shown)]
    rows = [row if any(item.lambda_max for item in shown) else row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  "
        + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    rest = len(order) - len(shown)
    more = f"; {rest} more in the result" if rest > 0 else ""
    marked = any(item.lambda_max and _is_unbounded(item.lambda_max) for item in shown)
    mark = f"; {_UNBOUNDED} marks one without an interval" if marked else ""
    yield "\n".join([f"Curvature by layer, {label}{more}{mark}", *lines])


def _layer(layer: LayerCurvature) -> list[str]:
    trace, largest = layer.trace, layer.lambda_max or Eigenvalue()
    mean = None if trace.value is None else trace.value / max(layer.parameters, 1)
    name = layer.name if len(layer.name) <= 36 else f"…{layer.name[-35:]}"
    return [
        name, numbers.count(layer.parameters), numbers.with_error(trace.value, trace.standard_error),
        numbers.number(mean), numbers.number(largest.value) + (_UNBOUNDED if _is_unbounded(largest) else ""),
    ]  # fmt: skip
