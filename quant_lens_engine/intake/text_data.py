"""Texts meet the model: its tokenizer, how long a row may be, which tokens it knows."""

from __future__ import annotations

from typing import Any

from torch import nn

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.checkpoint import Checkpoint
from quant_lens_engine.intake.datasets import Arrays
from quant_lens_engine.intake.language_rows import LANGUAGE_TASKS, TokenRows
from quant_lens_engine.intake.texts import Texts
from quant_lens_engine.intake.tokenizer import TextTokenizer
from quant_lens_engine.schema import RunSpec

_LONGEST = 1_000_000
"""Tokenizers say 10^30 where nothing limits them."""


def rows_for(arrays: Arrays, checkpoint: Checkpoint, model: nn.Module, spec: RunSpec, shown: str) -> Arrays:
    """Texts as the rows of tokens that ``model`` reads; arrays of numbers as they are.

    Raises:
        DataError: ``text_without_tokenizer``; ``not_text`` where a language model is given no text; ``too_long``.
        CheckpointError: ``missing_tokenizer``, ``bad_tokenizer``.
    """
    if isinstance(arrays, Texts):
        if checkpoint.named is None:
            raise DataError(
                f"{shown}: texts need the model's tokenizer, and {checkpoint.filename} comes without one",
                hint="bring the model as a Hugging Face folder or zip: config.json, safetensors, tokenizer.json",
                code="text_without_tokenizer",
            )
        tokenizer = TextTokenizer(checkpoint.named.bundle)
        return TokenRows.of(
            arrays,
            tokenizer,
            spec.data.text,
            vocabulary=_vocabulary(model),
            positions=_positions(model, checkpoint.named.bundle.roles.get("model_max_length")),
            shown=shown,
        )
    named = checkpoint.named
    if spec.task in LANGUAGE_TASKS or (named is not None and named.purpose in LANGUAGE_TASKS):
        raise DataError(
            f"{shown}: rows of the shape {list(arrays.x.shape[1:])} for a language model, which reads text",
            hint='give texts: a plain text file, or JSON lines {"text": "…"}',
            code="not_text",
        )
    return arrays


def _vocabulary(model: nn.Module) -> int | None:
    find = getattr(model, "get_input_embeddings", None)
    embedding = None if find is None else find()
    return embedding.num_embeddings if isinstance(embedding, nn.Embedding) else None


def _positions(model: nn.Module, said: Any) -> int | None:
    """The fewer of what the class has places for and what the tokenizer says (RoBERTa keeps two places for itself)."""
    limits = [getattr(getattr(model, "config", None), "max_position_embeddings", None), said]
    known = [limit for limit in limits if type(limit) is int and 0 < limit < _LONGEST]
    return min(known, default=None)
