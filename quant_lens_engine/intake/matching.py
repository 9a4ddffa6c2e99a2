"""Which architecture a checkpoint belongs to, by keys and shapes; and where it does not fit, key by key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import ArchitectureError, CheckpointError, QuantLensError
from quant_lens_engine.intake.architectures import ARCHITECTURES, BUILT_IN, Architecture, Shapes, Source
from quant_lens_engine.intake.checkpoint import Checkpoint
from quant_lens_engine.intake.empty_model import built_empty
from quant_lens_engine.intake.graphs import BroughtNetwork
from quant_lens_engine.intake.graphs.refusals import EXPORT_CALL
from quant_lens_engine.schema import ArchitectureMatch, KeyDifference, digest

AUTO = "auto"
FROM_FILE = "from-file"
"""What the network is called that a file brings along."""

HEADS = frozenset({"fc", "linear", "head", "classifier", "lm_head", "score", "heads", "output"})
"""What the last layer of a network is usually called."""

_COUNTER = "num_batches_tracked"
"""It enters no computation, and nobody need be told."""

MAX_DIFFERENCES = 200
"""Differences listed one by one; all of them are counted."""


def match_architecture(
    found: Architecture,
    shapes: Shapes,
    options: Mapping[str, Any] | None = None,
    integers: Collection[str] = (),
) -> ArchitectureMatch:
    """How well one architecture fits, without memory for a weight: it is built on the meta device.

    Not every key must be on both sides: of a tied tensor one name is enough; a whole-number buffer (BatchNorm's
    ``num_batches_tracked``, ``position_ids``) may be absent, for the architecture makes its own, or be in the file
    alone, for nothing reads it. The match's notes say which.

    Args:
        found: the architecture.
        shapes: names and shapes of the checkpoint's tensors.
        options: of the architecture.
        integers: names of the checkpoint's tensors that hold whole numbers.
    """
    try:
        model = built_empty(lambda: found.build(shapes, **(options or {})))
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        own_numbers = {name for name, buffer in model.named_buffers() if not buffer.is_floating_point()}
        tied = _tied_names(model)
    except Exception as error:  # a builder may be anyone's code: what it raises is its answer
        reason = error.message if isinstance(error, QuantLensError) else f"{error.__class__.__name__}: {error}"
        return ArchitectureMatch(
            architecture=found.name, fits=False, matched=0, wanted=0, found=len(shapes), problem=reason[:300]
        )
    surplus = {key for key in shapes if key not in wanted and (key in integers or key.endswith(_COUNTER))}
    left = {key: shape for key, shape in shapes.items() if key not in surplus}
    lent = {key for names in tied for key in names if key not in left and any(name in left for name in names)}
    made = {key for key in own_numbers if key in wanted and key not in left}
    kept = {key: shape for key, shape in wanted.items() if key not in lent | made}
    match = _compare(found.name, left, kept, dict(options or {}))
    match.notes = _notes(tied, lent, surplus, made)
    return match


def rank_architectures(shapes: Shapes, integers: Collection[str] = ()) -> list[ArchitectureMatch]:
    """Every registered architecture, the best fit first.

    A plug-in that fits is what the team means: built-in families that fit as well are then left out.
    """
    matches = [match_architecture(ARCHITECTURES[name], shapes, None, integers) for name in sorted(ARCHITECTURES)]
    own = {match.architecture for match in matches if match.fits and not _is_built_in(match.architecture)}
    matches = [match for match in matches if not own or not match.fits or match.architecture in own]
    return sorted(matches, key=lambda match: (not match.fits, -_likeness(match), match.architecture))


def own_architecture(checkpoint: Checkpoint) -> Architecture | None:
    """The network that the file brings along, as an architecture; None where it brings none.

    Raises:
        CheckpointError: it cannot be put together; the reason is the graph's own.
    """
    network = checkpoint.network
    if checkpoint.named is not None:
        return checkpoint.named.architecture
    if network is None:
        return None
    try:
        with torch.device("meta"):
            network.build(checkpoint.shapes)
    except CheckpointError as error:
        raise error.about(checkpoint.filename) from None
    return Architecture(FROM_FILE, network.build, network.sentence, _source(network), network.check, network.libraries)


def _source(network: BroughtNetwork) -> Source:
    """The plug-in that supplied its class; of several, their names and one hash over all."""
    if not network.plugins:
        return Source()
    names, hashes = zip(*network.plugins, strict=True)
    return Source(", ".join(names), hashes[0] if len(hashes) == 1 else digest(network.plugins))


def choose_architecture(checkpoint: Checkpoint, name: str, options: Mapping[str, Any] | None = None) -> Architecture:
    """The architecture called ``name``, or for ``"auto"`` the one that fits; a file's own network comes first.

    Raises:
        ArchitectureError: ``unknown_architecture``; ``architecture_mismatch`` with the differences of the chosen or
            the nearest one in its details; ``no_architecture``; ``ambiguous_architecture``.
    """
    shapes, integers = checkpoint.shapes, checkpoint.integers
    own = own_architecture(checkpoint)
    if own is not None and name in (AUTO, FROM_FILE, own.name):
        return own
    if name == FROM_FILE:
        raise ArchitectureError(
            f"{checkpoint.filename} brings no network of its own", hint="choose an architecture, or leave it at auto",
            code="no_architecture",
        )  # fmt: skip
    if name != AUTO:
        chosen = ARCHITECTURES[name]
        match = match_architecture(chosen, shapes, options, integers)
        if not match.fits:
            raise _mismatch(checkpoint, match, rank_architectures(shapes, integers))
        return chosen
    ranked = rank_architectures(shapes, integers)
    if options:
        ranked = [match_architecture(ARCHITECTURES[item.architecture], shapes, options, integers) for item in ranked]
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
        ArchitectureError: ``architecture_mismatch``; ``tied_weights_differ``: the architecture has one tensor for
            several names, and the file has different ones.
        CheckpointError: ``fixed_batch``, of a file's own network.
    """
    match = match_architecture(chosen, checkpoint.shapes, options, checkpoint.integers)
    if not match.fits:
        raise _mismatch(checkpoint, match, [])
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn and then replaced
        model = chosen.build(checkpoint.shapes, **(options or {})).to(torch.float32)
    state = checkpoint.state_dict()
    _check_tied(checkpoint, chosen, _tied_names(model), state)
    # Match has compared every key, as modules name them today: some modules ask for the version of what they load.
    current = OrderedDict(state)
    current._metadata = model.state_dict()._metadata  # type: ignore[attr-defined]  # as torch does it
    model.load_state_dict(current, strict=False)
    model.eval()
    if chosen.check is not None:
        try:
            chosen.check(model)
        except CheckpointError as error:
            raise error.about(checkpoint.filename) from None
    return model


