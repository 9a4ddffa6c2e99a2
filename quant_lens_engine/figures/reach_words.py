"""How far a line or a plane reaches, and why, as it is read beneath a chart."""

from __future__ import annotations


def reach_words(choice: str) -> str:
    """A record's ``distance_choice`` as a sentence; empty where none was recorded.

    Example:
        >>> reach_words("0.25: within it the loss rises by 0.064"), reach_words("")
        ('Reach 0.25: within it the loss rises by 0.064.', '')
    """
    return f"Reach {choice.rstrip('.')}." if choice else ""
