"""The rows of a plane that are not measured, yet or at all: their frame, and the line where measured ones end."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from quant_lens_engine.figures.tokens import GROUND, TICK_SIZE, Mode
from quant_lens_engine.schema import Plane


def measured_front(plane: Plane, mode: Mode) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Shapes and words: a frame for the missing rows, a line where measured ones end, and how many are missing."""
    if plane.complete:
        return [], []
    ground, done, alphas = GROUND[mode], set(plane.measured_rows), plane.alphas
    shapes, notes = [], []
    half = (alphas[1] - alphas[0]) / 2 if len(alphas) > 1 else 0.5
    for measured, group in groupby(range(len(alphas)), key=done.__contains__):
        rows = list(group)
        left, right = alphas[rows[0]] - half, alphas[rows[-1]] + half
        if measured:
            continue
        shapes.append(
            {"type": "rect", "x0": max(left, alphas[0]), "x1": min(right, alphas[-1]), "y0": plane.betas[0],
             "y1": plane.betas[-1], "line": {"width": 1, "color": ground.strong, "dash": "3px,3px"}}
        )  # fmt: skip
        for edge, row in ((left, rows[0] - 1), (right, rows[-1] + 1)):
            if row in done:
                shapes.append(
                    {"type": "line", "x0": edge, "x1": edge, "y0": plane.betas[0], "y1": plane.betas[-1],
                     "line": {"width": 2, "color": ground.accent}}
                )  # fmt: skip
        if len(rows) >= len(alphas) / 4:
            words = f"{len(rows)} rows<br>not measured"
            notes.append(
                {"x": (left + right) / 2, "y": plane.betas[-1], "text": words, "yanchor": "top", "yshift": -8,
                 "showarrow": False, "font": {"size": TICK_SIZE, "color": ground.muted}}
            )  # fmt: skip
    return shapes, notes
