"""What a Hugging Face folder holds beside its weights: the configuration of a class, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Bundle:
    """The small files of such a folder, read as data.

    Attributes:
        config: ``config.json``.
        tokenizer: the bytes of ``tokenizer.json``; None where there is none.
        roles: ``tokenizer_config.json`` over ``special_tokens_map.json``: which token pads, masks, ends a text.
        slow_tokenizer: files of a tokenizer of another kind (``vocab.txt``, ``spiece.model``), for a hint.
    """

    config: Mapping[str, Any]
    tokenizer: bytes | None = None
    roles: Mapping[str, Any] = field(default_factory=dict)
    slow_tokenizer: tuple[str, ...] = ()

    @property
    def model_type(self) -> str:
        """The family, such as ``bert``; empty where the configuration names none."""
        found = self.config.get("model_type", "")
        return found if isinstance(found, str) else ""

    @property
    def class_name(self) -> str | None:
        """The class that the weights were saved from, as the configuration says it."""
        named = self.config.get("architectures")
        return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None
