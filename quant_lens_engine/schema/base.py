"""The two kinds of record that everything else is made of."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


MaybeFloat = Annotated[float | None, AfterValidator(_finite_or_none)]
"""A number that may be absent. NaN and infinities become null: JSON never holds them."""


class Request(BaseModel):
    """What a user asks for: frozen, and an unknown key is an error rather than a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null", protected_namespaces=())


class Record(BaseModel):
    """What we answer: more fields may join later, so an older reader ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="null", protected_namespaces=())
