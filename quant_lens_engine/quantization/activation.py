"""A place where an activation is met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from quant_lens_engine.errors import NumericalError


@dataclass(frozen=True)
class Activation:
    """Where an activation is met.

    Attributes:
        layer: the layer whose input it is; of what attention multiplies, the attention's name or number.
        module: the name of the module whose weight it is multiplied with; of attention's products, the same as layer.
        role: ``input``; for the projections of attention ``input``, or ``query``, ``key`` and ``value`` where they
            differ; for its products ``queries``, ``keys``, ``values``, ``probabilities``, ``left`` and ``right``;
            ``other`` where a function reads the weight turned round, in part, or with another stride than the layer's.
        spatial: it enters a convolution: features lie on axis 1, elsewhere on the last.
        batch_axis: where the rows of the batch lie, in values of three axes or more.
        by_function: the layer's module is not called: a function is given its weight.
    """

    layer: str
    module: str
    role: str = "input"
    spatial: bool = False
    batch_axis: int = 0
    by_function: bool = False

    @property
    def name(self) -> str:
        """The layer's, with the role where that is not its only input."""
        return self.layer if self.role == "input" else f"{self.layer}.{self.role}"

    @property
    def inside_attention(self) -> bool:
        """Whether it is a factor of attention's products, not the input of a layer with weights."""
        return self.role in ("queries", "keys", "values", "probabilities", "left", "right")

    @property
    def is_layer_input(self) -> bool:
        """Whether the layer's weight matrix, as the layer has it, is multiplied with it."""
        return not self.inside_attention and self.role != "other"


def non_finite_activations(whose: str) -> NumericalError:
    """What a layer is given on the calibration rows is NaN or infinite."""
    return NumericalError(
        f"the {whose} not finite on the calibration rows",
        hint="look at the data's transform, at masks that leave a query no key, and at a dtype's range",
        code="non_finite_activations",
    )


Visit = Callable[[Activation, Tensor], Tensor]
"""``(activation, values) -> values`` as the layer behind gets them."""
