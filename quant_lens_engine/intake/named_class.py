"""A checkpoint of a class of transformers: its tensors under the names that the class has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.intake.architectures import Architecture, Shapes
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.formats.layout import StoredTensor, read_tensors
from quant_lens_engine.intake.transformers_classes import (
    build_class,
    chosen_class,
    class_for,
    library_version,
    names_today,
    on_meta,
    purpose_of,
)
from quant_lens_engine.tied_parameters import tied_parameters

_OWN_BUFFERS = ("position_ids", "token_type_ids", "inv_freq", "attn.bias", "masked_bias", "causal_mask")
"""Numbers that older versions stored and that the class computes itself."""

_SHOWN = 3


@dataclass(frozen=True)
class NamedClass:
    """A class of transformers, and a checkpoint's tensors as it names them.

    Attributes:
        bundle: configuration and tokenizer.
        name: of the class.
        purpose: what it is for: ``causal-lm``, ``masked-lm``, ``classification``, ``token-classification``,
            ``image-classification``, or ``body``: a network without a head.
        tensors: by the class's names; one that several names share stands under each.
        missing: names that have no tensor.
        prefix: what the names of the body begin with.
        tied: whether names share tensors as the configuration says; None: as it says.
        notes: sentences on what was recognised.
    """

    bundle: Bundle
    name: str
    purpose: str
    tensors: Mapping[str, StoredTensor]
    missing: tuple[str, ...] = ()
    prefix: str = ""
    tied: bool | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, tensors: Mapping[str, StoredTensor], bundle: Bundle) -> NamedClass:
        """Find the class, and which tensor is which of its own.

        Args:
            path: of the checkpoint.
            tensors: as they are named in the file.
            bundle: what stands beside them.

        Raises:
            CheckpointError: the configuration names no class that can be built; transformers is not there.
        """
        name = chosen_class(bundle)
        network = on_meta(bundle, name, len(tensors))
        wanted = set(network.state_dict())
        today = names_today(network, tensors)
        prefix = str(getattr(network, "base_model_prefix", ""))
        found, notes = _renamed(tensors, wanted, today, prefix)
        groups = tied_parameters(network)
        tied = None if _equal_where_shared(path, found, groups) else False
        if tied is None:
            found |= _other_names(found, groups)
        else:
            notes.append("Tensors that the configuration ties differ in the file: they are kept apart.")
        shared = [names for names in groups if tied is None and names & wanted]
        notes += [f"{' and '.join(sorted(names))} are one tensor." for names in shared[:_SHOWN]]
        unused = [key for key in found if key not in wanted]
        notes += _about_unused(name, unused)
        missing = tuple(key for key in network.state_dict() if key not in found)
        purpose = purpose_of(name) or "body"
        kept = {key: stored for key, stored in found.items() if key in wanted}
        notes += _about(bundle, name, purpose, missing)
        return cls(bundle, name, purpose, kept, missing, prefix, tied, tuple(notes))

    def build(self, tensors: Shapes) -> nn.Module:  # noqa: ARG002  (the configuration says every size)
        """The class, for weights to be put into."""
        return build_class(self.bundle, self.name, tied=self.tied)

    @property
    def architecture(self) -> Architecture:
        """As what a checkpoint is matched with and built."""
        return Architecture(
            self.name, self.build, f"{self.name} of transformers, as config.json says", libraries=library_version()
        )

    @property
    def task(self) -> str | None:
        """What it is measured for; None for a network without a head."""
        return {"body": None, "image-classification": "classification"}.get(self.purpose, self.purpose)

    def require(self, task: str) -> None:
        """Refuse a task that this class does not do. What its body lacks is told key by key when it is matched.

        Raises:
            ArchitectureError: ``missing_head``: these are the weights of a body; ``wrong_task``.
        """
        in_head = [name for name in self.missing if not name.startswith(self.prefix + ".")]
        if self.purpose == "body" or (in_head and len(in_head) == len(self.missing)):
            headed = class_for(self.bundle, task if task in ("causal-lm", "masked-lm") else "classification")
            lost = f"; not there: {', '.join(self.missing[:_SHOWN])}" if self.missing else ""
            raise ArchitectureError(
                f"the weights of {self.name} have no whole head for the task {task!r}{lost}",
                hint=f"save the model with its head: {headed or 'the class with a head'}.from_pretrained(…)"
                ".save_pretrained('folder')",
                code="missing_head",
                details={"class": self.name, "missing": list(self.missing[:200])},
            )
        fitting = self.task
        if task != fitting and not (task == "self-distillation" and fitting == "classification"):
            raise ArchitectureError(
                f"{self.name} is for {fitting}, the task is {task!r}",
                hint=f"choose the task {fitting}",
                code="wrong_task",
                details={"class": self.name, "task": fitting},
            )


def _renamed(
    tensors: Mapping[str, StoredTensor], wanted: set[str], today: Mapping[str, tuple[str, bool]], prefix: str
) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors under the class's names, as far as old names and the body's prefix explain them."""
    found: dict[str, StoredTensor] = {}
    joined: list[str] = []
    old = moved = 0
    for name, stored in tensors.items():
        key = name
        if key not in wanted and today[name][1]:
            joined.append(name)
        elif key not in wanted:
            key = today[name][0]
            old += key != name
        if prefix and key not in wanted:
            outer, inner = f"{prefix}.{key}", key.removeprefix(prefix + ".")
            other = next((choice for choice in (outer, inner) if choice in wanted), key)
            moved += other != key
            key = other
        found.setdefault(key, stored)
    notes = [f"{old} tensors have names of an older version."] if old else []
    if joined:
        notes.append(
            f"transformers joins or cuts {len(joined)} tensors ({joined[0]} …) when it loads them; here "
            "that is not done."
        )
    if moved:
        notes.append(f"{moved} tensors are named as in a network with another head ({prefix}).")
    return found, notes


