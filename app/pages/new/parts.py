"""The state dicts of a training checkpoint, to choose from."""

from __future__ import annotations

from quant_lens_engine.schema import CheckpointInspection, numbers


def part_options(checkpoint: CheckpointInspection | None) -> list[dict[str, str]]:
    """An option for each part, the one that is used unless another is chosen marked.

    Example:
        >>> parts = [{"name": "model", "tensors": 2, "parameters": 30}, {"name": "ema", "tensors": 2, "parameters": 30}]
        >>> found = CheckpointInspection(format="torch", container="model", parts=parts)
        >>> [option["label"] for option in part_options(found)]
        ['model: 2 tensors, 30 parameters (used unless another is chosen)', 'ema: 2 tensors, 30 parameters']
    """
    if checkpoint is None:
        return []
    return [
        {
            "value": part.name,
            "label": f"{part.name}: {numbers.count(part.tensors)} tensors, {numbers.count(part.parameters)} parameters"
            + (f", fits {', '.join(part.fits)}" if part.fits else "")
            + (" (used unless another is chosen)" if part.name == checkpoint.container else ""),
        }
        for part in checkpoint.parts
    ]
