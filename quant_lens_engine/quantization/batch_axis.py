"""On which axis the rows of the batch lie, inside modules that say so."""

from __future__ import annotations

from torch import nn


def batch_axes(model: nn.Module) -> dict[str, int]:
    """The batch's axis in the inputs of three axes of every module, by its name.

    It is 1 in attention, transformers and recurrent layers with ``batch_first=False``, and in the layers inside them.
    Elsewhere it is taken to be 0: a layer of a model's own that is given the sequence first is not recognised.

    Example:
        >>> axes = batch_axes(nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16), nn.Linear(8, 2)))
        >>> axes["0.self_attn"], axes["0.linear1"], axes["1"]
        (1, 1, 0)
    """
    axes: dict[str, int] = {}
    for name, module in model.named_modules():
        batch_first = _batch_first(module)
        inherited = axes.get(name.rpartition(".")[0], 0) if name else 0
        axes[name] = inherited if batch_first is None else int(not batch_first)
    return axes


def _batch_first(module: nn.Module) -> bool | None:
    """What a module says of itself; None where it says nothing."""
    told: object = None
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        told = getattr(module.self_attn, "batch_first", None)
    elif isinstance(module, nn.MultiheadAttention | nn.RNNBase | nn.Transformer):
        told = module.batch_first
    return told if isinstance(told, bool) else None
