"""What activations and BatchNorm say of a variant, in a sentence each; the same in every report."""

from __future__ import annotations

from quant_lens_engine.schema import numbers
from quant_lens_engine.schema.run_result import Variant


def signal_sentence(variant: Variant) -> str:
    """Which layer loses most by itself and what the last one is left with; nothing where nothing was lost.

    Example:
        >>> signal_sentence(Variant(name="int8"))
        ''
    """
    layers = [] if variant.activation_statistics is None else variant.activation_statistics.layers
    alone = [layer for layer in layers if layer.isolated_sqnr_db is not None]
    reached = [layer for layer in layers if layer.sqnr_db is not None]
    parts = []
    if alone:
        worst = min(alone, key=lambda layer: layer.isolated_sqnr_db or 0.0)
        parts.append(f"{worst.name} loses most by itself ({numbers.number(worst.isolated_sqnr_db)} dB)")
    if reached:
        parts.append(f"{reached[-1].name}, the last, is left with {numbers.number(reached[-1].sqnr_db)} dB")
    return "; ".join(parts)


def reestimation_sentence(variant: Variant, task: str = "classification") -> str:
    """What new running statistics do to the loss; nothing where that was not measured."""
    effect = None if variant.batchnorm is None else variant.batchnorm.reestimation
    if effect is None or effect.delta_loss is None:
        return ""
    unit = "" if task == "regression" else " nats"
    change = numbers.with_error(effect.delta_loss, effect.delta_loss_standard_error, signed=True)
    rows = f"{numbers.count(effect.rows)} rows"
    rows += " (measured rows, or some of them)" if effect.overlap else " that are not measured"
    before, after = numbers.number(effect.loss_before), numbers.number(effect.loss_after)
    words = f"the loss goes from {before} to {after}{unit} ({change}) with statistics of {rows}"
    if effect.accuracy_before is not None and effect.accuracy_after is not None:
        words += (
            f"; accuracy from {numbers.percent(effect.accuracy_before)} to {numbers.percent(effect.accuracy_after)}"
        )
    return words