def _equal_where_shared(path: Path, found: Mapping[str, StoredTensor], groups: list[set[str]]) -> bool:
    """Whether a file that holds several names of one parameter holds the same numbers under each."""
    for names in groups:
        stored = {name: found[name] for name in sorted(names) if name in found}
        if len(set(stored.values())) > 1:
            first, *others = read_tensors(path, stored).values()
            if not all(torch.equal(first, other) for other in others):
                return False
    return True


def _other_names(found: Mapping[str, StoredTensor], groups: list[set[str]]) -> dict[str, StoredTensor]:
    """The one stored tensor of each group under its other names."""
    return {
        name: found[known]
        for names in groups
        if (known := next((name for name in sorted(names) if name in found), None)) is not None
        for name in names
    }


def _about_unused(class_name: str, unused: list[str]) -> list[str]:
    buffers = [key for key in unused if key.endswith(_OWN_BUFFERS)]
    others = [key for key in unused if key not in buffers]
    notes = []
    if buffers:
        notes.append(f"{class_name} computes {', '.join(buffers[:_SHOWN])} itself; the stored numbers are not used.")
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        notes.append(f"Not used, since {class_name} has no such part: {', '.join(others[:_SHOWN])}{more}.")
    return notes


def _about(bundle: Bundle, class_name: str, purpose: str, missing: tuple[str, ...]) -> list[str]:
    text = bundle.config.get("text_config")
    inner = text if isinstance(text, dict) else {}
    vocabulary = bundle.config.get("vocab_size") or inner.get("vocab_size")
    notes = [f"config.json: {class_name} of transformers, for {purpose.replace('-', ' ')}."]
    if purpose == "body":
        notes.append("It has no head: no loss can be measured with it. Save the class with its head.")
    elif missing:
        notes.append(f"It is not whole: {', '.join(missing[:_SHOWN])} … of {len(missing)} tensors are not in the file.")
    if bundle.tokenizer is None:
        notes.append("There is no tokenizer.json: text cannot be read with it.")
    elif vocabulary:
        notes.append(f"With tokenizer.json; the network knows {vocabulary} tokens.")
    return notes
