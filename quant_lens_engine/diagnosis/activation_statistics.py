"""What each layer gives: ranges, outliers, histogram; and how far a variant's output is from the float model's.

Everything is added up over micro-batches in float64, so memory does not grow with rows and a ragged last batch is
exact. Two passes of the float model: the first gives the edges of
the histograms and the ruler for outliers, which every variant shares; in the second each layer is also applied with its
rounded weights to the float model's input (*isolated* SQNR), and its output kept until the variant has run on the same
rows (*cumulative* SQNR).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine.diagnosis.input_tally import InputTally
from quant_lens_engine.diagnosis.layer_watch import WatchedLayer, first_tensor, watching, watching_inputs
from quant_lens_engine.diagnosis.output_tally import OutputTally, Ruler
from quant_lens_engine.diagnosis.signal_loss import SignalLoss
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema import ActivationOptions, Activations, LayerActivation

HELD_BYTES = {"cpu": 2**29, "cuda": 2**31}
"""What the float model's outputs of one micro-batch may take while the variant runs; larger ones are split."""

_CONVOLUTION = torch.nn.modules.conv._ConvNd


@dataclass(frozen=True)
class FloatFlow:
    """What the first pass of the float model has shown: the ruler of every layer that ran, in the order of running."""

    rulers: dict[str, Ruler]
    bytes_per_row: float


def float_flow(
    objective: Objective, layers: Sequence[WatchedLayer], progress: Progress = SILENT, stage: str = ""
) -> FloatFlow:
    """Range, mean and standard deviation of each layer's output in the float model, over all rows.

    Args:
        objective: at the float point.
        layers: to look at; one whose module is not called is left out.
        progress: told after each micro-batch.
        stage: the stage's key.
    """
    tallies: dict[str, OutputTally] = {}
    axes = _axes(objective.model, layers)
    held = largest = 0.0

    def see(name: str, _: Any, __: Any, output: Tensor) -> None:
        nonlocal held
        held += output.nbytes
        tallies.setdefault(name, OutputTally(axes[name])).add(output)

    total = 2 * len(objective.sample.batches)
    with watching(objective.model, layers, see):
        for index, batch in enumerate(objective.batches()):
            progress.check_cancelled()
            held = 0.0
            objective.scores(batch)
            largest = max(largest, held / batch.rows)
            progress.report(stage, index + 1, total)
    rulers = {
        name: Ruler(tally.minimum, tally.maximum, tally.moments.mean, tally.moments.std)
        for name, tally in tallies.items()
    }
    return FloatFlow(rulers, largest)


def measure_activations(
    objective: Objective, layers: Sequence[WatchedLayer], flow: FloatFlow, *,
    live: Callable[[Objective], Objective] | None = None, options: ActivationOptions | None = None,
    progress: Progress = SILENT, stage: str = "",
) -> Activations:  # fmt: skip
    """Statistics of every layer's output, and its SQNR against the float model.

    Args:
        objective: at the float point.
        layers: to look at.
        flow: of :func:`float_flow`, on the same rows.
        live: from an objective at the float point to the variant's; None: the float model itself.
        options: bins of the histograms.
        progress: told after each micro-batch.
        stage: the stage's key.

    Example:
        >>> plain = Objective(nn.Sequential(nn.Linear(2, 2)), [(torch.eye(2), torch.tensor([0, 1]))])
        >>> layers = [WatchedLayer("0")]
        >>> found = measure_activations(plain, layers, float_flow(plain, layers))
        >>> found.layers[0].output.elements, found.layers[0].sqnr_db
        (4, None)
    """
    started = time.perf_counter()
    bins = (options or ActivationOptions()).bins
    fitted = _fitting(objective, flow) if live is not None else objective
    comparison = _Comparison(fitted, layers, flow, live)
    batches = len(fitted.sample.batches)
    for index, batch in enumerate(fitted.batches()):
        progress.check_cancelled()
        comparison.add(batch)
        progress.report(stage, batches + index + 1, 2 * batches)
    found = [comparison.record(layer, bins) for layer in comparison.met]
    found += [
        LayerActivation(
            name=layer.name, kind=_kind(objective.model, layer.name), quantized=layer.quantized,
            reason="its module is not called in the forward pass: not used, or a function is given its weight",
        )
        for layer in layers
        if layer.name not in flow.rulers
    ]  # fmt: skip
    return Activations(
        layers=found,
        samples=objective.samples,
        reason=None if layers else "the model has no layer with weights",
        elapsed_s=time.perf_counter() - started,
    )


