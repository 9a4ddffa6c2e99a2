"""GGUF, llama.cpp's format, for the architecture Llama: codes are read as the float numbers that they stand for.

Tensors get the names that transformers' LlamaForCausalLM has for them. llama.cpp stores the rows of query and key
projections in another order (its rotary embedding turns neighbours, transformers' turns halves): they are put back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.formats import FORMATS, CheckpointFormat
from quant_lens_engine.intake.formats.gguf_header import GgufHeader, PlacedTensor, bad_gguf, read_header
from quant_lens_engine.intake.formats.layout import Contents, EncodedTensor, StoredTensor, element_count
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.optional_library import import_optional

_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INNER = {
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_LAYER = re.compile(r"blk\.(?P<layer>\d{1,6})\.(?P<part>\w+)\.(?P<what>weight|bias)")
_SETTINGS = {
    "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "intermediate_size": "feed_forward_length", "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
}  # fmt: skip
"""What transformers' configuration calls what GGUF says of a Llama; all are needed."""


def _read(given: GivenFile) -> Contents:
    header = read_header(given.path)
    family = header.values.get("general.architecture")
    if family != "llama":
        raise _unknown(header, f"the architecture {str(family)[:40]!r}, which is not known here (llama is)")
    config = _config(header)
    tensors: dict[str, StoredTensor] = {}
    foreign = []
    for name, placed in header.tensors.items():
        known = _known_name(name)
        if known is None:
            foreign.append(name)
        else:
            tensors[known] = _stored(known, placed, config)
    if foreign:
        raise _unknown(header, f"tensors that a plain Llama has not ({', '.join(foreign[:3])})")
    kinds = sorted({placed.kind for placed in header.tensors.values()})
    coded = [kind for kind in kinds if kind not in _FLOATS]
    notes = [f"A Llama in GGUF, stored as {', '.join(kinds)}."]
    if coded:
        notes.append(
            "Its weights were quantized before: what is measured here starts from their dequantized values, "
            "which is not the model that was trained."
        )
    return Contents(tensors, notes=tuple(notes), bundle=Bundle(config))


def _known_name(name: str) -> str | None:
    """transformers' name of a Llama's tensor; None where it is none."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return _OUTER.get(name)
    part = _INNER.get(match["part"])
    return None if part is None else f"model.layers.{int(match['layer'])}.{part}.{match['what']}"


def _config(header: GgufHeader) -> dict[str, Any]:
    """transformers' configuration of the model."""
    values = {key.removeprefix("llama."): value for key, value in header.values.items() if key.startswith("llama.")}
    scaling = values.get("rope.scaling.type", "none")
    if scaling != "none":
        raise _unknown(header, f"rotary embeddings scaled by {str(scaling)[:40]!r}, which is not known here")
    missing = [f"llama.{key}" for key in _SETTINGS.values() if not _is_number(values.get(key))]
    if missing:
        raise bad_gguf(f"it does not say {', '.join(missing)}")
    config: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    config |= {ours: values[theirs] for ours, theirs in _SETTINGS.items()}
    heads = config["num_attention_heads"]
    key_heads = values.get("attention.head_count_kv", heads)
    if not _is_number(key_heads) or heads < 1 or key_heads < 1 or heads % key_heads:
        raise bad_gguf(f"it has {heads} query heads and {key_heads} key heads")
    config["num_key_value_heads"] = key_heads
    if _is_number(values.get("attention.key_length")):
        config["head_dim"] = values["attention.key_length"]
    theta = float(values["rope.freq_base"]) if _is_number(values.get("rope.freq_base")) else 10_000.0
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    config["rope_theta"] = theta
    embedding = header.tensors.get("token_embd.weight")
    config["vocab_size"] = embedding.shape[0] if embedding is not None and embedding.shape else 0
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    config["attention_bias"] = any(name.endswith("attn_q.bias") for name in header.tensors)
    return config


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _stored(name: str, placed: PlacedTensor, config: Mapping[str, Any]) -> StoredTensor:
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    count = next((count for part, count in heads.items() if f".{part}." in name), None)
    if count is not None and (not placed.shape or placed.shape[0] % (2 * count)):
        raise bad_gguf(f"{name} of shape {list(placed.shape)} does not part into {count} heads")
    dtype = _FLOATS.get(placed.kind, torch.float32)
    if count is None and placed.kind in _FLOATS:
        return StoredTensor(placed.shape, dtype, placed.offset, element_count(placed.shape))
    decode = _decoder(placed, dtype, count)
    elements = element_count(placed.shape)
    return EncodedTensor(placed.shape, dtype, placed.offset, elements, size=placed.size, decode=decode)


def _decoder(placed: PlacedTensor, dtype: torch.dtype, heads: int | None) -> Callable[[Tensor], Tensor]:
    def decode(content: Tensor) -> Tensor:
        values = content.view(dtype) if placed.kind in _FLOATS else _dequantized(content, placed)
        return values if heads is None else rows_as_halves(values.reshape(placed.shape), heads)

    return decode


def rows_as_halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of a query or key projection in transformers' order, from llama.cpp's.

    llama.cpp writes the rows of a head as pairs that are turned together, 0, d/2, 1, d/2 + 1, …; transformers has them
    as two halves.

    Args:
        weight: ``(heads · d, …)``.
        heads: how many heads its rows are.

    Example:
        >>> rows_as_halves(torch.tensor([0, 2, 1, 3]), 1).tolist()
        [0, 1, 2, 3]
    """
    pairs = weight.shape[0] // heads // 2
    return weight.reshape(heads, pairs, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _dequantized(content: Tensor, placed: PlacedTensor) -> Tensor:
    """Float32 from codes, by the library of the format's authors."""
    library: Any = import_optional(
        "gguf",
        hint="install quant-lens[gguf]; files in F32, F16 or BF16 need none",
        needed_for=f"weights in {placed.kind}",
    )
    rows = content.numpy().reshape(*placed.shape[:-1], -1)
    return torch.from_numpy(library.dequantize(rows, library.GGMLQuantizationType[placed.kind]).copy())


def _unknown(header: GgufHeader, what: str) -> CheckpointError:
    return CheckpointError(
        f"a GGUF file with {what}",
        hint="bring the float checkpoint that it was made from, as a Hugging Face folder",
        code="unsupported_format",
        details={
            "architecture": str(header.values.get("general.architecture"))[:80],
            "tensors": [f"{name} {list(placed.shape)} {placed.kind}" for name, placed in header.tensors.items()][:200],
        },
    )


FORMATS.add(
    "gguf",
    CheckpointFormat(lambda given: given.head.startswith(b"GGUF"), _read, (".gguf",), "llama.cpp's GGUF, of a Llama"),
)
