"""A quantized variant: the point at which it is measured, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from quant_lens_engine.schema import Layer, QuantizationScheme, SkippedLayer


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
class QuantizedVariant:
    """A model in one scheme, beside the float model it came from.

    Attributes:
        name: ``FP32``, the scheme's name, or the name a user gave.
        scheme: None for the float model and for a custom model.
        point: every parameter of the float model, dequantized: names of ``named_parameters()`` (tied ones once), same
            shapes, dtypes and device. Empty where ``unmapped`` says why a custom model has none.
        requantize: w → Q(w) with qparams observed anew, for any subset of the parameters; None where there is no such
            map (then there is no deployed landscape).
        own_model: a custom model, whose own forward gives loss and accuracy.
        layers: the rounded weights.
        skipped: layers with weights that stayed in float, with the reason.
        effective_bits: stored bits of the quantized weights with scales and zero points, divided by their count.
        size_bytes: the whole model: quantized weights, everything else as it is, and buffers.
        quantized_layers: layers that compute with rounded weights; two that share a tensor are two.
        unmapped: why a custom model's weights could not be found under the float model's names.
    """

    name: str
    scheme: QuantizationScheme | None
    point: dict[str, Tensor]
    requantize: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None
    own_model: nn.Module | None = None
    layers: list[QuantizedLayer] = field(default_factory=list)
    skipped: list[SkippedLayer] = field(default_factory=list)
    effective_bits: float | None = None
    size_bytes: int | None = None
    quantized_layers: int = 0
    unmapped: str | None = None
