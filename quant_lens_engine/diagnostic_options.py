"""Keyword arguments of :meth:`~quant_lens_engine.QuantDiagnostic.run_analysis` as options of the analyses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from quant_lens_engine.errors import SpecError
from quant_lens_engine.schema import CurvatureOptions, LineOptions, PlaneOptions


def option_mapping(argument: str, options: object) -> dict[str, Any]:
    """The options given as ``argument``, a dict of their own; empty for None.

    Raises:
        SpecError: not a dict with names.
    """
    if options is None:
        return {}
    if isinstance(options, Mapping) and all(isinstance(key, str) for key in options):
        return dict(options)
    raise SpecError(
        f"{argument} is {options!r}",
        hint='a dict of options, such as {"layer_eigenvalues": "all"}; see help(QuantDiagnostic.run_analysis)',
    )


def diagnostic_options(
    curvature: dict[str, Any], line: dict[str, Any], plane: dict[str, Any]
) -> tuple[CurvatureOptions, LineOptions, PlaneOptions]:
    """All three, checked; a curvature option of None stands at its usual value.

    Raises:
        SpecError: one is unknown or out of range, called as the caller of ``run_analysis`` knows it.
    """
    try:
        given = {key: value for key, value in curvature.items() if value is not None}
        return CurvatureOptions(**given), LineOptions(**line), PlaneOptions(**plane)
    except ValidationError as error:
        public = {"max_products": "hessian_iters", "steps": "landscape_steps"}
        first = error.errors()[0]
        option = str(first["loc"][0])
        raise SpecError(
            f"{public.get(option, option)}: {first['msg']}", hint="see help(QuantDiagnostic.run_analysis)"
        ) from None
