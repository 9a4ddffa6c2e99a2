"""The grammar of a scheme's name.

::

    scheme      := weights [ "-act-" activations ] [ "-kv" B | "-kv-" activations ] [ "-attn" ]
                 | "w" B "a" B [ "kv" B ] [ "-" format ] flags      both integer, or both of one format

    weights     := format flags       int4, int4-g128-asym, fp8-e4m3-b128, nf4-g64, mxfp4, nvfp4, codebook[-1:0:1]-g64
    activations := format flags       int8, int8-dynamic, fp8-e4m3-token-dynamic, int8-sym-percentile

``intB`` is symmetric, narrow range, per-channel; scale = amax / (2^(B−1) − 1), in fp32. Flags of weights: ``-tensor``,
``-gN`` (N consecutive weights of a channel, scales in fp16), ``-bN`` (N × N tiles), ``-asym``, ``-full``,
``-fp32scales``, ``-fp16scales``, ``-e8m0scales``. Flags of activations: ``-dynamic`` (per token, symmetric; else
static, per tensor and, where integer, affine), ``-tensor``, ``-token``, ``-sym``, ``-asym``, or an observer of static
ranges.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema.number_format import SCALE_FLAGS

if TYPE_CHECKING:
    from quant_lens_engine.schema.number_format import NumberFormat

GRAMMAR = (
    "a scheme is a format such as int4 (intB, B = 2 to 8 or 16), fp8-e4m3, nf4, mxfp4 or nvfp4, then -gN, -tensor, "
    "-asym or -full: int4-g128; with activations w8a8, w4a8-dynamic, w8a8-fp8; `quant-lens schemes` lists them"
)

_SHORT = re.compile(r"w(?P<w>\d+)a(?P<a>\d+)(?:kv(?P<kv>\d+))?(?=-|$)", re.ASCII)
_KV = re.compile(r"-kv(?:(?P<bits>\d+)|-(?P<format>.+))$", re.ASCII)
_FIXED: dict[str, tuple[str, Any]] = {
    "tensor": ("granularity", "tensor"),
    "token": ("granularity", "token"),
    "asym": ("symmetric", False),
    "sym": ("symmetric", True),
    "full": ("full_range", True),
    "dynamic": ("dynamic", True),
    "static": ("dynamic", False),
} | {flag: ("scale_dtype", dtype) for dtype, flag in SCALE_FLAGS.items()}
_OF_WEIGHTS = {"tensor", "asym", "full", *SCALE_FLAGS.values()}
_OF_RANGES = {"dynamic", "static"}
_OF_KV = set(_FIXED) - {"static"}


def fields_of_name(name: str) -> dict[str, Any]:
    """The fields of a scheme, from its name.

    Raises:
        ValueError: why it is none.

    Example:
        >>> fields_of_name("int4-g128-asym")
        {'format': 'integer', 'bits': 4, 'granularity': 'group', 'group_size': 128, 'symmetric': False}
    """
    rest, attention = (name.removesuffix("-attn"), name.endswith("-attn"))
    found = _KV.search(rest)
    behind: dict[str, Any] = {"attention": True} if attention else {}
    if found is not None:
        rest = rest[: found.start()]
        behind["kv"] = _kv_fields(found["bits"], found["format"])
    short = _SHORT.match(rest)
    if short is None:
        weights, marker, activations = rest.partition("-act-")
        fields = _with_flags(weights, allowed=_OF_WEIGHTS)
        if marker:
            fields["activations"] = _with_flags(activations, allowed=set(_FIXED) | set(OBSERVERS))
    else:
        fields = _short_fields(int(short["w"]), int(short["a"]), rest[short.end() :])
        if short["kv"]:
            if "kv" in behind:
                raise ValueError("keys and values are given twice")
            behind["kv"] = _kv_fields(short["kv"], None)
    if fields["format"] == "float" and set(fields) - {"format", "activations"}:
        raise ValueError("float weights have no scale, group or zero point to choose: they stay as they are")
    return fields | behind


def weight_flags(fmt: NumberFormat) -> list[str]:
    """The flags of weights, for what is not usual in their format."""
    usual = fmt.usual(fmt.model_dump(include={"format"}))
    flags = []
    if fmt.granularity in ("group", "block"):
        same = (fmt.granularity, fmt.group_size) == (usual["granularity"], usual.get("group_size"))
        flags += [] if same else [f"{fmt.granularity[0]}{fmt.group_size}"]
    elif fmt.granularity != usual["granularity"]:
        flags.append(fmt.granularity)
    flags += [] if fmt.symmetric else ["asym"]
    flags += ["full"] if fmt.full_range else []
    return flags + fmt.scale_flags()


def _short_fields(weight_bits: int, activation_bits: int, flags: str) -> dict[str, Any]:
    """``w4a8`` and what follows: a format that both share, flags of weights, how ranges are chosen.

    ``w4a16`` is what the field calls 4-bit weights beside activations in float: ``int4``. ``w16`` is weights in float.
    """
    in_float = activation_bits == 16
    shared = next((stem for stem in (*QUANTIZERS, "fp8") if _begins(flags, f"-{stem}")), None)
    if shared is None:
        activations = _with_flags(f"int{activation_bits}", allowed=set())
        weights = {"format": "float"} if weight_bits == 16 else _with_flags(f"int{weight_bits}", allowed=set())
    else:
        flags = flags.removeprefix(f"-{shared}")
        number_format = "fp8-e4m3" if shared == "fp8" else shared
        for bits in (weight_bits,) if in_float else (weight_bits, activation_bits):
            if bits != (has := QUANTIZERS[number_format].defaults.get("bits", bits)):
                raise ValueError(f"{number_format} has {has} bits, not {bits}")
        weights = {"format": number_format, "bits": weight_bits}
        activations = {"format": number_format, "bits": activation_bits}
    of_weights: list[str] = []
    for flag in _split(flags):
        if flag in _OF_RANGES or flag in OBSERVERS:
            if in_float:
                raise ValueError(f"-{flag} clashes with a16: activations of 16 bits stay in float, without a range")
            _set(activations, flag)
        else:
            of_weights.append(flag)
    for flag in of_weights:
        _set(weights, flag, allowed=_OF_WEIGHTS)
    return weights if in_float else weights | {"activations": activations}


def _with_flags(text: str, allowed: set[str]) -> dict[str, Any]:
    for name, quantizer in QUANTIZERS.items():
        match = quantizer.stem.match(text)
        if match is not None and (match.end() == len(text) or text[match.end()] == "-"):
            fields = {"format": name, **quantizer.fields(match)}
            for flag in _split(text[match.end() :]):
                _set(fields, flag, allowed)
            return fields
    raise ValueError("the name does not follow the grammar")


def _split(flags: str) -> list[str]:
    """``-g128-min-max`` as ``g128`` and ``min-max``: an observer's name may have a hyphen of its own."""
    found = []
    while flags:
        observer = next((name for name in OBSERVERS if _begins(flags, f"-{name}")), None)
        flag = observer or flags[1:].partition("-")[0]
        found.append(flag)
        flags = flags[len(flag) + 1 :]
    return found


