"""From texts to rows of tokens: padded or packed, with the masks and labels that a task needs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.rows import DrawnRows, Rows
from quant_lens_engine.intake.texts import Texts
from quant_lens_engine.intake.tokenizer import Encoded, TextTokenizer
from quant_lens_engine.schema import TextOptions

IGNORED = -100
"""The label of a token that is not counted, as torch's cross-entropy and transformers have it."""

MASKED_SHARE = 0.15
"""Tokens that a masked language model guesses, of every row (Devlin et al. 2019, arXiv:1810.04805)."""
MASK_INSTEAD = 0.8
OTHER_INSTEAD = 0.1
"""Of those, the shares that are replaced by the mask and by another token; the rest stays as it is."""

MAX_JOINED_BYTES = 4 << 20
"""Of texts that are joined, so much is read: about a million tokens, of which a run takes a sample."""

LANGUAGE_TASKS = frozenset({"causal-lm", "masked-lm"})

_MASKING_STREAM = 3
"""Keeps the draw of masks apart from whatever else a run draws from its seed."""


@dataclass(frozen=True)
class TokenRows(DrawnRows):
    """Texts as a model reads them: every row is tokenized, padded and masked when it is drawn.

    Made by :meth:`of`. A row's mask depends on the seed and the row's place in the file alone: not on the other rows,
    their number or their padding, and it is the same for every variant.

    Attributes:
        texts: in the file.
        tokenizer: the model's.
        length: most tokens of a row.
        vocabulary: tokens that the model knows; None: as many as the tokenizer.
        blocks: rows of joined texts; None where each text is a row of its own.
    """

    texts: Texts = field(kw_only=True)
    tokenizer: TextTokenizer = field(kw_only=True)
    length: int = field(kw_only=True)
    vocabulary: int | None = None
    blocks: tuple[Encoded, ...] | None = None

    @classmethod
    def of(
        cls, texts: Texts, tokenizer: TextTokenizer, options: TextOptions, *, vocabulary: int | None = None,
        positions: int | None = None, shown: str = "the data",
    ) -> TokenRows:  # fmt: skip
        """Decide how the texts become rows.

        Args:
            texts: of the data file.
            tokenizer: the model's.
            options: of the run.
            vocabulary: tokens that the model knows.
            positions: most tokens of a row that the model takes; None: any number.
            shown: what messages call the data.

        Raises:
            DataError: ``too_long`` where rows would be longer than the model takes; what reading texts raises.
        """
        if positions is not None and options.length > positions:
            raise DataError(
                f"{shown}: rows of {options.length} tokens for a model that takes {positions}",
                hint=f"choose a length (data.text.length) of {positions} or less",
                code="too_long",
                details={"length": options.length, "positions": positions},
            )
        blocks, notes = None, texts.notes
        counts = texts.x
        if texts.running if options.packed is None else options.packed:
            blocks, note = _joined(texts, tokenizer, options.length, shown)
            notes = (*notes, note)
            counts = np.asarray([len(block.ids) for block in blocks])
        return cls(
            counts, notes=notes, texts=texts, tokenizer=tokenizer, length=options.length, vocabulary=vocabulary,
            blocks=blocks,
        )  # fmt: skip

    def select(self, indices: np.ndarray, *, task: str, seed: int, shown: str) -> Rows:
        """The rows of these numbers.

        Args:
            indices: ascending.
            task: what labels are: the tokens (``causal-lm``), the masked ones (``masked-lm``), a class a text
                (``classification``), or nothing.
            seed: of the masks.
            shown: what messages call the data.

        Returns:
            tokens ``(rows, longest row)``, padded on the right; ``mask`` 1 where there is a token, labels
            :data:`IGNORED` where there is none.

        Raises:
            DataError: ``tokenizer_mismatch``; ``no_mask_token``; ``missing_array``: a class is needed, and texts have
                none; ``empty_data``: no row holds a token that counts; what reading a line raises.
        """
        if task == "masked-lm" and self.tokenizer.mask is None:
            raise DataError(
                "the tokenizer names no mask token",
                hint="add mask_token to tokenizer_config.json",
                code="no_mask_token",
            )
        encoded = [self._encoded(int(index), shown) for index in indices]
        self._check_numbers(encoded, shown)
        shape = len(indices), max(2, *(len(row.ids) for row in encoded))
        x, mask, labels = np.full(shape, self.tokenizer.pad or 0), np.zeros(shape, np.int64), np.full(shape, IGNORED)
        for place, (index, row) in enumerate(zip(indices, encoded, strict=True)):
            count = len(row.ids)
            inputs, wanted = self._masked(row, seed, int(index)) if task == "masked-lm" else (row.ids, row.ids)
            x[place, :count], mask[place, :count], labels[place, :count] = inputs, 1, wanted
        mask[:, 0] = 1  # a text without tokens: attention to nothing would have no softmax
        return Rows(x, self._labels(task, indices, labels, shown), indices, len(self.x), None, mask=mask)

    def _encoded(self, index: int, shown: str) -> Encoded:
        if self.blocks is not None:
            return self.blocks[index]
        found = self.tokenizer.encode(_read(self.texts, index, shown))
        return Encoded(found.ids[: self.length], found.special[: self.length])

    def _masked(self, row: Encoded, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens with some hidden, and the hidden ones as labels."""
        inputs, labels = row.ids.copy(), np.full_like(row.ids, IGNORED)
        own = np.flatnonzero(~row.special)
        if not len(own):
            return inputs, labels
        generator = np.random.default_rng([seed, _MASKING_STREAM, index])
        places = generator.choice(own, max(1, round(MASKED_SHARE * len(own))), replace=False)
        labels[places] = row.ids[places]
        kind = generator.random(len(places))
        others = generator.integers(0, min(self.tokenizer.size, self.vocabulary or self.tokenizer.size), len(places))
        unmasked = np.where(kind < MASK_INSTEAD + OTHER_INSTEAD, others, inputs[places])
        inputs[places] = np.where(kind < MASK_INSTEAD, self.tokenizer.mask or 0, unmasked)
        return inputs, labels

    def _labels(self, task: str, indices: np.ndarray, labels: np.ndarray, shown: str) -> np.ndarray | None:
        if task == "classification":
            label = self.texts.label
            if label is None or self.blocks is not None:
                raise DataError(
                    f"{shown}: its texts have no class each",
                    hint='one JSON object a line, not packed: {"text": "…", "label": 0}',
                    code="missing_array",
                )
            return np.asarray([label(int(index)) for index in indices], np.int64)
        if task not in LANGUAGE_TASKS:
            return None
        counted = labels[:, 1:] if task == "causal-lm" else labels
        if not (counted != IGNORED).any():
            raise DataError(f"{shown}: no row holds a token to guess", hint="give longer texts", code="empty_data")
        return labels

    def _check_numbers(self, rows: list[Encoded], shown: str) -> None:
        largest = max((int(row.ids.max()) for row in rows if len(row.ids)), default=0)
        if self.vocabulary is not None and largest >= self.vocabulary:
            raise DataError(
                f"{shown}: the tokenizer gives token {largest}, the model has {self.vocabulary} (0 to "
                f"{self.vocabulary - 1})",
                hint="tokenizer and model do not belong together: save both from the same checkpoint",
                code="tokenizer_mismatch",
                details={"token": largest, "vocabulary": self.vocabulary},
            )


def _joined(texts: Texts, tokenizer: TextTokenizer, length: int, shown: str) -> tuple[tuple[Encoded, ...], str]:
    """Texts one behind the other, cut into rows of ``length`` tokens; the last row holds what remains."""
    count = len(texts.x)
    taken = max(1, int(np.searchsorted(np.cumsum(texts.x), MAX_JOINED_BYTES, side="right")))
    read = [_read(texts, index, shown) for index in range(min(taken, count))]
    parts = (
        [tokenizer.encode("\n".join(read))] if texts.running else [tokenizer.encode_for_joining(one) for one in read]
    )
    ids, special = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "special"))
    if len(ids) < 2:
        raise DataError(f"{shown}: it holds {len(ids)} tokens", hint="give a longer text", code="empty_data")
    firsts = [first for first in range(0, len(ids), length) if first == 0 or len(ids) - first >= 2]
    blocks = tuple(Encoded(ids[first : first + length], special[first : first + length]) for first in firsts)
    what = "lines" if texts.running else "texts"
    whole = f"{count} {what}" if taken >= count else f"The first {taken} of {count} {what}"
    return blocks, f"{whole} were joined and cut into {len(blocks)} rows of {length} tokens."


def _read(texts: Texts, index: int, shown: str) -> str:
    try:
        return texts.read(index)
    except DataError as error:
        error.about(shown)
        raise
