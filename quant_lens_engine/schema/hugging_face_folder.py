"""What is known of Hugging Face folders by their names alone: to those who read them and to those who fetch them."""

from __future__ import annotations

OF_A_CLASS = frozenset({"model_type", "architectures", "auto_map"})
"""What a config.json of a class of transformers says, and no other kind of config.json."""

SLOW_TOKENIZERS = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Read by nobody here: that one of them is there explains why there is no ``tokenizer.json``."""
