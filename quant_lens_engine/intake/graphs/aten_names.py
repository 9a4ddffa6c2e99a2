"""What a file's tensors are called in the module: as the user knows them, but where a layer needs room for its name."""

from __future__ import annotations

from collections.abc import Iterable

from quant_lens_engine.intake.graphs.aten_records import Program, Reference

_PROJECTION = "in_proj_weight"


def names_of(program: Program, stored: Iterable[str]) -> dict[str, str]:
    """The module's name of each tensor of the file.

    They are the file's, with two exceptions. The joined projections of an attention (``attn.in_proj_weight``) become a
    linear layer ``attn.in_proj`` where the graph uses them as one, so that they are rounded as those of
    ``nn.MultiheadAttention`` are. And a network that is one layer has tensors without a path: they go under ``model``.
    """
    names = {name: name for name in stored}
    for weight in _projections(program):
        for role in ("weight", "bias"):
            old = f"{weight.removesuffix('weight')}{role}"
            new = f"{weight.removesuffix('_weight')}.{role}"
            if old in names and new not in names:
                names[old] = new
    if names and all("." not in name for name in names):
        return {name: f"model.{name}" for name in names}
    return names


def _projections(program: Program) -> list[str]:
    """Joined projections that are read whole by linear layers, and by nothing else."""
    found: set[str] = set()
    other: set[str] = set()
    for operation in program.operations:
        for argument, value in operation.arguments.items():
            for item in value if isinstance(value, list) else [value]:
                name = program.tensors.get(item.name, "") if isinstance(item, Reference) else ""
                if name.rpartition(".")[2] != _PROJECTION:
                    continue
                whole = operation.target == "torch.ops.aten.linear.default" and argument == "weight"
                (found if whole else other).add(name)
    return sorted(found - other)
