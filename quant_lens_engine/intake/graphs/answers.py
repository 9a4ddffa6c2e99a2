"""Which of a graph's answers is measured: the rule of :func:`quant_lens_engine.objective.model_call.logits_of`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.graphs.refusals import EXPORT_CALL, bad_graph
from quant_lens_engine.objective.model_call import name_of_scores

_ALONE = "answer with the scores alone, or call them 'logits' in the dict, and export it once more: " + EXPORT_CALL
_MAX_SPEC_CHARS = 1 << 20


class Answer(NamedTuple):
    """The value that is measured.

    Attributes:
        place: of it among the graph's outputs, from 0.
        note: what a reader should know of the others; empty where there are none.
    """

    place: int
    note: str


def measured_answer(spec: Any, are_tensors: Sequence[bool]) -> Answer:
    """The output that is measured, by the structure that ``torch.export`` has noted.

    Args:
        spec: pytree's own text of the structure; None where the file has none.
        are_tensors: of every output, in order, whether it is a tensor.

    Raises:
        CheckpointError: ``bad_output``: a dict of several tensors, none of which is called ``logits`` or ``out``;
            ``bad_graph``: no tensor at all, or a structure that is malformed.

    Example:
        >>> leaf = '{"type": null, "context": null, "children_spec": []}'
        >>> keys = '"context": ["features", "logits"]'
        >>> spec = f'[1, {{"type": "builtins.dict", {keys}, "children_spec": [{leaf}, {leaf}]}}]'
        >>> measured_answer(spec, [True, True])
        Answer(place=1, note="It answers with 2 values (features, logits): 'logits' is measured.")
        >>> measured_answer(None, [True, True])
        Answer(place=0, note='It answers with 2 values without names: the first is measured.')
    """
    if not any(are_tensors):
        raise bad_graph("it answers nothing")
    if spec is None:
        return _first(are_tensors)
    if not isinstance(spec, str) or len(spec) > _MAX_SPEC_CHARS:
        raise bad_graph("the structure of its answer is malformed")
    try:
        _, tree = json.loads(spec)
        paths = list(_leaves(tree))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise bad_graph("the structure of its answer is malformed") from None
    if len(paths) != len(are_tensors):
        raise bad_graph(f"its answer has the structure of {len(paths)} values, and it answers with {len(are_tensors)}")
    leaves = [(place, path) for place, path in enumerate(paths) if are_tensors[place]]
    return _among(leaves, 0, "")


def measured_output(names: Sequence[str], hint: str = _ALONE) -> Answer:
    """The output that is measured where every one has a name, as in ONNX.

    Args:
        names: in order, one at least.
        hint: how to name the scores, where none is known to be.

    Raises:
        CheckpointError: ``bad_output``: several, and none is called ``logits`` or ``out``. Exporters make up names for
            what the model has not named, so a name says nothing but what it is.

    Example:
        >>> measured_output(["features", "logits"]).place, measured_output(["y"])
        (1, Answer(place=0, note=''))
    """
    found = name_of_scores(names)
    if found is None:
        raise no_scores(names, hint)
    return Answer(list(names).index(found), _said(names, found))


def no_scores(names: Sequence[str], hint: str = _ALONE) -> CheckpointError:
    """The error of several named answers, none of which is known to be the scores."""
    shown = ", ".join(repr(name[:80]) for name in names[:8])
    return CheckpointError(
        f"it answers with {len(names)} values ({shown}), and none is called 'logits'",
        hint=hint,
        code="bad_output",
        details={"keys": [name[:200] for name in names[:50]]},
    )


def unnamed(count: int) -> str:
    """The note on several answers without names; empty where there is one."""
    return "" if count < 2 else f"It answers with {count} values without names: the first is measured."


def _leaves(tree: Any, path: tuple[str | int, ...] = ()) -> Any:
    """The path of every leaf: keys of dicts are text, places in a tuple are numbers."""
    children = tree["children_spec"]
    if tree["type"] is None:
        yield path
        return
    keys = _keys(tree["context"], len(children))
    for key, child in zip(keys, children, strict=True):
        yield from _leaves(child, (*path, key))


def _keys(context: Any, count: int) -> Sequence[str | int]:
    known = json.loads(context) if isinstance(context, str) and context[:1] in "[{" else context
    if isinstance(known, dict):  # of a defaultdict
        known = next((value for value in known.values() if isinstance(value, list)), None)
    if isinstance(known, list) and len(known) == count and all(type(key) is str for key in known):
        return known
    return range(count)


def _among(leaves: Sequence[tuple[int, tuple[str | int, ...]]], depth: int, note: str) -> Answer:
    """Step by step into the structure: a dict by the rule, a tuple to its first."""
    if len(leaves[0][1]) == depth:
        return Answer(leaves[0][0], note)
    keys = list(dict.fromkeys(path[depth] for _, path in leaves))
    chosen: str | int | None = keys[0]
    if isinstance(chosen, str):
        alone = [path[depth] for _, path in leaves if len(path) == depth + 1]
        chosen = name_of_scores([str(key) for key in alone])
        if chosen is None and len(keys) > 1:
            raise no_scores([str(key) for key in keys])
        chosen = keys[0] if chosen is None else chosen
        said = _said([str(key) for key in keys], str(chosen))
    else:
        said = unnamed(len(keys))
    return _among([leaf for leaf in leaves if leaf[1][depth] == chosen], depth + 1, note or said)


def _first(are_tensors: Sequence[bool]) -> Answer:
    return Answer(list(are_tensors).index(True), unnamed(sum(are_tensors)))


def _said(names: Sequence[str], chosen: str) -> str:
    if len(names) < 2:
        return ""
    shown = ", ".join(name[:40] for name in names[:8])
    return f"It answers with {len(names)} values ({shown}): {chosen[:40]!r} is measured."
