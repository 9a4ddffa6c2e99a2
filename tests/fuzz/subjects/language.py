"""Language models: the header of GGUF, a Hugging Face configuration, a tokenizer."""

from __future__ import annotations

import tempfile
from pathlib import Path

from quant_lens_engine.errors import InputError
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.tokenizer import TextTokenizer
from tests.fuzz.subjects import Subject, add
from tests.fuzz.subjects.checkpoints import look, written
from tests.language_models import tiny_bert, tiny_llama, write_gguf, zipped

_TINY = {"num_hidden_layers": 1}


def folders() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        tiny_bert(place / "bert", **_TINY)
        tiny_llama(place / "llama", **_TINY)
        return {name: zipped(place / name, place / f"{name}.zip").read_bytes() for name in ("bert", "llama")}


def gguf_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_llama(Path(folder), **_TINY)
        return {"llama": written(lambda path: write_gguf(model, path), "m.gguf")}


def tokenizers() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        tiny_bert(Path(folder), **_TINY)
        return {"words": (Path(folder) / "tokenizer.json").read_bytes(), "pairs": PAIRS}


PAIRS = b"""{"version": "1.0", "added_tokens": [{"id": 4, "content": "<s>", "special": true, "single_word": false,
"lstrip": false, "rstrip": false, "normalized": false}], "normalizer": {"type": "NFC"},
"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a-z]+|\\\\s"}, "behavior": "Isolated", "invert": false},
"decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
"post_processor": null, "truncation": null, "padding": null,
"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, " ": 3}, "merges": [["a", "b"]]}}"""


def tokenize(path: Path) -> object:
    bundle = Bundle({"pad_token_id": 0, "eos_token_id": [1]}, path.read_bytes(), {"mask_token": {"content": "[MASK]"}})
    tokenizer = TextTokenizer(bundle)
    return tokenizer.encode("a cat sat on the mat, ab \u00e9"), tokenizer.encode_for_joining("")


add("hugging-face", Subject(folders, look, (InputError,)))
add("gguf", Subject(gguf_files, look, (InputError,)))
add("tokenizer", Subject(tokenizers, tokenize, (InputError,)))
