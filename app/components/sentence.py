"""An error's message as a sentence on a page."""

from __future__ import annotations


def as_sentence(text: str) -> str:
    """``text`` with a capital and a full stop; a first word that is a name (``model_v2.pt``) keeps its letters.

    Example:
        >>> as_sentence("the file is empty"), as_sentence("model.pt has 3 keys."), as_sentence("")
        ('The file is empty.', 'model.pt has 3 keys.', '')
    """
    first = text.partition(" ")[0].rstrip(",:;")
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if not text or text.endswith((".", "?", "!", "…")) else f"{text}."
