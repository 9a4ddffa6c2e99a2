"""A quantization scheme as data: how weights are rounded and, where it says so, activations.

A name holds all of it: ``parse_scheme(scheme.name) == scheme`` (:mod:`quant_lens_engine.schema.scheme_name`).
"""

from __future__ import annotations

import difflib
from typing import Any, Literal

from pydantic import ValidationError, field_validator, model_validator

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema.number_format import ActivationFormat, NumberFormat
from quant_lens_engine.schema.other_spellings import FLOAT_HINT, FLOATS, other_spellings
from quant_lens_engine.schema.scheme_name import GRAMMAR, fields_of_name, weight_flags

Granularity = Literal["tensor", "channel", "group", "block"]

_LONGEST_SHOWN = 200
"""Characters of what is no name, in an error."""

OFFERED_WITH_ACTIVATIONS: tuple[str, ...] = (
    "w8a8", "w8a8-dynamic", "w8a8-percentile", "w8a8-mse", "w8a8-entropy", "w8a8-histogram",
    "w4a8", "w4a8-dynamic", "w4a8-g128-dynamic", "w4a4", "w4a4-dynamic", "w8a8-fp8", "w8a8-fp8-dynamic",
    "w8a8-mxfp8-e4m3", "w4a4-mxfp4", "w4a4-nvfp4", "w8a8-dynamic-kv8", "w4a8-dynamic-kv4", "w8a8-dynamic-attn", "w16a8",
)  # fmt: skip
"""The schemes for weights and activations that a user is offered; more can be named."""


class QuantizationScheme(NumberFormat):
    """How weights are rounded, and activations. Two schemes are the same when their names are.

    Attributes:
        granularity: what shares one scale: the ``tensor``, each ``channel``, a ``group`` of consecutive weights of one
            channel, or a square ``block`` of the matrix.
        activations: how the input of each quantized layer is rounded; None: it stays in float.
        kv: how keys and values of attention are rounded, as in a quantized cache; None: as ``attention`` says.
        attention: the matrix products of attention (queries, keys, probabilities, values) are rounded as activations.

    Example:
        >>> parse_scheme("int4-g128").group_size
        128
        >>> QuantizationScheme(bits=8, granularity="tensor").name, parse_scheme("w8a8").activations.name
        ('int8-tensor', 'int8')
    """

    granularity: Granularity
    activations: ActivationFormat | None = None
    kv: ActivationFormat | None = None
    attention: bool = False

    @classmethod
    def usual(cls, given: dict[str, Any]) -> dict[str, Any]:
        """One scale a channel, where the format has none of its own."""
        return {"granularity": "channel"} | super().usual(given)

    @field_validator("kv")
    @classmethod
    def _cached_by_token(cls, kv: ActivationFormat | None) -> ActivationFormat | None:
        if kv is not None and not kv.dynamic:
            raise ValueError("keys and values are rounded as they enter the cache: their format is dynamic")
        return kv

    @model_validator(mode="after")
    def _attention_has_a_format(self) -> QuantizationScheme:
        if self.attention and self.activations is None:
            raise ValueError("-attn rounds what attention multiplies as activations are rounded: the scheme has none")
        return self

    @property
    def name(self) -> str:
        """The scheme in its grammar."""
        weights = "-".join([self.stem, *weight_flags(self)])
        behind = [_kv_name(self.kv)] if self.kv else []
        behind += ["attn"] if self.attention else []
        if self.activations is None:
            return "-".join([weights, *behind])
        if (short := self._short_name(self.activations)) is not None:
            return "-".join([short, *weight_flags(self), *self.activations.range_flags(), *behind])
        return "-".join([weights, "act", self.activations.name, *behind])

    @property
    def needs_calibration(self) -> bool:
        """Whether activation ranges come from calibration rows."""
        return self.activations is not None and not self.activations.dynamic

    @property
    def rounds_activations(self) -> bool:
        """Whether anything but weights is rounded."""
        return self.activations is not None or self.kv is not None

    def weights_only(self) -> QuantizationScheme:
        """The same for weights alone."""
        return self.model_copy(update={"activations": None, "kv": None, "attention": False})

    def _short_name(self, activations: ActivationFormat) -> str | None:
        """``w4a8``, or ``w4a4-mxfp4`` where both have one format; None where a shorter name would not say all."""
        said = {key: getattr(activations, key) for key in ("format", "bits", "levels", "dynamic", "observer")}
        if ActivationFormat(**said) != activations or self.levels or 16 in (self.bits, activations.bits):
            return None
        bits = f"w{16 if self.format == 'float' else self.bits}a{activations.bits}"
        if activations.format == "integer" and self.format in ("integer", "float"):
            return bits
        shared = "fp8" if self.format == "fp8-e4m3" else self.stem
        return f"{bits}-{shared}" if self.format == activations.format else None


