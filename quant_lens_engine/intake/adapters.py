"""LoRA adapters, as PEFT saves them, merged into the weights they were trained on.

An adapter is a folder, or a stored zip of one, with ``adapter_config.json`` and one safetensors file. Of each layer it
holds A ``(r, in)`` and B ``(out, r)``; the merged weight is W + (α / r) B A (Hu et al., LoRA, 2021), with α / √r where
the configuration says ``use_rslora`` (Kalajdzievski 2023). https://huggingface.co/docs/peft
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.checkpoint import Checkpoint
from quant_lens_engine.intake.formats import member_bytes
from quant_lens_engine.intake.formats.layout import StoredTensor, non_finite, read_tensors
from quant_lens_engine.intake.formats.safetensors import parse_object
from quant_lens_engine.intake.formats.sharded_safetensors import SAFETENSORS
from quant_lens_engine.intake.formats.shards import ZIP_HINT, read_shards
from quant_lens_engine.intake.tree import Tree, open_tree
from quant_lens_engine.intake.zip_archive import UnsoundArchiveError

CONFIG = "adapter_config.json"
SAVE_ADAPTER_HINT = (
    "save it with PEFT: model.save_pretrained('adapter'), and give that folder, or a zip of it without compression"
)
"""What an adapter is, in one line."""

_MAX_CONFIG_BYTES = 1 << 20
_WRAPPERS = ("base_model.model.", "base_model.")
_FACTOR = re.compile(r"(?P<layer>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(\.default)?(\.weight)?")
_PLAIN_NAME = re.compile(r"[\w.]+")
_OTHER_METHODS = (
    "use_dora", "megatron_config", "loftq_config", "eva_config", "corda_config", "alora_invocation_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class LowRank:
    """The change of one weight, as its two factors and their scale.

    Attributes:
        weight: the name of the weight in the base's state dict.
        a: ``(r, in)``; of a convolution ``(r, in, height, width)``; of an embedding ``(r, rows)``.
        b: ``(out, r)``; of a convolution ``(out, r, 1, 1)``; of an embedding ``(columns, r)``.
        scale: α / r, or α / √r.
        transposed: the change is that of the weight's transpose (embeddings, ``fan_in_fan_out``).
    """

    weight: str
    a: StoredTensor
    b: StoredTensor
    scale: float
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight that it changes."""
        rows, columns = self.b.shape[0], self.a.shape[1]
        return (columns, rows) if self.transposed else (rows, columns, *self.a.shape[2:])

    def merged(self, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``weight`` with the change, computed in float64 and rounded once to float32 (or kept in float64)."""
        change = b.double().flatten(1) @ a.double().flatten(1)
        change = change.T if self.transposed else change.reshape(self.shape)
        return (weight.double() + self.scale * change).to(torch.promote_types(weight.dtype, torch.float32))


@dataclass(frozen=True)
class Adapter:
    """An adapter whose tensors have been found, not read.

    Attributes:
        path: the folder or zip.
        filename: what its owner calls it.
        changes: of the weights, in the order of the file.
        replaced: whole tensors that were trained beside them (``modules_to_save``), by the base's names.
        rank: the largest.
    """

    path: Path
    filename: str
    changes: tuple[LowRank, ...]
    replaced: Mapping[str, StoredTensor]
    rank: int


@dataclass(frozen=True)
class MergedCheckpoint(Checkpoint):
    """A checkpoint whose weights are read with an adapter merged into them."""

    adapter: Adapter | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """The base's tensors, changed where the adapter says so."""
        state = super().state_dict()
        assert self.adapter is not None
        for change in self.adapter.changes:
            factors = read_tensors(self.adapter.path, {"a": change.a, "b": change.b})
            changed = change.merged(state[change.weight], factors["a"], factors["b"])
            state |= dict.fromkeys(self._names_of(change.weight), changed)
        for name, value in read_tensors(self.adapter.path, self.adapter.replaced).items():
            state |= dict.fromkeys(self._names_of(name), value)
        return state

    def _names_of(self, name: str) -> list[str]:
        """All names of one tensor of the base: of tied weights, which are changed together."""
        return [other for other, stored in self.tensors.items() if stored == self.tensors[name]]

    def non_finite(self) -> list[str]:
        """Names of the base's tensors, and of the weights whose change holds NaN or infinity."""
        assert self.adapter is not None
        path, found = self.adapter.path, super().non_finite()
        for change in self.adapter.changes:
            if non_finite(path, {"a": change.a, "b": change.b}) and change.weight not in found:
                found.append(change.weight)
        return found + non_finite(path, self.adapter.replaced)


def merge_adapter(base: Checkpoint, adapter: Adapter) -> MergedCheckpoint:
    """``base`` with the adapter's changes; nothing is read yet.

    Raises:
        CheckpointError: ``adapter_mismatch``: a weight that the base has not, or of another shape.
    """
    adapter = _with_names_of(base, adapter)
    for change in adapter.changes:
        _check_fit(base, adapter, change.weight, change.shape)
    for name, stored in adapter.replaced.items():
        _check_fit(base, adapter, name, stored.shape)
    scales = sorted({change.scale for change in adapter.changes})
    span = " to ".join(f"{scale:g}" for scale in ((scales[0], scales[-1]) if len(scales) > 1 else scales))
    note = f"A LoRA adapter is merged: {len(adapter.changes)} weights, rank {adapter.rank}, scale {span}."
    notes = [note, *([f"The adapter replaces {', '.join(adapter.replaced)}."] if adapter.replaced else [])]
    known = {field.name: getattr(base, field.name) for field in fields(base)}
    return MergedCheckpoint(**known | {"notes": (*base.notes, *notes)}, adapter=adapter)


def read_adapter(path: Path, filename: str) -> Adapter:
    """Find an adapter's factors and their scales.

    Raises:
        CheckpointError: ``bad_adapter``: no LoRA adapter, or one of a kind that cannot be merged by a formula; what a
            safetensors file is refused for.
    """
    try:
        tree = open_tree(path)
    except UnsoundArchiveError as error:
        raise CheckpointError(f"{filename}: not a sound archive: {error}", hint=ZIP_HINT, code="bad_zip") from None
    configs = [name for name in tree.sizes if PurePosixPath(name).name == CONFIG]
    if len(configs) != 1:
        raise _bad(filename, f"it has {'no' if not configs else len(configs)} {CONFIG}")
    config = _configuration(tree, configs[0], filename)
    tensors = read_shards(tree, path, SAFETENSORS).tensors
    factors: dict[str, dict[str, StoredTensor]] = {}
    replaced: dict[str, StoredTensor] = {}
    for key, stored in tensors.items():
        if match := _FACTOR.fullmatch(key):
            kind = ("embedding " if match["embedding"] else "") + match["factor"]
            factors.setdefault(_base_name(match["layer"]), {})[kind] = stored
        elif "lora_" in key:
            raise _bad(filename, f"it holds {key!r}, which plain LoRA has not")
        else:
            replaced[_base_name(key).replace(".modules_to_save.default.", ".").replace(".original_module.", ".")] = (
                stored
            )
    if not factors:
        raise _bad(filename, "it has no lora_A and lora_B")
    changes = tuple(_change(layer, found, config, filename) for layer, found in factors.items())
    return Adapter(path, filename, changes, replaced, max(change.a.shape[0] for change in changes))


def _configuration(tree: Tree, name: str, filename: str) -> Mapping[str, Any]:
    if tree.sizes[name] > _MAX_CONFIG_BYTES:
        raise _bad(filename, f"its {CONFIG} has {tree.sizes[name]} bytes")
    config = parse_object(member_bytes(tree, name, _MAX_CONFIG_BYTES), CONFIG)
    if config.get("peft_type") != "LORA":
        raise _bad(filename, f"its peft_type is {str(config.get('peft_type'))[:40]!r}, not LORA")
    other = [option for option in _OTHER_METHODS if config.get(option)]
    if other:
        raise _bad(filename, f"it was trained with {other[0]}, which is more than W + scale · B A")
    return config


def _change(layer: str, found: Mapping[str, StoredTensor], config: Mapping[str, Any], filename: str) -> LowRank:
    embedding = "embedding A" in found
    a, b = (found.get(("embedding " if embedding else "") + factor) for factor in "AB")
    if a is None or b is None:
        raise _bad(filename, f"of {layer} it holds only one of the two factors")
    axes = {(2, 2), (4, 4)}
    outer = b.shape[2:] in ((), (1, 1))
    if (len(a.shape), len(b.shape)) not in axes or not outer or a.shape[0] != b.shape[1] or not a.shape[0]:
        raise _bad(filename, f"the factors of {layer} have the shapes {list(a.shape)} and {list(b.shape)}")
    if not (a.dtype.is_floating_point and b.dtype.is_floating_point):
        raise _bad(filename, f"the factors of {layer} hold {a.dtype} and {b.dtype}")
    rank = a.shape[0]
    wanted = _of_layer(layer, config.get("rank_pattern"), config.get("r"), "rank_pattern", filename)
    if wanted != rank:
        raise _bad(filename, f"the factors of {layer} have the rank {rank}, its configuration says {wanted}")
    alpha = _of_layer(layer, config.get("alpha_pattern"), config.get("lora_alpha"), "alpha_pattern", filename)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise _bad(filename, f"its lora_alpha is {str(alpha)[:40]!r}, no number")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    transposed = embedding or bool(config.get("fan_in_fan_out"))
    return LowRank(f"{layer}.weight", a, b, scale, transposed)


def _of_layer(layer: str, pattern: Any, default: Any, what: str, filename: str) -> Any:
    """The value for a layer: of the first pattern that its name ends with, as PEFT reads plain names."""
    for name, value in (pattern or {}).items() if isinstance(pattern, dict) else ():
        if not _PLAIN_NAME.fullmatch(name):
            raise _bad(filename, f"its {what} names layers by the expression {name[:60]!r}")
        if layer == name or layer.endswith("." + name):
            return value
    return default


def _base_name(name: str) -> str:
    wrapper = next((wrapper for wrapper in _WRAPPERS if name.startswith(wrapper)), "")
    return name.removeprefix(wrapper)


def _with_names_of(base: Checkpoint, adapter: Adapter) -> Adapter:
    """The adapter under the base's names, where one of the two was saved without its head: a class of transformers has
    its body under a prefix (``bert.``) there, and not here."""
    prefix = "" if base.named is None else base.named.prefix
    if not prefix:
        return adapter

    def known(name: str) -> str:
        choices = (name, f"{prefix}.{name}", name.removeprefix(prefix + "."))
        return next((choice for choice in choices if choice in base.tensors), name)

    return replace(
        adapter,
        changes=tuple(replace(change, weight=known(change.weight)) for change in adapter.changes),
        replaced={known(name): stored for name, stored in adapter.replaced.items()},
    )


def _check_fit(base: Checkpoint, adapter: Adapter, name: str, shape: tuple[int, ...]) -> None:
    stored = base.tensors.get(name)
    if stored is not None and stored.shape == shape and stored.dtype.is_floating_point:
        return
    if stored is None:
        near = difflib.get_close_matches(name, base.tensors, n=2)
        found = "has no such tensor" + (f"; near are {', '.join(near)}" if near else "")
    elif stored.shape != shape:
        found = f"has it with the shape {list(stored.shape)}"
    else:
        found = f"holds {stored.dtype} there"
    raise CheckpointError(
        f"{adapter.filename} changes {name} of shape {list(shape)}; {base.filename} {found}",
        hint="an adapter goes with the very model that it was trained on: give that one",
        code="adapter_mismatch",
        details={"tensor": name, "wanted": list(shape), "found": None if stored is None else list(stored.shape)},
    )


def _bad(filename: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{filename} is no LoRA adapter that can be merged: {reason}", hint=SAVE_ADAPTER_HINT, code="bad_adapter"
    )
