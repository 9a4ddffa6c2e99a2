"""Attention written out, so that what its matrix products take can be rounded.

``nn.MultiheadAttention`` hands its weights to one fused function: no hook sees the inputs of its projections, of the
output projection, or of the products between them. This is the same arithmetic with a place at each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RoundActivation = Callable[[str, Tensor], Tensor]
"""``(role, values) -> rounded values``; roles are ``in_proj`` (or ``in_proj.query`` …), ``query``, ``key``, ``value``,
``probabilities`` and ``out_proj``."""


def multihead_attention(
    module: nn.MultiheadAttention,
    rounded: RoundActivation,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``module(query, key, value, …)`` in ``eval()`` mode, with each activation given to ``rounded`` first."""
    single = query.dim() == 2
    inputs = _rounded_inputs(rounded, query, key, value)
    q, k, v = (_batch_first(tensor, module.batch_first, single) for tensor in _project(module, *inputs))
    k, v = _extended(module, k, v)
    heads = module.num_heads
    q, k, v = (tensor.reshape(*tensor.shape[:-1], heads, -1).transpose(1, 2) for tensor in (q, k, v))
    bias = _mask(module, attn_mask, key_padding_mask, q, k, is_causal=is_causal and attn_mask is None)
    # torch takes its plain softmax where weights are asked for, NaN in a row without keys; elsewhere its SDPA
    softmax = torch.softmax if need_weights else safe_softmax
    context, probabilities = attend(rounded, q, k, v, bias, softmax=softmax)
    merged = context.transpose(1, 2).flatten(2)
    output = F.linear(rounded("out_proj", merged), module.out_proj.weight, module.out_proj.bias)
    shown = None
    if need_weights:
        shown = probabilities.mean(1) if average_attn_weights else probabilities
    if single:
        return output.squeeze(0), None if shown is None else shown.squeeze(0)
    return (output if module.batch_first else output.transpose(0, 1)), shown


def attend(
    rounded: RoundActivation, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None,
    scale: float | None = None, softmax: Callable[[Tensor, int], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """softmax(q·kᵀ · scale + bias) · v and the probabilities; axes (…, heads, tokens, features). Without a ``softmax``
    it is :func:`safe_softmax`, as in SDPA."""
    query, key, value = rounded("query", query), rounded("key", key), rounded("value", value)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    probabilities = (softmax or safe_softmax)(scores if bias is None else scores + bias, -1)
    return rounded("probabilities", probabilities) @ value, probabilities


def safe_softmax(scores: Tensor, dim: int) -> Tensor:
    """softmax, and 0 along ``dim`` where every score is −∞: a query whose keys are all masked attends to nothing.

    Such scores are replaced before the softmax too: with its NaN behind them, no derivative would be finite.

    Example:
        >>> safe_softmax(torch.tensor([[0.0, -math.inf], [-math.inf, -math.inf]]), -1).tolist()
        [[1.0, 0.0], [0.0, 0.0]]
    """
    empty = (scores == -math.inf).all(dim, keepdim=True)
    return torch.softmax(scores.masked_fill(empty, 0.0), dim).masked_fill(empty, 0.0)


def scaled_dot_product(
    rounded: RoundActivation, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """``F.scaled_dot_product_attention`` written out; ``dropout_p`` is that of training, and not looked at."""
    del dropout_p
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    bias = causal_bias(query, key) if is_causal else _as_bias(attn_mask, query)
    return attend(rounded, query, key, value, bias, scale)[0]


def causal_bias(query: Tensor, key: Tensor) -> Tensor:
    """−∞ where a key comes after the query, ``(queries, keys)``."""
    allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    return torch.zeros_like(allowed, dtype=query.dtype).masked_fill_(~allowed, -math.inf)


def _as_bias(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """A mask as SDPA takes it: True takes part."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)


def _rounded_inputs(rounded: RoundActivation, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    if query is key and key is value:
        shared = rounded("in_proj", query)
        return shared, shared, shared
    return tuple(rounded(f"in_proj.{role}", x) for role, x in (("query", query), ("key", key), ("value", value)))


def _project(module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    packed: Tensor | None = module.in_proj_weight
    separate = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    weights = separate if packed is None else packed.chunk(3)
    biases: Any = (None, None, None) if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]


def _batch_first(tensor: Tensor, batch_first: bool, single: bool) -> Tensor:
    if single:
        return tensor.unsqueeze(0)
    return tensor if batch_first else tensor.transpose(0, 1)


def _extended(module: nn.MultiheadAttention, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Learned and zero keys at the end, where the module has them."""
    if module.bias_k is not None and module.bias_v is not None:
        key = torch.cat([key, module.bias_k.expand(len(key), -1, -1)], dim=1)
        value = torch.cat([value, module.bias_v.expand(len(value), -1, -1)], dim=1)
    if module.add_zero_attn:
        key, value = F.pad(key, (0, 0, 0, 1)), F.pad(value, (0, 0, 0, 1))
    return key, value


def _mask(
    module: nn.MultiheadAttention, mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor, *, is_causal: bool
) -> Tensor | None:
    """Masks as ``nn.MultiheadAttention`` takes them: True is left out. A bias ``(…, queries, keys)``."""
    bias = causal_bias(q, k) if is_causal else None
    for given, shape in ((mask, None), (padding, (len(q), 1, 1, -1))):
        if given is None:
            continue
        part = (
            torch.zeros_like(given, dtype=q.dtype).masked_fill(given, -math.inf) if given.dtype == torch.bool else given
        )
        if shape is not None:
            part = part.reshape(shape)
        elif part.dim() == 3:
            part = part.reshape(-1, module.num_heads, *part.shape[1:])
        part = F.pad(part, (0, k.shape[-2] - part.shape[-1]))
        bias = part if bias is None else bias + part
    return bias