def _kv_name(kv: ActivationFormat) -> str:
    """``kv8``, or ``kv-`` and how it is rounded; it is dynamic in any case."""
    if kv.format == "integer" and kv == ActivationFormat(bits=kv.bits, granularity="token", dynamic=True):
        return f"kv{kv.bits}"
    return f"kv-{kv.name.removesuffix('-dynamic')}"


def parse_scheme(value: str | QuantizationScheme | dict[str, Any]) -> QuantizationScheme:
    """A scheme from its name, its JSON, or itself.

    Raises:
        SchemeError: ``unknown_scheme``, with the nearest names and the grammar in its hint.
    """
    if isinstance(value, QuantizationScheme):
        return value
    if not isinstance(value, str | dict):
        raise SchemeError(f"a scheme is a name or an object, not a {type(value).__name__}", hint=GRAMMAR)
    try:
        fields = value if isinstance(value, dict) else fields_of_name(value)
        return QuantizationScheme.model_validate(fields)
    except (ValidationError, ValueError, TypeError) as error:
        raise unknown_scheme(value, reason_of(error)) from None


def reason_of(error: Exception) -> str:
    """What is wrong, and with which field; our own words name it themselves."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))


def unknown_scheme(value: str | dict[str, Any], reason: str) -> SchemeError:
    """The error for what is no scheme: why, and what is near it."""
    named = isinstance(value, str) and len(value) <= _LONGEST_SHOWN  # names that are nothing else may be anything
    near = nearest_schemes(str(value)) if named else []
    suggestion = f"did you mean {' or '.join(near)}? " if near else ""
    if isinstance(value, str) and value.strip().lower() in FLOATS:
        suggestion = FLOAT_HINT
    return SchemeError(
        f"unknown scheme {_shown(repr(value))}: {_shown(reason)}",
        hint=suggestion + GRAMMAR,
        details={"scheme": _shown(value) if isinstance(value, str) else dict(value), "nearest": near},
    )


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + " …"


def nearest_schemes(name: str, most: int = 3) -> list[str]:
    """What ``name`` is elsewhere, then names that are spelled like it: the offered ones, and beginnings of names.

    Example:
        >>> nearest_schemes("nvpf4", most=1), nearest_schemes("nf5", most=1), nearest_schemes("fp4")
        (['nvfp4'], ['nf4'], ['nvfp4', 'mxfp4'])
    """
    meant = [known for known in other_spellings(name) if _is_scheme(known)]
    offered = [known for quantizer in QUANTIZERS.values() for known in quantizer.offered()]
    stems = [known for known in QUANTIZERS if _is_scheme(known)]
    known = list(dict.fromkeys([*offered, *OFFERED_WITH_ACTIVATIONS, *stems]))
    alike = [] if meant else difflib.get_close_matches(name.strip().lower(), known, n=most)
    return [*dict.fromkeys([*meant, *alike])][:most]


def _is_scheme(name: str) -> bool:
    try:
        QuantizationScheme.model_validate(fields_of_name(name))
    except (ValidationError, ValueError, TypeError):
        return False
    return True
