"""A quantized variant: the point at which it is measured, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.model_call import Computation
from quant_lens_engine.quantization.quantized_forward import QuantizedForward
from quant_lens_engine.schema import Activation, Layer, QuantizationScheme, Recipe, SkippedLayer


@dataclass(frozen=True)
class QuantizedLayer:
    """One weight tensor that is rounded.

    Attributes:
        name: the layer's name in ``model.named_modules()``; an attention's packed projection is ``…in_proj``.
        kind: the layer's class, such as ``Linear``.
        parameter: the name of the weight in ``model.named_parameters()``.
        parameters: how many weights.
        sqnr_db: 20·log10(‖W‖ / ‖W − Q(W)‖); None where nothing was lost, or where W is zero.
        weight_mse: ‖W − Q(W)‖² / parameters.
        bits: stored bits a weight, with scales and zero points.
    """

    name: str
    kind: str
    parameter: str
    parameters: int
    sqnr_db: float | None
    weight_mse: float
    bits: float

    def as_record(self) -> Layer:
        """As it stands in a RunResult."""
        return Layer(
            name=self.name,
            kind=self.kind,
            parameters=self.parameters,
            sqnr_db=self.sqnr_db,
            weight_mse=self.weight_mse,
        )


@dataclass(frozen=True)
class RoundedActivation:
    """One activation that is rounded.

    Attributes:
        name: the layer whose input it is, or a factor of attention's products.
        format: the part of the scheme's name that says how.
        low: lower end of its static range; None where the range comes from the values at each pass.
        high: upper end.
    """

    name: str
    format: str
    low: float | None
    high: float | None

    def as_record(self) -> Activation:
        """As it stands in a RunResult."""
        return Activation(name=self.name, format=self.format, low=self.low, high=self.high)


@dataclass(frozen=True)
class QuantizedVariant:
    """A model as a recipe says, beside the float model it came from.

    Attributes:
        name: ``FP32``, the recipe's name, or the name a user gave.
        recipe: None for the float model and for a custom model.
        point: every parameter of the float model, dequantized: names of ``named_parameters()`` (tied ones once), same
            shapes, dtypes and device. Empty where ``unmapped`` says why a custom model has none.
        requantize: w → Q(w) with qparams observed anew, for any subset of the parameters; None where there is no such
            map (then there is no deployed landscape).
        forward: how activations are rounded; None where they stay in float.
        redeploy: w → the network as it is deployed there, static activation ranges observed anew: the rounded point,
            and how activations are rounded.
        own_model: a custom model, whose own forward gives loss and accuracy.
        layers: the rounded weights.
        skipped: layers with weights that stayed in float, with the reason.
        effective_bits: stored bits of the quantized weights with scales and zero points, divided by their count.
        size_bytes: the whole model: quantized weights, everything else as it is, and buffers.
        quantized_layers: layers that compute with rounded weights; two that share a tensor are two.
        notes: what a reader should know, in sentences.
        unmapped: why a custom model's weights could not be found under the float model's names.
    """

    name: str
    recipe: Recipe | None
    point: dict[str, Tensor]
    requantize: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None
    forward: QuantizedForward | None = None
    redeploy: Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], Computation | None]] | None = None
    own_model: nn.Module | None = None
    layers: list[QuantizedLayer] = field(default_factory=list)
    skipped: list[SkippedLayer] = field(default_factory=list)
    effective_bits: float | None = None
    size_bytes: int | None = None
    quantized_layers: int = 0
    notes: list[str] = field(default_factory=list)
    unmapped: str | None = None

    @property
    def scheme(self) -> QuantizationScheme | None:
        """The recipe's."""
        return None if self.recipe is None else self.recipe.scheme

    @property
    def activations(self) -> list[RoundedActivation]:
        """The rounded activations, as far as they have been met."""
        quantizers = {} if self.forward is None else self.forward.quantizers
        return [
            RoundedActivation(
                name=name,
                format=quantizer.fmt.name,
                low=None if quantizer.span is None else float(quantizer.span.low),
                high=None if quantizer.span is None else float(quantizer.span.high),
            )
            for name, quantizer in quantizers.items()
        ]

    def live(self, objective: Objective) -> Objective:
        """The loss of this variant, with activations rounded as they come, at its point."""
        return objective.through(self.forward).at(self.point)

    def smooth(self, objective: Objective) -> Objective:
        """The smooth function that has this variant's value and derivatives at its point: activations keep the rounding
        offsets and the masks that they have there."""
        at_point = objective.at(self.point)
        if self.forward is None:
            return at_point
        return at_point.through(self.forward.frozen(at_point.point, objective.device))
