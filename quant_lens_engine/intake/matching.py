"""Which architecture a checkpoint belongs to, by keys and shapes; and where it does not fit, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from quant_lens_engine.errors import ArchitectureError, QuantLensError
from quant_lens_engine.intake.architectures import ARCHITECTURES, Architecture, Shapes
from quant_lens_engine.intake.checkpoint import Checkpoint
from quant_lens_engine.schema import ArchitectureMatch, KeyDifference

AUTO = "auto"
MAX_DIFFERENCES = 200
"""Differences listed one by one; all of them are counted."""


def match_architecture(
    found: Architecture, shapes: Shapes, options: Mapping[str, Any] | None = None
) -> ArchitectureMatch:
    """How well one architecture fits, without memory for a weight: it is built on the meta device.

    A counter such as BatchNorm's ``num_batches_tracked`` may be absent from the checkpoint: it enters no computation.
    """
    try:
        with torch.device("meta"):
            model = found.build(shapes, **(options or {}))
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        counters = {
            name for name, tensor in model.named_buffers() if not tensor.is_floating_point() and not tensor.ndim
        }
    except Exception as error:  # a builder may be anyone's code: what it raises is its answer
        reason = error.message if isinstance(error, QuantLensError) else f"{error.__class__.__name__}: {error}"
        return ArchitectureMatch(
            architecture=found.name, fits=False, matched=0, wanted=0, found=len(shapes), problem=reason[:300]
        )
    return _compare(found.name, shapes, wanted, counters, dict(options or {}))


def rank_architectures(shapes: Shapes) -> list[ArchitectureMatch]:
    """Every registered architecture, the best fit first."""
    matches = [match_architecture(ARCHITECTURES[name], shapes) for name in sorted(ARCHITECTURES)]
    return sorted(matches, key=lambda match: (not match.fits, -_likeness(match), match.architecture))


def choose_architecture(checkpoint: Checkpoint, name: str, options: Mapping[str, Any] | None = None) -> Architecture:
    """The architecture called ``name``, or for ``"auto"`` the one that fits.

    Raises:
        ArchitectureError: ``unknown_architecture``; ``architecture_mismatch`` with the differences of the chosen or
            the nearest one in its details; ``no_architecture``; ``ambiguous_architecture``.
    """
    shapes = checkpoint.shapes
    if name != AUTO:
        chosen = ARCHITECTURES[name]
        match = match_architecture(chosen, shapes, options)
        if not match.fits:
            raise _mismatch(checkpoint, match, rank_architectures(shapes))
        return chosen
    ranked = rank_architectures(shapes)
    if options:
        ranked = [match_architecture(ARCHITECTURES[match.architecture], shapes, options) for match in ranked]
    fitting = [match.architecture for match in ranked if match.fits]
    if len(fitting) == 1:
        return ARCHITECTURES[fitting[0]]
    if not fitting:
        raise _none_fits(checkpoint, ranked)
    raise ArchitectureError(
        f"{checkpoint.filename}: several architectures fit: {', '.join(fitting)}",
        hint="choose one: equal keys do not say which activation or attention is meant",
        code="ambiguous_architecture",
        details={"architectures": fitting},
    )


def build_model(checkpoint: Checkpoint, chosen: Architecture, options: Mapping[str, Any] | None = None) -> nn.Module:
    """The architecture with the checkpoint's weights, on the CPU, in float32, in ``eval()`` mode.

    Raises:
        ArchitectureError: ``architecture_mismatch``.
    """
    match = match_architecture(chosen, checkpoint.shapes, options)
    if not match.fits:
        raise _mismatch(checkpoint, match, [])
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then replaced
        model = chosen.build(checkpoint.shapes, **(options or {})).to(torch.float32)
    model.load_state_dict(checkpoint.state_dict(), strict=False)  # match has compared every key
    return model.eval()


def _compare(
    name: str, found: Shapes, wanted: Shapes, counters: set[str], options: dict[str, Any]
) -> ArchitectureMatch:
    wanted = {key: shape for key, shape in wanted.items() if key in found or key not in counters}
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted and not key.endswith("num_batches_tracked")]
    other = [key for key in wanted if key in found and tuple(found[key]) != wanted[key]]
    differences = [_difference("shape", key, found, wanted) for key in other]
    differences += [_difference("missing", key, found, wanted) for key in missing]
    differences += [_difference("unexpected", key, found, wanted) for key in unexpected]
    return ArchitectureMatch(
        architecture=name,
        fits=not differences,
        matched=len(wanted) - len(missing) - len(other),
        wanted=len(wanted),
        found=len(found),
        missing=len(missing),
        unexpected=len(unexpected),
        shape_differs=len(other),
        differences=differences[:MAX_DIFFERENCES],
        options=options,
    )


def _difference(kind: Any, key: str, found: Shapes, wanted: Shapes) -> KeyDifference:
    return KeyDifference(
        key=key,
        found=list(found[key]) if key in found else None,
        wanted=list(wanted[key]) if key in wanted else None,
        kind=kind,
    )


def _likeness(match: ArchitectureMatch) -> float:
    """Matched keys over all keys of either side: 1 for a fit."""
    every = match.wanted + match.unexpected
    return match.matched / every if every else 0.0


def _mismatch(checkpoint: Checkpoint, match: ArchitectureMatch, others: list[ArchitectureMatch]) -> ArchitectureError:
    fitting = [other.architecture for other in others if other.fits]
    hint = f"these keys fit {', '.join(fitting)}" if fitting else _nearest_hint(others, match.architecture)
    return ArchitectureError(
        f"{checkpoint.filename} does not fit {match.architecture}: {_summary(match)}",
        hint=hint or "check the architecture's options, or give a plug-in for this network",
        details={"match": match.model_dump(mode="json"), "fitting": fitting},
    )


def _none_fits(checkpoint: Checkpoint, ranked: list[ArchitectureMatch]) -> ArchitectureError:
    nearest = ranked[0]
    return ArchitectureError(
        f"{checkpoint.filename} fits none of {len(ranked)} architectures; nearest is {nearest.architecture}: "
        + _summary(nearest),
        hint="put a plug-in for this network into QUANT_LENS_PLUGINS (on the command line: --plugins); "
        "examples/plugins/cifar_resnet.py shows one",
        code="no_architecture",
        details={"candidates": [match.model_dump(mode="json") for match in ranked[:3]]},
    )


def _nearest_hint(others: list[ArchitectureMatch], chosen: str) -> str:
    near = [match for match in others if match.architecture != chosen and match.matched][:2]
    return "nearest: " + ", ".join(f"{m.architecture} ({m.matched}/{m.wanted} keys)" for m in near) if near else ""


def _summary(match: ArchitectureMatch) -> str:
    if match.problem is not None:
        return f"it cannot be built from these tensors ({match.problem})"
    counts = [
        f"{count} {word}"
        for count, word in (
            (match.shape_differs, "of another shape"), (match.missing, "missing"), (match.unexpected, "unexpected"),
        )
        if count
    ]  # fmt: skip
    shown = "; ".join(_sentence(difference) for difference in match.differences[:3])
    return f"{match.matched} of {match.wanted} keys match, {', '.join(counts)} ({shown})"


def _sentence(difference: KeyDifference) -> str:
    if difference.kind == "shape":
        return f"{difference.key} is {difference.found}, wanted {difference.wanted}"
    return f"{difference.key} {difference.found or difference.wanted} is {difference.kind}"
