"""What an inspection says of texts; their tokens are counted when a model with its tokenizer is there."""

from __future__ import annotations

from collections import Counter

from quant_lens_engine.intake.texts import Texts
from quant_lens_engine.schema import DataInspection

PREVIEW_TEXTS = 6
PREVIEW_LETTERS = 240
_COUNTED_LABELS = 10_000


def describe_texts(texts: Texts, format_name: str, size_bytes: int) -> DataInspection:
    """How many there are, the first ones, and their classes where they have any.

    Raises:
        DataError: one of the first lines cannot be read.
    """
    count = len(texts.x)
    first = [texts.read(index)[:PREVIEW_LETTERS] for index in range(min(PREVIEW_TEXTS, count))]
    what = "One running text" if texts.running else f"{count} texts"
    found = DataInspection(
        format=format_name,
        samples=count,
        x_shape=[count],
        x_dtype="text",
        size_bytes=size_bytes,
        preview_texts=first,
        suggested_task="self-distillation" if texts.label is None else "classification",
        notes=[*texts.notes, f"{what}: for a model that comes with its tokenizer (a Hugging Face folder or zip)."],
    )
    if texts.label is not None:
        looked = min(count, _COUNTED_LABELS)
        counts = Counter(texts.label(index) for index in range(looked))
        found.classes = len(counts)
        found.label_counts = {str(label): number for label, number in sorted(counts.items())}
        if looked < count:
            found.notes.append(f"Classes are those of the first {looked} texts.")
    return found
