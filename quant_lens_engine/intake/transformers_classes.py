"""Networks of the library transformers, built from a configuration: only classes that the library brings itself.

``from_pretrained`` is not used: it would look for files, for code and for the hub. The configuration is passed to the
class as keywords, without what chooses kernels, and the weights come from where the format has found them.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.formats.hugging_face import EXPORT_HINT, SAVE_FOLDER_HINT

_TABLES = {
    "causal-lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "masked-lm": "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "body": "MODEL_MAPPING_NAMES",
}
"""What a class is for, and where transformers lists such classes by model type."""

_LEFT_OUT = ("attn_implementation", "experts_implementation", "use_kernels", "name_or_path", "architectures", "dtype")
"""What chooses kernels (some are fetched from the hub) or number formats: weights are measured in float32."""

_COUNTS = ("layer", "block", "depth", "expert")
_NOT_A_COUNT = ("size", "dim", "per_tok", "top_k", "freq", "epsilon", "eps", "period", "step", "interval", "window")


@cache
def library() -> ModuleType:
    """transformers.

    Raises:
        CheckpointError: ``transformers_unavailable``, with the reason.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when it is imported; nothing here asks the hub
    try:
        found = importlib.import_module("transformers")
        importlib.import_module("transformers.modeling_utils")  # what a broken torchvision would stop
    except Exception as error:  # whatever one of its own imports raises
        reason = f"{error.__class__.__name__}: {str(error).partition(chr(10))[0][:200]}"
        raise CheckpointError(
            f"the library transformers cannot be imported here ({reason})",
            hint="pip install 'quant-lens[transformers]'; it needs a torchvision that works, or none. Or "
            + EXPORT_HINT,
            code="transformers_unavailable",
        ) from None
    found.logging.set_verbosity_error()
    return found


def library_version() -> dict[str, str]:
    """transformers and its version: what a class computes is the library's own."""
    return {"transformers": str(library().__version__)}


def purpose_of(class_name: str) -> str | None:
    """What a class of transformers is for, such as ``causal-lm`` or ``body``; None where it lists none of that name.

    Example:
        >>> purpose_of("BertForMaskedLM"), purpose_of("LlamaForCausalLM"), purpose_of("os")
        ('masked-lm', 'causal-lm', None)
    """
    return next((purpose for purpose in _TABLES if class_name in _classes(purpose)), None)


def class_for(bundle: Bundle, purpose: str) -> str | None:
    """The class of the bundle's family for ``purpose``; None where there is none."""
    named = _names(purpose).get(bundle.model_type)
    return named[0] if named else None


def build_class(bundle: Bundle, class_name: str, *, tied: bool | None = None) -> nn.Module:
    """The network of a configuration in ``eval()`` mode; its parameters are not set, its own buffers are.

    Args:
        bundle: with the configuration.
        class_name: one that :func:`purpose_of` knows.
        tied: whether the head shares the embedding's weights; None: as the configuration says.

    Raises:
        CheckpointError: ``unknown_model_type``, ``unknown_class``; ``bad_config`` where the class does not take it.
    """
    settings = dict(_without_kernels(bundle.config))
    if tied is not None:
        settings["tie_word_embeddings"] = tied
    if purpose_of(class_name) is None:
        raise _unknown_class(bundle, class_name)
    modules = importlib.import_module("transformers.models.auto.configuration_auto")
    if bundle.model_type not in modules.CONFIG_MAPPING_NAMES:
        raise _unknown_type(bundle, list(modules.CONFIG_MAPPING_NAMES))
    try:
        configuration = modules.CONFIG_MAPPING[bundle.model_type](**settings)
        configuration._attn_implementation = "eager"  # plain products: every kind of derivative goes through them
        configuration.use_cache = False  # keys and values of a text that is read once
        weights_come_later = importlib.import_module("transformers.initialization").no_init_weights
        with weights_come_later():  # drawing a billion of them takes twenty seconds
            network: Any = getattr(library(), class_name)(configuration)
        network.tie_weights()
    except Exception as error:  # a configuration may be anything
        reason = f"{error.__class__.__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
        raise CheckpointError(
            f"{class_name} cannot be built from its config.json ({reason})",
            hint=f"it was tried with transformers {library().__version__}. " + SAVE_FOLDER_HINT,
            code="bad_config",
        ) from None
    built: nn.Module = network.eval()
    return built


