"""What can be chosen in each number format, found by asking it: a form follows from the registry, not from a list.

A choice is offered when the format itself does not refuse it, so a new format is in the form the day it lands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pydantic import ValidationError

from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema.number_format import ActivationFormat, NumberFormat
from quant_lens_engine.schema.recipe_description import display_name
from quant_lens_engine.schema.scheme import QuantizationScheme
from quant_lens_engine.schema.scheme_description import FAMILIES

Sharing = Literal["tensor", "channel", "token", "group", "block"]
Mapping = Literal["symmetric", "full", "asymmetric"]

_NAMED = {"bits", "levels"}
_WIDTHS = range(1, 33)
_GROUP_SIZES = (16, 32, 64, 128, 256)
_MAPPINGS: dict[Mapping, dict[str, bool]] = {
    "symmetric": {"symmetric": True},
    "full": {"symmetric": True, "full_range": True},
    "asymmetric": {"symmetric": False},
}


@dataclass(frozen=True)
class FormatChoices:
    """What can be chosen for weights, or for activations, in one format.

    Attributes:
        name: the registered format.
        label: for people.
        widths: bits to choose from; a single one is the format's own.
        levels: the user says the levels of a codebook.
        sharing: what may share one scale, the usual one first.
        group_sizes: of a group, where it is not free; empty: any.
        mappings: how zero and the ends are mapped, the usual one first.
    """

    name: str
    label: str
    widths: tuple[int, ...]
    levels: bool
    sharing: tuple[Sharing, ...]
    group_sizes: tuple[int, ...]
    mappings: tuple[Mapping, ...]

    def stem(self, bits: int | None, levels: Sequence[str] = ()) -> str:
        """How a name in this format begins.

        Example:
            >>> choices = {item.name: item for item in weight_choices()}
            >>> choices["integer"].stem(4), choices["nvfp4"].stem(None), choices["codebook"].stem(None, ["-1", "1"])
            ('int4', 'nvfp4', 'codebook[-1:1]')
        """
        if self.levels:
            return f"{self.name}[{':'.join(levels)}]"
        width = self.widths[0] if bits is None else bits
        return QUANTIZERS[self.name].stem_of(NumberFormat.model_construct(format=self.name, bits=width, granularity=""))


@cache
def weight_choices() -> tuple[FormatChoices, ...]:
    """Every format that weights can have; ``float`` leaves them as they are.

    Example:
        >>> choices = {item.name: item for item in weight_choices()}
        >>> choices["integer"].widths, choices["integer"].mappings
        ((2, 3, 4, 5, 6, 7, 8, 16), ('symmetric', 'full', 'asymmetric'))
        >>> choices["mxfp4"].sharing, choices["mxfp4"].group_sizes
        (('group',), (32,))
    """
    return _choices(QuantizationScheme.model_validate, ("channel", "group", "tensor", "block"))


@cache
def activation_choices(dynamic: bool) -> tuple[FormatChoices, ...]:
    """Every format that activations can have, with ranges from the values themselves or from calibration rows.

    Example:
        >>> {item.name: item.sharing for item in activation_choices(dynamic=True)}["integer"]
        ('token', 'tensor', 'group')
        >>> [item.name for item in activation_choices(dynamic=False) if item.name.startswith("mx")]
        []
    """
    order: tuple[Sharing, ...] = ("token", "tensor", "group") if dynamic else ("tensor", "group")
    return _choices(lambda fields: ActivationFormat.model_validate(fields | {"dynamic": dynamic}), order)


def _choices(read: Callable[[dict[str, Any]], Any], order: Sequence[Sharing]) -> tuple[FormatChoices, ...]:
    families = list(FAMILIES)
    names = [name for name in QUANTIZERS if set(QUANTIZERS[name].stem.groupindex) <= _NAMED]
    names.sort(key=lambda name: (name == "float", families.index(QUANTIZERS[name].family)))
    found = (_of_format(name, read, order) for name in names)
    return tuple(choices for choices in found if choices.sharing)


def _of_format(name: str, read: Callable[[dict[str, Any]], Any], order: Sequence[Sharing]) -> FormatChoices:
    named = QUANTIZERS[name].stem.groupindex
    base: dict[str, Any] = {"format": name}
    if "levels" in named:
        base |= {"levels": (-1.0, 0.0, 1.0), "bits": 2}

    def takes(**fields: Any) -> bool:
        try:
            read(base | fields)
        except (ValidationError, ValueError):
            return False
        return True

    widths = tuple(bits for bits in _WIDTHS if "bits" not in named or takes(bits=bits)) if "levels" not in named else ()
    if "bits" in named and widths:
        base |= {"bits": widths[0]}
    elif "levels" not in named:
        widths = (int(QUANTIZERS[name].defaults["bits"]),)
    sizes = tuple(size for size in _GROUP_SIZES if takes(granularity="group", group_size=size))
    sharing = tuple(
        kind
        for kind in order
        if takes(granularity=kind, **({"group_size": (sizes or (128,))[0]} if kind in ("group", "block") else {}))
    )
    plain = base | ({"granularity": "group", "group_size": sizes[0]} if sharing == ("group",) else {})
    mappings = [key for key, fields in _MAPPINGS.items() if takes(**plain, **fields)]
    if len(mappings) > 1 and not read(plain).symmetric:
        mappings.sort(key=lambda key: key != "asymmetric")
    return FormatChoices(
        name=name,
        label=_label(name),
        widths=widths,
        levels="levels" in named,
        sharing=sharing,
        group_sizes=() if len(sizes) == len(_GROUP_SIZES) else sizes,
        mappings=tuple(mappings),
    )


def _label(name: str) -> str:
    said = display_name(name)
    return said.capitalize() if said == name else said
