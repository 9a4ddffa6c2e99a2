"""The model's own tokenizer: ``tokenizer.json``, read by the library ``tokenizers``, which runs no code of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.optional_library import import_optional

TOKENIZER_HINT = "save the fast tokenizer beside the model: AutoTokenizer.from_pretrained(…).save_pretrained('folder')"


@dataclass(frozen=True)
class Encoded:
    """One text as tokens.

    Attributes:
        ids: ``(tokens,)`` int64.
        special: ``(tokens,)`` whether the tokenizer put it there (a beginning, an end) rather than the text.
    """

    ids: np.ndarray
    special: np.ndarray


class TextTokenizer:
    """Text to token numbers, and the numbers of the tokens that have a role.

    Attributes:
        size: number of tokens, added ones included.
        pad: fills a row up; None where none is named.
        mask: stands for a token that is to be guessed; None.
        end: ends a text; None.

    Raises:
        CheckpointError: ``missing_tokenizer``; ``bad_tokenizer``; ``tokenizers_unavailable``.
    """

    def __init__(self, bundle: Bundle) -> None:
        if bundle.tokenizer is None:
            others = ", ".join(bundle.slow_tokenizer)
            raise CheckpointError(
                "the model has no tokenizer.json" + (f"; {others} alone are not read" if others else ""),
                hint=TOKENIZER_HINT,
                code="missing_tokenizer",
            )
        self._tokenizer = _open(bundle.tokenizer)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.size = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        self.pad = self._role(bundle, "pad")
        self.mask = self._role(bundle, "mask")
        self.end = self._role(bundle, "eos")
        self._adds_special = bool(self.encode("a").special.any())

    def encode(self, text: str) -> Encoded:
        """The tokens of one text, with what the tokenizer puts around a single one.

        Raises:
            CheckpointError: ``bad_tokenizer``: it contradicts itself, which only a text brings to light.
        """
        found = _asked(lambda: self._tokenizer.encode(text))
        return Encoded(np.asarray(found.ids, np.int64), np.asarray(found.special_tokens_mask, bool))

    def encode_for_joining(self, text: str) -> Encoded:
        """The same for texts that are laid one behind the other: where a tokenizer marks no border, an end does."""
        found = self.encode(text)
        if self._adds_special or self.end is None:
            return found
        return Encoded(np.append(found.ids, self.end), np.append(found.special, True))

    def _role(self, bundle: Bundle, role: str) -> int | None:
        """By the token's name in tokenizer_config.json, else by its number in config.json."""
        named = bundle.roles.get(f"{role}_token")
        text = named.get("content") if isinstance(named, Mapping) else named
        if isinstance(text, str):
            number = self._tokenizer.token_to_id(text)
            if number is not None:
                return int(number)
        number = bundle.config.get(f"{role}_token_id")
        number = number[0] if isinstance(number, list) and number else number
        return number if type(number) is int and 0 <= number < self.size else None


def _open(content: bytes) -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # texts are read one by one
    library = import_optional(
        "tokenizers", hint="pip install 'quant-lens[transformers]'", code="tokenizers_unavailable"
    )  # fmt: skip

    def opened() -> Any:
        text = content.decode("utf-8")
        if not isinstance(json.loads(text), dict):
            raise ValueError("no JSON object")
        return library.Tokenizer.from_str(text)

    return _asked(opened)


def _asked(call: Callable[[], Any]) -> Any:
    """What the library answers; it raises plain ``Exception``, and a panic in its Rust is none."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise CheckpointError(
            f"tokenizer.json cannot be used ({str(error).partition(chr(10))[0][:200]})",
            hint=TOKENIZER_HINT,
            code="bad_tokenizer",
        ) from None
