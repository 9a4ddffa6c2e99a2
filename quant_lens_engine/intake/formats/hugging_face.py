"""A Hugging Face folder, or a zip of one: ``config.json``, weights, the tokenizer's files.

Everything here is read as data: the configuration is JSON, weights are found at their place, in safetensors or, where
there are none, in ``pytorch_model.bin``. A configuration that
names code of its own (``auto_map``) is refused before anything else is looked at.
https://huggingface.co/docs/transformers/main_classes/configuration
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.formats import FORMATS, CheckpointFormat, member_bytes, tree_of
from quant_lens_engine.intake.formats.layout import Contents
from quant_lens_engine.intake.formats.pickled_weights import PICKLED
from quant_lens_engine.intake.formats.shards import read_shards
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.tree import FolderTree, Tree, ZipTree
from quant_lens_engine.schema.hugging_face_folder import OF_A_CLASS, SLOW_TOKENIZERS

SAVE_FOLDER_HINT = (
    "save the folder again: model.save_pretrained('folder'); tokenizer.save_pretrained('folder'); "
    "then, for the server, cd folder && zip -0 -r ../model.zip ."
)
"""What such a folder should be, in one line."""
ZIP_HINT = "zip the folder without compression: cd folder && zip -0 -r ../model.zip ."
EXPORT_HINT = "bring the network without its code: torch.export.save(torch.export.export(model, (x,)), 'model.pt2')"

MAX_CONFIG_BYTES = 4 << 20
MAX_TOKENIZER_BYTES = 64 << 20
"""The largest published ones have about 35 MB."""
_CONFIG = "config.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


def _recognises(given: GivenFile) -> bool:
    tree = given.found
    if not isinstance(tree, FolderTree | ZipTree):
        return False
    try:
        folder = _folder_of(list(tree.sizes))
        return folder is not None and bool(_json(tree, folder + _CONFIG).keys() & OF_A_CLASS)
    except CheckpointError:
        return True  # a damaged configuration: reading it says so


def _folder_of(names: list[str]) -> str | None:
    """Where ``config.json`` lies: at the top, or in the one folder that was zipped; None where it does not."""
    found = [name for name in names if PurePosixPath(name).name == _CONFIG and name.count("/") <= 1]
    return found[0].removesuffix(_CONFIG) if len(found) == 1 else "" if _CONFIG in found else None


def _read(given: GivenFile) -> Contents:
    from quant_lens_engine.intake.formats.sharded_safetensors import SAFETENSORS  # registers itself behind this format

    tree = tree_of(given, "archive", ZIP_HINT)
    folder = _folder_of(list(tree.sizes))
    if folder is None:
        raise CheckpointError("config.json is a link, or not there", hint=SAVE_FOLDER_HINT, code="bad_config")
    config = _json(tree, folder + _CONFIG)
    refuse_code_of_its_own(config)
    _refuse_quantized(config)
    kind = SAFETENSORS if SAFETENSORS.files(tree) else PICKLED
    if not kind.files(tree):
        raise _no_weights(tree)
    contents = read_shards(tree, given.path, kind)
    if kind is SAFETENSORS and (others := PICKLED.files(tree)):
        contents = replace(contents, notes=(*contents.notes, f"{others[0]} is there too; it was not looked at."))
    bundle = Bundle(
        config,
        _tokenizer(tree, folder),
        _roles(tree, folder),
        tuple(name for name in SLOW_TOKENIZERS if folder + name in tree.sizes),
    )
    return replace(contents, bundle=bundle)


def refuse_code_of_its_own(config: dict[str, Any]) -> None:
    """Refuse a configuration that leads to Python code outside of transformers.

    Raises:
        CheckpointError: ``config_with_code``.
    """
    for key, value in _entries(config, 0):
        if key == "auto_map" or (key == "trust_remote_code" and value):
            named = ", ".join(map(str, value.values())) if isinstance(value, dict) else str(value)
            raise CheckpointError(
                f"its config.json names code of its own ({key}: {named[:120]}), which would have to be run; "
                "nothing was loaded",
                hint="save it as a class that transformers has itself, without auto_map; or " + EXPORT_HINT,
                code="config_with_code",
                details={"key": key},
            )


def _entries(config: dict[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """Every key at every depth: a configuration may hold those of its parts."""
    for key, value in config.items():
        yield key, value
        inner = [value] if isinstance(value, dict) else value if isinstance(value, list) else ()
        for part in inner:
            if isinstance(part, dict) and depth < 16:
                yield from _entries(part, depth + 1)


def _refuse_quantized(config: dict[str, Any]) -> None:
    found = config.get("quantization_config")
    if found is None:
        return
    method = found.get("quant_method") if isinstance(found, dict) else found
    raise CheckpointError(
        f"its weights are quantized already ({str(method)[:40]})",
        hint="bring the float model that it was made from: quantized variants are made here",
        code="quantized_model",
    )


def _no_weights(tree: Tree) -> CheckpointError:
    pickled = [name for name in tree.sizes if name.endswith(_PICKLED)]
    if pickled:
        return CheckpointError(
            f"its weights are in {pickled[0][:80]!r}, neither in safetensors nor in pytorch_model.bin",
            hint="convert them: AutoModel….from_pretrained('folder').save_pretrained('folder') writes safetensors",
            code="pickled_weights",
        )
    return CheckpointError("it has a config.json, but no weights", hint=SAVE_FOLDER_HINT, code="no_tensors")


def _tokenizer(tree: Tree, folder: str) -> bytes | None:
    name = folder + "tokenizer.json"
    if name not in tree.sizes:
        return None
    if tree.sizes[name] > MAX_TOKENIZER_BYTES:
        raise CheckpointError(
            f"tokenizer.json has {tree.sizes[name]} bytes; at most {MAX_TOKENIZER_BYTES} are read",
            hint="is it the tokenizer of this model?",
            code="bad_tokenizer",
        )
    return member_bytes(tree, name, MAX_TOKENIZER_BYTES)


def _roles(tree: Tree, folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if folder + name in tree.sizes:
            found |= _json(tree, folder + name)
    return found


def _json(tree: Tree, name: str) -> dict[str, Any]:
    shown = PurePosixPath(name).name
    if tree.sizes[name] > MAX_CONFIG_BYTES:
        raise CheckpointError(
            f"{shown} has {tree.sizes[name]} bytes: more than one needs", hint=SAVE_FOLDER_HINT, code="bad_config"
        )
    content = member_bytes(tree, name, MAX_CONFIG_BYTES)
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        reason = error.__class__.__name__
        raise CheckpointError(f"{shown} is not JSON ({reason})", hint=SAVE_FOLDER_HINT, code="bad_config") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{shown} is no JSON object", hint=SAVE_FOLDER_HINT, code="bad_config")
    return found


FORMATS.add(
    "hugging-face",
    CheckpointFormat(
        _recognises, _read, (".zip",),
        "a Hugging Face folder, or a zip of one: config.json of a class of transformers, weights, tokenizer.json",
    ),
)  # fmt: skip
