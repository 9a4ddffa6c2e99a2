"""How a network is brought into a scheme: one file an algorithm, each registers itself.

An algorithm works on a :class:`~quant_lens_engine.quantization.draft.Draft` in one of five phases. Several are combined
by naming them (``w4a8+smoothquant+gptq+bias-correction``); they run in the order of their phases:

=========  =======================================================================================================
prepare    rescale the network without changing its function: what is rounded becomes easier to round
range      choose which range of weights a grid holds
round      choose the codes
correct    change parameters that are not rounded, to make up for what rounding does on average
train      change all parameters by gradient descent through the rounding
=========  =======================================================================================================

Activation ranges are calibrated between *prepare* and *range*. Without an algorithm weights go to the nearest code
(RTN).
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Protocol

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.registry import Registry, load_rooms
from quant_lens_engine.schema import QuantizationScheme, Recipe, Request, algorithms
from quant_lens_engine.schema.algorithms import PHASES as PHASES
from quant_lens_engine.schema.algorithms import Phase as Phase
from quant_lens_engine.schema.algorithms import read_options, refuse_clashes, unknown_algorithm


class NoOptions(Request):
    """There is nothing to choose."""


class Algorithm(Protocol):
    """One algorithm.

    Attributes:
        description: one line, with its paper.
        phase: when it runs.
        place: before others of its phase that have a higher one.
        needs_calibration: whether it looks at calibration rows.
        passes: what it takes, in forward passes over 256 calibration rows, about: for estimates of a run's time.
        options: a record of what can be chosen, with the usual values.
    """

    description: str
    phase: Phase
    place: int
    needs_calibration: bool
    passes: float
    options: ClassVar[type[Request]]

    def check(self, scheme: QuantizationScheme) -> None:
        """Raise SchemeError ``not_defined`` if it has no meaning for a scheme."""

    def apply(self, draft: Draft, options: Any) -> None:
        """Do it: whatever is decided is left in ``draft``."""


ALGORITHMS: Registry[Algorithm] = Registry("algorithm", SchemeError)


def check_recipe(recipe: Recipe) -> list[tuple[str, Algorithm, Any]]:
    """The algorithms of a recipe in the order in which they run, each with its options.

    Raises:
        SchemeError: ``unknown_algorithm``, ``bad_option``, ``not_defined``, or two that exclude each other.

    Example:
        >>> from quant_lens_engine.schema import parse_recipe
        >>> [name for name, _, _ in check_recipe(parse_recipe("int4+bias-correction+gptq:act_order=true"))]
        ['gptq', 'bias-correction']
    """
    found = []
    for step in recipe.algorithms:
        if step.name not in ALGORITHMS:
            raise unknown_algorithm(step.name, recipe.name, list(ALGORITHMS))
        algorithm = ALGORITHMS[step.name]
        algorithm.check(recipe.scheme)
        found.append((step.name, algorithm, read_options(step.name, algorithm.options, step.options)))
    found.sort(key=lambda item: (PHASES.index(item[1].phase), item[1].place))
    refuse_clashes(recipe.name, [(name, algorithm.phase) for name, algorithm, _ in found])
    return found


def usual_options() -> dict[str, dict[str, Any]]:
    """Of each algorithm, the usual values of its options: what a recipe's shortest name leaves out.

    Example:
        >>> usual_options()["smoothquant"]
        {'alpha': 0.5}
    """
    return {
        name: {key: field.default for key, field in algorithm.options.model_fields.items()}
        for name, algorithm in ALGORITHMS.items()
    }


def not_defined(algorithm: str, scheme: QuantizationScheme, reason: str, hint: str) -> SchemeError:
    """An algorithm has no meaning for a scheme. What it says depends on the weights' format and on whether activations
    are rounded: a page asks for no more (:class:`quant_lens_engine.schema.algorithms.Refusal`)."""
    return algorithms.not_defined(algorithm, scheme.name, reason, hint)


def refuse_float(algorithm: str, scheme: QuantizationScheme) -> None:
    """Raise where no weight is rounded."""
    if scheme.format == "float":
        raise not_defined(algorithm, scheme, "its weights stay in float", "name a scheme that rounds weights")


load_rooms(sys.modules[__name__])