def on_meta(bundle: Bundle, class_name: str, tensors: int) -> nn.Module:
    """:func:`build_class` without memory for its weights.

    Args:
        bundle: with the configuration.
        class_name: see there.
        tensors: how many the file holds: a configuration cannot ask for more layers than that.

    Raises:
        CheckpointError: ``bad_config``, and what :func:`build_class` raises.
    """
    for name, value in bundle.config.items():
        counts = any(word in name for word in _COUNTS) and not any(word in name for word in _NOT_A_COUNT)
        if counts and isinstance(value, int) and value > tensors:
            raise CheckpointError(
                f"its config.json says {name} = {value}, the weights are {tensors} tensors",
                hint="configuration and weights do not belong together. " + SAVE_FOLDER_HINT,
                code="bad_config",
            )
    with torch.device("meta"):
        return build_class(bundle, class_name)


def chosen_class(bundle: Bundle) -> str:
    """The class that the configuration names, or the family's usual one with a head.

    Raises:
        CheckpointError: ``unknown_model_type``; ``unknown_class``.
    """
    library()
    modules = importlib.import_module("transformers.models.auto.configuration_auto")
    if bundle.model_type not in modules.CONFIG_MAPPING_NAMES:
        raise _unknown_type(bundle, list(modules.CONFIG_MAPPING_NAMES))
    named = bundle.class_name
    if named is None:
        found = class_for(bundle, "masked-lm") or class_for(bundle, "causal-lm") or class_for(bundle, "body")
        if found is None:
            raise _unknown_class(bundle, "a class for " + bundle.model_type)
        return found
    family = {name for purpose in _TABLES for name in _names(purpose).get(bundle.model_type, ())}
    if named not in family:
        raise _unknown_class(bundle, named)
    return named


def names_today(network: nn.Module, names: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """What tensors are called in the class that a file names as it was saved, by the library's own rules.

    Args:
        network: the class.
        names: in the file.

    Returns:
        for each the name today, and whether the library would join or cut the tensor when it loads it.
    """
    rules = importlib.import_module("transformers.conversion_mapping").get_model_conversion_mapping(network)
    loading = importlib.import_module("transformers.core_model_loading")
    renamings = [rule for rule in rules if isinstance(rule, loading.WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, loading.WeightConverter)]
    found = {}
    for name in names:
        today, converted = loading.rename_source_key(name, renamings, converters)
        found[name] = today, converted is not None
    return found


@cache
def _names(purpose: str) -> Mapping[str, tuple[str, ...]]:
    """Model types and their classes for one purpose."""
    library()
    table = getattr(importlib.import_module("transformers.models.auto.modeling_auto"), _TABLES[purpose])
    return {kind: (names,) if isinstance(names, str) else tuple(names) for kind, names in table.items()}


@cache
def _classes(purpose: str) -> frozenset[str]:
    return frozenset(name for names in _names(purpose).values() for name in names)


def _without_kernels(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same at every depth, without private keys and :data:`_LEFT_OUT`."""
    return {
        key: _without_kernels(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if not key.startswith("_") and key not in _LEFT_OUT and key != "torch_dtype" and key.isidentifier()
    }


def _unknown_type(bundle: Bundle, known: list[str]) -> CheckpointError:
    near = difflib.get_close_matches(bundle.model_type, known, n=3)
    version = library().__version__
    return CheckpointError(
        f"transformers {version} has no model type {bundle.model_type[:60]!r}",
        hint=(f"is it {', '.join(near)}? " if near else "") + EXPORT_HINT,
        code="unknown_model_type",
        details={"model_type": bundle.model_type[:60], "transformers": version},
    )


def _unknown_class(bundle: Bundle, class_name: str) -> CheckpointError:
    usable = [name for purpose in _TABLES for name in _names(purpose).get(bundle.model_type, ())]
    return CheckpointError(
        f"its config.json names {class_name[:80]!r}, which is none of the classes of {bundle.model_type[:60]!r} that "
        "can be measured",
        hint=f"such as {', '.join(usable[:4])}; or " + EXPORT_HINT if usable else EXPORT_HINT,
        code="unknown_class",
        details={"class": class_name[:80], "usable": usable},
    )