def _begins(text: str, part: str) -> bool:
    return text == part or text.startswith(f"{part}-")


def _set(fields: dict[str, Any], flag: str, allowed: set[str] | None = None) -> None:
    for key, value in _fields_of_flag(flag, allowed).items():
        if key in fields:
            said = _said(key, fields)
            raise ValueError(f"-{flag} is said twice" if said == flag else f"-{flag} clashes with -{said}")
        fields[key] = value


def _said(key: str, fields: dict[str, Any]) -> str:
    """The flag that set a field."""
    if key in ("granularity", "group_size") and "group_size" in fields:
        return f"{fields['granularity'][0]}{fields['group_size']}"
    known = (flag for flag, (name, value) in _FIXED.items() if name == key and value == fields[key])
    return next(known, str(fields[key]))


def _fields_of_flag(flag: str, allowed: set[str] | None) -> dict[str, Any]:
    if group := re.fullmatch(r"g([1-9][0-9]*)", flag):
        return {"granularity": "group", "group_size": int(group[1])}
    if block := re.fullmatch(r"b([1-9][0-9]*)", flag):
        return {"granularity": "block", "group_size": int(block[1])}
    if flag in OBSERVERS and (allowed is None or flag in allowed):
        return {"observer": flag}
    if flag in _FIXED and (allowed is None or flag in allowed):
        key, value = _FIXED[flag]
        return {key: value}
    if flag in _FIXED or flag in OBSERVERS:
        raise ValueError(f"-{flag} is said of activations only, behind -act-: int8-act-int8-{flag}")
    raise ValueError(f"-{flag} is not part of the grammar")


def _kv_fields(bits: str | None, number_format: str | None) -> dict[str, Any]:
    fields = _with_flags(f"int{bits}" if bits else str(number_format), allowed=_OF_KV)
    return fields | {"dynamic": True}