class _Comparison:
    """The float model and a variant of it on the same micro-batches."""

    def __init__(
        self, objective: Objective, layers: Sequence[WatchedLayer], flow: FloatFlow,
        live: Callable[[Objective], Objective] | None,
    ) -> None:  # fmt: skip
        known = {layer.name: layer for layer in layers}
        self.met = [known[name] for name in flow.rulers if name in known]
        self._float = objective
        self._variant = None if live is None else live(objective)
        axes = _axes(objective.model, self.met)
        self._tallies = {layer.name: OutputTally(axes[layer.name], flow.rulers[layer.name]) for layer in self.met}
        self._isolated = {layer.name: SignalLoss() for layer in self.met}
        self._cumulative = {layer.name: SignalLoss() for layer in self.met}
        self._inputs = {layer.name: InputTally(layer.span) for layer in self.met if layer.as_rounded is not None}
        self._kept: dict[str, list[Tensor]] = {}
        self._rounded = {} if self._variant is None else _own_parameters(objective.model, self.met, self._variant.point)
        self._alone = False

    def add(self, batch: Any) -> None:
        """One micro-batch through both networks."""
        if self._variant is None:
            with watching(self._float.model, self.met, lambda name, _, __, output: self._tallies[name].add(output)):
                self._float.scores(batch)
            return
        self._kept = {layer.name: [] for layer in self.met}
        with watching(self._float.model, self.met, self._see_float):
            self._float.scores(batch)
        with (
            watching(self._variant.model, self.met, self._see_variant),
            watching_inputs(self._variant.model, self.met, self._inputs),
        ):
            self._variant.scores(batch)
        for name, left in self._kept.items():
            if left:
                self._cumulative[name].reason = "it is called less often in the variant"

    def _see_float(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
        if self._alone:
            return  # the layer by itself, where both networks share their modules
        self._kept[name].append(output.clone())  # an activation behind it may write in place
        assert self._variant is not None
        self._alone = True
        try:
            module = self._variant.model.get_submodule(name)
            alone = first_tensor(functional_call(module, self._rounded[name], args, kwargs))
        finally:
            self._alone = False
        if alone is not None:
            self._isolated[name].add(output, alone)

    def _see_variant(self, name: str, _: Any, __: Any, output: Tensor) -> None:
        self._tallies[name].add(output)
        if self._kept[name]:
            self._cumulative[name].add(self._kept[name].pop(0), output)
        else:
            self._cumulative[name].reason = "it is called more often in the variant"

    def record(self, layer: WatchedLayer, bins: int) -> LayerActivation:
        """What a result says of one layer."""
        found = LayerActivation(
            name=layer.name,
            kind=_kind(self._float.model, layer.name),
            quantized=layer.quantized,
            output=self._tallies[layer.name].statistics(bins),
            reason="the float model is what SQNR compares with" if self._variant is None else None,
        )
        if self._variant is None:
            return found
        if layer.name in self._inputs:
            found.input = self._inputs[layer.name].record()
        together, alone = self._cumulative[layer.name], self._isolated[layer.name]
        found.sqnr_db, found.isolated_sqnr_db = together.sqnr_db, alone.sqnr_db
        found.reason = together.why_none or (f"by itself: {alone.why_none}" if alone.why_none else None)
        return found


def _own_parameters(
    model: nn.Module, layers: Sequence[WatchedLayer], point: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Each layer's parameters at ``point``, under the names that they have in the layer itself."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        layer.name: {
            local: point[names[id(parameter)]]
            for local, parameter in model.get_submodule(layer.name).named_parameters(remove_duplicate=False)
        }
        for layer in layers
    }


def _fitting(objective: Objective, flow: FloatFlow) -> Objective:
    """In micro-batches whose outputs can be kept while the variant runs."""
    largest = max(batch.rows for batch in objective.sample.batches)
    rows = int(HELD_BYTES[objective.device.type] / max(flow.bytes_per_row, 1.0))
    return objective if rows >= largest else objective.regrouped(max(1, rows))


def _axes(model: nn.Module, layers: Sequence[WatchedLayer]) -> dict[str, int]:
    """Where channels lie: on axis 1 of a convolution's output, elsewhere on the last."""
    return {
        layer.name: 1 if isinstance(model.get_submodule(layer.name), _CONVOLUTION) else -1 for layer in layers
    }  # fmt: skip


def _kind(model: nn.Module, name: str) -> str:
    return type(model.get_submodule(name)).__name__
