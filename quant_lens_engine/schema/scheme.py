"""A quantization scheme as data, and the grammar of its name.

``intB`` is symmetric, narrow range, per-channel, weights only::

    scale = amax / (2**(B-1) - 1)        codes in [-(2**(B-1) - 1), 2**(B-1) - 1]

``-tensor`` has one scale for the whole tensor. ``-gN`` has one scale for every N consecutive weights of a
channel, stored in fp16. ``-full`` uses the code −2**(B−1) too, with scale = amax / ((2**B − 1) / 2).
``-asym`` adds a zero point. So ``int8``, ``int8-tensor``, ``int4-g128``, ``int4-g128-asym``.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.schema.base import Request

Granularity = Literal["tensor", "channel", "group"]

_INTEGER_NAME = re.compile(r"int(?P<bits>\d+)(?P<flags>(?:-[a-z0-9]+)*)")


_GRAMMAR = "a scheme is intB with B = 2 to 8 or 16, then -tensor, -gN, -asym or -full: int8, int4-g128"


class QuantizationScheme(Request):
    """How weights are rounded. Two schemes are the same when their names are.

    Attributes:
        format: the number format's family; each family is one quantizer of ``quant_lens_engine.quantization``.
        bits: stored bits of one weight, scales not counted.
        symmetric: no zero point; zero stays zero.
        full_range: the most negative code is used too.
        granularity: what shares one scale.
        group_size: weights that share one scale, for ``granularity="group"``.
        scale_dtype: how a scale is stored, and therefore rounded.

    Example:
        >>> parse_scheme("int4-g128").group_size
        128
        >>> QuantizationScheme(bits=8, granularity="tensor").name
        'int8-tensor'
    """

    format: Literal["integer"] = "integer"
    bits: int = Field(ge=2, le=16)
    symmetric: bool = True
    full_range: bool = False
    granularity: Granularity = "channel"
    group_size: int | None = Field(default=None, ge=2)
    scale_dtype: Literal["float32", "float16"] = "float32"

    @model_validator(mode="before")
    @classmethod
    def _accept_and_complete(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        value = {key: item for key, item in value.items() if key != "name"}
        if value.get("group_size") is not None:
            value.setdefault("granularity", "group")
            value.setdefault("scale_dtype", "float16")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> QuantizationScheme:
        if (self.granularity == "group") != (self.group_size is not None):
            raise ValueError("group_size goes with granularity 'group', and only with it")
        if self.bits > 8 and self.bits != 16:
            raise ValueError("integer schemes have 2 to 8 bits, or 16")
        if not self.symmetric and self.full_range:
            raise ValueError("asymmetric schemes always use the full range: leave full_range out")
        if self.scale_dtype != ("float16" if self.granularity == "group" else "float32"):
            raise ValueError("group scales are stored in float16, others in float32")
        return self

    @property
    def name(self) -> str:
        """The scheme in its grammar; ``parse_scheme(scheme.name) == scheme``."""
        parts = [f"int{self.bits}"]
        if self.granularity == "tensor":
            parts.append("tensor")
        if self.group_size is not None:
            parts.append(f"g{self.group_size}")
        if not self.symmetric:
            parts.append("asym")
        if self.full_range:
            parts.append("full")
        return "-".join(parts)


def parse_scheme(value: str | QuantizationScheme | dict[str, Any]) -> QuantizationScheme:
    """A scheme from its name, its JSON, or itself.

    Raises:
        SchemeError: ``unknown_scheme``, with the grammar in its hint.
    """
    if isinstance(value, QuantizationScheme):
        return value
    if not isinstance(value, str | dict):
        raise SchemeError(f"a scheme is a name or an object, not a {type(value).__name__}", hint=_GRAMMAR)
    try:
        return QuantizationScheme(**(value if isinstance(value, dict) else _fields_of_name(value)))
    except (ValidationError, ValueError, TypeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        reason = reason.removeprefix("Value error, ")
        shown = value if isinstance(value, str) else dict(value)
        raise SchemeError(
            f"unknown scheme {shown!r}: {reason}",
            hint=_GRAMMAR,
            details={"scheme": shown},
        ) from None


def _fields_of_name(name: str) -> dict[str, Any]:
    match = _INTEGER_NAME.fullmatch(name)
    if match is None:
        raise ValueError("the name does not follow the grammar")
    fields: dict[str, Any] = {"bits": int(match["bits"])}
    for flag in filter(None, match["flags"].split("-")):
        key, value = _field_of_flag(flag)
        if key in fields:
            raise ValueError(f"-{flag} contradicts or repeats another part")
        fields[key] = value
    return fields


def _field_of_flag(flag: str) -> tuple[str, Any]:
    fixed: dict[str, tuple[str, Any]] = {
        "tensor": ("granularity", "tensor"),
        "asym": ("symmetric", False),
        "full": ("full_range", True),
    }
    if flag in fixed:
        return fixed[flag]
    if group := re.fullmatch(r"g([1-9]\d*)", flag):
        return "group_size", int(group[1])
    raise ValueError(f"-{flag} is not part of the grammar")
