"""Which files of a repository come: weights, and what says how they are read. Never code, whatever the rest is."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.schema.hugging_face_folder import SLOW_TOKENIZERS

_DESCRIPTIONS = (
    "config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_ALONE = (".gguf", ".onnx", ".pt2")
"""Weights that bring their description along."""
_WEIGHTS = re.compile(r".*\.(safetensors|bin|gguf|onnx|pt2?|pth|ckpt|h5|msgpack|npz|tflite)")
_CONVERT = "convert it: AutoModel….from_pretrained('ID').save_pretrained('folder'), then upload a zip of the folder"


def chosen_files(names: Collection[str]) -> Sequence[str]:
    """The files that are fetched, sorted: those at the top of the repository whose names are on the list.

    One ``.safetensors``, or a numbered series with its index, goes before ``pytorch_model.bin``, and that before a lone
    GGUF, ONNX or ``.pt2`` file.

    Args:
        names: of all files in the repository.

    Raises:
        CheckpointError: ``no_weights``, ``several_weights``.

    Example:
        >>> chosen_files({"model.safetensors", "pytorch_model.bin", "config.json", "modeling_x.py", "onnx/model.onnx"})
        ['config.json', 'model.safetensors']
    """
    top = {name for name in names if "/" not in name}
    weights = _weights(top, names)
    if weights[0].endswith(_ALONE):
        return weights
    beside = {name for name in _DESCRIPTIONS if name in top}
    if "tokenizer.json" not in top:
        beside |= {name for name in SLOW_TOKENIZERS if name in top}
    return sorted({*weights, *beside})


def is_weights(name: str) -> bool:
    """Whether a chosen file holds tensors.

    Example:
        >>> is_weights("model.safetensors"), is_weights("model.safetensors.index.json")
        (True, False)
    """
    return _WEIGHTS.fullmatch(name) is not None


def _weights(top: set[str], names: Collection[str]) -> Sequence[str]:
    for only in ("model.safetensors", "adapter_model.safetensors"):
        if only in top:
            return [only]
    found = (
        _series(top, "model", ".safetensors")
        or _lone(top, ".safetensors")
        or [name for name in ("pytorch_model.bin",) if name in top]
        or _series(top, "pytorch_model", ".bin")
        or next(filter(None, (_lone(top, suffix) for suffix in _ALONE)), [])
    )
    if not found:
        raise _no_weights(names)
    return found


def _lone(top: set[str], suffix: str) -> list[str]:
    found = sorted(name for name in top if name.endswith(suffix))
    if len(found) > 1:
        raise CheckpointError(
            f"the repository has {len(found)} models beside each other: {', '.join(found[:4])}",
            hint="download the one that is meant, and upload it",
            code="several_weights",
        )
    return found


def _series(top: set[str], stem: str, suffix: str) -> list[str]:
    number = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}{re.escape(suffix)}")
    found = sorted(filter(number.fullmatch, top))
    index = f"{stem}{suffix}.index.json"
    return [*found, *([index] if index in top else [])] if found else []


def _no_weights(names: Collection[str]) -> CheckpointError:
    there = sorted(name for name in names if is_weights(name)) or sorted(names)
    shown = f"there are {', '.join(there[:4])}" if there else "it is empty"
    return CheckpointError(
        f"the repository has no weights that are read here; {shown}", hint=_CONVERT, code="no_weights"
    )
