"""Texts in a file: found line by line, read when they are asked for, not yet tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import Arrays

MAX_LINE_BYTES = 16 << 20
"""A text is held in memory whole."""

MAX_LINES = 50_000_000
"""Places of lines are held in memory."""

_LONGEST_BLANK = 64
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Texts(Arrays):
    """Texts, which become rows once a tokenizer has read them.

    Attributes:
        x: ``(texts,)`` int64: how many bytes each takes in the file.
        read: ``number -> text``.
        label: ``number -> class``; None where texts have no labels.
        running: the lines are one running text, rather than a text each.
    """

    read: Callable[[int], str] = str
    label: Callable[[int], int] | None = None
    running: bool = False


class Lines:
    """The lines of a file that are not blank, by number.

    Args:
        path: the file, in UTF-8.

    Raises:
        DataError: ``empty_data``; ``too_large`` where there are more than :data:`MAX_LINES`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = np.memmap(path, np.uint8, mode="r")
        ends = np.append(_line_ends(content), len(content))
        starts = np.concatenate([[0], ends[:-1] + 1])
        lengths = ends - starts
        blank = lengths == 0
        for i in np.flatnonzero(~blank & (lengths < _LONGEST_BLANK)):
            blank[i] = not content[starts[i] : ends[i]].tobytes().strip()
        kept = np.flatnonzero(~blank)
        if not len(kept):
            raise DataError("it holds no text", hint="save at least one line", code="empty_data")
        self.starts, self.lengths, self.numbers = starts[kept], lengths[kept].astype(np.int64), kept + 1

    def __len__(self) -> int:
        return len(self.starts)

    def read(self, index: int) -> str:
        """The line, without its end.

        Raises:
            DataError: ``too_large``; ``bad_text`` where it is no UTF-8.
        """
        number, length = int(self.numbers[index]), int(self.lengths[index])
        if length > MAX_LINE_BYTES:
            raise DataError(
                f"line {number} has {length} bytes", hint="a line is one text: at most 16 MB", code="too_large"
            )
        with self._path.open("rb") as file:
            file.seek(int(self.starts[index]))
            content = file.read(length)
        try:
            return content.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} is not UTF-8 (byte {error.start + 1} of it)", hint="save the file as UTF-8",
                code="bad_text", details={"line": number},
            ) from None  # fmt: skip


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 (perhaps cut in the middle of a letter) without control characters.

    Example:
        >>> is_text("naïve".encode()), is_text(b"PK\\x03\\x04"), is_text("é".encode()[:1])
        (True, False, False)
    """
    for cut in range(min(4, len(head))):
        try:
            text = head[: len(head) - cut].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        return bool(text) and all(letter.isprintable() or letter in "\t\n\r\f\u00a0\u3000\u200b\xad" for letter in text)
    return False


def _line_ends(content: np.ndarray) -> np.ndarray:
    """Places of the newlines, looked for a piece at a time."""
    found: list[np.ndarray] = []
    count = 0
    for first in range(0, len(content), _CHUNK):
        found.append(first + np.flatnonzero(content[first : first + _CHUNK] == ord("\n")))
        count += len(found[-1])
        if count > MAX_LINES:
            raise DataError(f"it has more than {MAX_LINES} lines", hint="give a part of it", code="too_large")
    return np.concatenate(found)