def loading_notes(
    checkpoint: Checkpoint, chosen: Architecture, options: Mapping[str, Any] | None = None
) -> list[str]:  # fmt: skip
    """What was tied, left aside or made anew when the weights were loaded, in sentences."""
    return match_architecture(chosen, checkpoint.shapes, options, checkpoint.integers).notes


def _tied_names(model: nn.Module) -> list[list[str]]:
    """Names in the state dict that stand for the same tensor."""
    names: dict[int, list[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _check_tied(
    checkpoint: Checkpoint, chosen: Architecture, tied: list[list[str]], state: Mapping[str, Tensor]
) -> None:  # fmt: skip
    for group in tied:
        first, *others = [name for name in group if name in state]
        for other in others:
            if not torch.equal(state[first], state[other]):
                raise ArchitectureError(
                    f"{checkpoint.filename}: {first} and {other} differ, but they are one tensor of {chosen.name}",
                    hint="the model was trained with untied weights: choose an architecture that keeps them apart",
                    code="tied_weights_differ",
                    details={"tensors": [first, other]},
                )


def _notes(tied: list[list[str]], lent: set[str], surplus: set[str], made: set[str]) -> list[str]:
    notes = [f"{' and '.join(group)} are one tensor." for group in tied if lent & set(group)]
    for keys, words in (
        ({key for key in surplus if not key.endswith(_COUNTER)}, "whole numbers that the architecture does not read"),
        ({key for key in made if not key.endswith(_COUNTER)}, "not in the file: the architecture's own are used"),
    ):
        if keys:
            shown = sorted(keys)
            notes.append(f"{', '.join(shown[:3])}{' …' if len(shown) > 3 else ''}: {words}.")
    return notes


def _is_built_in(name: str) -> bool:
    return ARCHITECTURES[name].source.name == BUILT_IN


def _compare(name: str, found: Shapes, wanted: Shapes, options: dict[str, Any]) -> ArchitectureMatch:
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
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


_OPTIONS = "check the architecture's options, or give a plug-in for this network"
_AS_GRAPH = f"bring the whole network as a graph without code: {EXPORT_CALL}"


def _mismatch(checkpoint: Checkpoint, match: ArchitectureMatch, others: list[ArchitectureMatch]) -> ArchitectureError:
    fitting = [other.architecture for other in others if other.fits]
    hint = f"these keys fit {', '.join(fitting)}" if fitting else _nearest_hint(others, match.architecture)
    return ArchitectureError(
        f"{checkpoint.filename} does not fit {match.architecture}: {_summary(match)}",
        hint=hint if fitting else f"{hint or _OPTIONS}; or {_AS_GRAPH}",
        details={"match": match.model_dump(mode="json"), "fitting": fitting},
    )


def _none_fits(checkpoint: Checkpoint, ranked: list[ArchitectureMatch]) -> ArchitectureError:
    nearest = ranked[0]
    return ArchitectureError(
        f"{checkpoint.filename} fits none of {len(ranked)} architectures; nearest is {nearest.architecture}: "
        + _summary(nearest),
        hint=("load a head with it: a body alone gives no class scores; or " if _lacks_head(nearest) else "")
        + "put a plug-in for this network into QUANT_LENS_PLUGINS (on the command line: --plugins); "
        f"examples/plugins/cifar_resnet.py shows one; or {_AS_GRAPH}",
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
    head = "; it is a body without its head" if _lacks_head(match) else ""
    return f"{match.matched} of {match.wanted} keys match, {', '.join(counts)} ({shown}){head}"


def _lacks_head(match: ArchitectureMatch) -> bool:
    """Whether all that is missing belongs to one of the usual heads, and everything else fits."""
    missing = {difference.key.split(".")[0] for difference in match.differences}
    return match.missing == len(match.differences) > 0 and len(missing) == 1 and missing <= HEADS


def _sentence(difference: KeyDifference) -> str:
    if difference.kind == "shape":
        return f"{difference.key} is {difference.found}, wanted {difference.wanted}"
    return f"{difference.key} {difference.found or difference.wanted} is {difference.kind}"
