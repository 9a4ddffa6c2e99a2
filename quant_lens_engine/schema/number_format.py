"""A number format as data: what weights, or activations, are rounded to."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from quant_lens_engine.observers import OBSERVERS
from quant_lens_engine.quantizers import QUANTIZERS
from quant_lens_engine.schema.base import Request

ScaleDtype = Literal["float32", "float16", "e8m0", "e4m3"]

SCALE_FLAGS: dict[str, str] = {"float32": "fp32scales", "float16": "fp16scales", "e8m0": "e8m0scales"}
"""How a name says in which dtype scales are stored, where that is not the default."""

DEFAULT_OBSERVER = "min-max"


class NumberFormat(Request):
    """Codes and the scale that they share. What is left out is what the format usually has.

    Attributes:
        format: the registered quantizer (:data:`quant_lens_engine.quantizers.QUANTIZERS`).
        bits: stored bits of one element, scales not counted.
        symmetric: no zero point. Zero stays zero where it is among the codes' values, as it is in every format but a
            codebook without a level of 0.
        full_range: an integer format uses its most negative code too.
        granularity: what shares one scale.
        group_size: elements that share one scale, for ``group``; the edge of a square tile, for ``block``.
        scale_dtype: how a scale is stored, and therefore rounded.
        levels: a codebook's levels, ascending; empty for other formats.
    """

    format: str = "integer"
    bits: int = Field(ge=1, le=32)
    symmetric: bool = True
    full_range: bool = False
    granularity: str
    group_size: int | None = Field(default=None, ge=2)
    scale_dtype: ScaleDtype = "float32"
    levels: tuple[float, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given = {key: item for key, item in value.items() if key != "name"}
        if given.get("format", "integer") not in QUANTIZERS:
            raise ValueError(f"there is no number format {given['format']!r}: {', '.join(QUANTIZERS)}")
        return cls.usual(given) | given

    @classmethod
    def usual(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What the fields that are not given are, for those that are."""
        defaults = dict(QUANTIZERS[given.get("format", "integer")].defaults)
        if given.get("group_size") is not None:
            defaults["granularity"] = "group"
        granularity = given.get("granularity", defaults.get("granularity"))
        if granularity not in ("group", "block"):
            defaults.pop("group_size", None)
        return {"scale_dtype": "float16" if granularity == "group" else "float32"} | defaults

    @model_validator(mode="after")
    def _consistent(self) -> NumberFormat:
        if (self.granularity in ("group", "block")) != (self.group_size is not None):
            raise ValueError("group_size goes with granularity 'group' or 'block', and only with them")
        QUANTIZERS[self.format].check(self)
        return self

    @property
    def stem(self) -> str:
        """The beginning of its name: format, bits, levels."""
        return QUANTIZERS[self.format].stem_of(self)

    def scale_flags(self) -> list[str]:
        """The flag of the scale's dtype, where that is not the usual one."""
        usual = self.usual(self.model_dump(include={"format", "granularity", "group_size"}))["scale_dtype"]
        return [] if self.scale_dtype == usual else [SCALE_FLAGS[self.scale_dtype]]


class ActivationFormat(NumberFormat):
    """How the inputs of layers are rounded while the network runs.

    Attributes:
        granularity: ``tensor``: one scale; ``token``: one scale for each vector of features (for each row of the batch
            before a convolution, whose kernel sums over positions); ``group``: consecutive features, as in MX.
        dynamic: ranges come from the values themselves, at each pass; otherwise from calibration rows. A dynamic scale
            a tensor is one for each row of the batch, as at batch size 1, so that batching never changes the answer.
            Rows lie on the first axis; in torch's attention, transformers and recurrent layers with
            ``batch_first=False``, and the layers inside, on the second. A layer outside them that is given the sequence
            first is not recognised: there a scale is one for each position, over all rows.
        observer: how a static range is chosen (:data:`quant_lens_engine.observers.OBSERVERS`).

    Example:
        >>> ActivationFormat(bits=8).name, ActivationFormat(bits=8, dynamic=True).granularity
        ('int8', 'token')
    """

    granularity: Literal["tensor", "token", "group"]
    dynamic: bool = False
    observer: str | None = None

    @classmethod
    def usual(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Static per tensor, affine where integer; dynamic per token, symmetric; MX takes its scales from its
        values."""
        shared = super().usual(given)
        in_blocks = given.get("granularity", shared.get("granularity")) == "group"
        dynamic = given.get("dynamic", in_blocks and shared["scale_dtype"] != "e4m3")
        affine = given.get("format", "integer") == "integer" and not dynamic and not given.get("full_range")
        own = {"dynamic": dynamic, "symmetric": not affine, "observer": None if dynamic else DEFAULT_OBSERVER}
        return {"granularity": "token" if dynamic else "tensor"} | own | shared

    @model_validator(mode="after")
    def _watched(self) -> ActivationFormat:
        if self.format == "float":
            raise ValueError("activations that stay in float are left out of the scheme")
        if self.dynamic and self.observer is not None:
            raise ValueError(f"-{self.observer} clashes with -dynamic: an observer chooses static ranges")
        if not self.dynamic and self.observer not in OBSERVERS:
            raise ValueError(f"there is no observer {self.observer!r}: {', '.join(OBSERVERS)}")
        if not self.dynamic and self.granularity == "token":
            raise ValueError("-token clashes with static ranges: tokens to come are not known (add -dynamic)")
        if not self.dynamic and self.granularity == "group" and self.format != "nvfp4":
            raise ValueError(f"groups of {self.stem} take their scales from the values themselves (add -dynamic)")
        return self

    @property
    def name(self) -> str:
        """The part of a scheme's name behind ``-act-``."""
        usual = self.usual(self.model_dump(include={"format", "bits", "levels", "dynamic", "full_range"}))
        parts = [self.stem]
        if self.granularity == "group":
            parts += [] if self.group_size == usual.get("group_size") else [f"g{self.group_size}"]
        elif self.granularity != usual["granularity"]:
            parts.append(self.granularity)
        if self.symmetric != usual["symmetric"]:
            parts.append("sym" if self.symmetric else "asym")
        if self.full_range:
            parts.append("full")
        return "-".join([*parts, *self.scale_flags(), *self.range_flags()])

    def range_flags(self) -> list[str]:
        """How ranges are chosen, where that is not the usual way."""
        usual = self.usual(self.model_dump(include={"format", "granularity", "group_size"}))
        mode = [] if self.dynamic == usual["dynamic"] else ["dynamic" if self.dynamic else "static"]
        return mode + ([self.observer] if self.observer and self.observer != DEFAULT_OBSERVER else [])
