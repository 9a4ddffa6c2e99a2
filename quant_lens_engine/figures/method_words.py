"""How losses of lines and planes were come by, where they were not each computed in the plain way."""

from __future__ import annotations

import re
from collections.abc import Sequence

from quant_lens_engine.schema import Plane

_WITH_CHANGE = re.compile(r"(?P<kind>.*) by (?P<change>[0-9.]+(?:e[+-]?[0-9]+)?)")
"""A method whose sentence ends with the change that it was measured to make."""


def sentence(text: str) -> str:
    """With a capital and a full stop; empty stays empty.

    Example:
        >>> sentence("activations in int8"), sentence("")
        ('Activations in int8.', '')
    """
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def measured_words(plane: Plane) -> str:
    """How many points were measured and how many are interpolated, with the stated error; empty: all were measured.

    Example:
        >>> measured_words(Plane(landscape="smooth", estimated=[[False, True, False]], estimate_error=0.018,
        ...     estimate_checks=7, betas=[-1, 0, 1], measured_rows=[0]))
        '2 points were measured; 1 of 3 points is interpolated along β, within about 1.8 % of the loss by 7 checks.'
    """
    if not plane.estimates or plane.estimated is None:
        return ""
    measured = sum(not estimated for row in plane.measured_rows for estimated in plane.estimated[row])
    verb = "point was" if measured == 1 else "points were"
    return f"{measured} {verb} measured; {plane.estimates}."


def method_words(methods: Sequence[tuple[str, str]]) -> str:
    """Each method once, after the variants that it was used for; without their names where it is that of all. Of those
    that differ in the change they measured alone, the largest change is said.

    Args:
        methods: a variant and its method; empty: none.

    Example:
        >>> method_words([("FP32", "folded"), ("int8", "folded")])
        'Folded.'
        >>> method_words([("FP32", "folded"), ("int8", "channels last"), ("int4", "folded"), ("int2", "")])
        'FP32, int4: folded. int8: channels last.'
        >>> method_words([("FP32", "folded, which moves L by 2.7e-09"), ("int8", "folded, which moves L by 1.2e-08")])
        'Folded, which moves L by at most 1.2e-08.'
    """
    changes: dict[str, list[str]] = {}
    users: dict[str, list[str]] = {}
    for name, method in methods:
        found = _WITH_CHANGE.fullmatch(method.rstrip("."))
        kind = found["kind"] if found else method.rstrip(".")
        users.setdefault(kind, []).append(name)
        changes.setdefault(kind, []).extend([found["change"]] if found else [])
    said = {kind: f"{kind}{_largest(changes[kind])}" for kind in users}
    if len(said) == 1:
        return sentence(next(iter(said.values())))
    return " ".join(f"{', '.join(users[kind])}: {words}." for kind, words in said.items() if kind)


def _largest(changes: Sequence[str]) -> str:
    if not changes:
        return ""
    return f" by {'at most ' if len(set(changes)) > 1 else ''}{max(changes, key=float)}"
