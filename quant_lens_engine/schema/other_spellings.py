"""What other libraries and papers call a scheme, in this grammar: for suggestions only, a name has one spelling."""

from __future__ import annotations

import re

_STEMS: dict[str, tuple[str, ...]] = {
    "fp8": ("fp8-e4m3", "fp8-e5m2"), "float8": ("fp8-e4m3", "fp8-e5m2"),
    "e4m3": ("fp8-e4m3",), "e4m3fn": ("fp8-e4m3",), "e5m2": ("fp8-e5m2",),
    "mxfp8": ("mxfp8-e4m3", "mxfp8-e5m2"), "mxfp6": ("mxfp6-e2m3", "mxfp6-e3m2"), "mxint": ("mxint8",),
    "fp6": ("mxfp6-e2m3", "mxfp6-e3m2"), "fp4": ("nvfp4", "mxfp4"), "e2m1": ("nvfp4", "mxfp4"),
    "float4": ("nvfp4", "mxfp4"),
}  # fmt: skip

FLOATS = frozenset({"fp16", "bf16", "fp32", "fp64", "float16", "bfloat16", "float32", "float64", "half"})
"""Of weights that stay as they are."""

FLOAT_HINT = "weights that stay in float are named float, as in float-act-int8 (w16a8) or float+qat. "

_FLAGS: tuple[tuple[str, str], ...] = (
    (r"-(sym|symmetric|narrow|(per-?)?channel(wise)?)(?=-|$)", ""),
    (r"-(asymmetric|affine)(?=-|$)", "-asym"),
    (r"-(per-?)?tensor(wise)?(?=-|$)", "-tensor"),
    (r"-(group|groupsize|gs|group-size)-?([0-9]+)(?=-|$)", r"-g\2"),
)


def other_spellings(name: str) -> list[str]:
    """Names that may have been meant; whether they are schemes is for the parser to say.

    Example:
        >>> other_spellings("fp8"), other_spellings("int4-sym"), other_spellings("uint8_per_tensor")
        (['fp8-e4m3', 'fp8-e5m2'], ['int4'], ['int8-tensor-asym'])
        >>> other_spellings("bf16"), other_spellings("int9")
        (['float'], [])
    """
    asked = name.strip().lower().replace("_", "-")
    if asked in FLOATS:
        return ["float"]
    found = asked
    if "-act-" not in asked and re.match("w[0-9]", asked) is None:  # flags of activations mean something else
        for pattern, meant in _FLAGS:
            found = re.sub(pattern, meant, found)
    if unsigned := re.fullmatch(r"u(int[0-9]+)(.*?)(-asym)?", found):
        found = f"{unsigned[1]}{unsigned[2]}-asym"
    stem = next((stem for stem in sorted(_STEMS, key=len, reverse=True) if re.match(rf"{stem}(?=-|$)", found)), None)
    meant_by = [] if stem is None else [known + found.removeprefix(stem) for known in _STEMS[stem]]
    return meant_by + ([found] if found != name else [])
