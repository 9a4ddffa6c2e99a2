"""What each layer gives: ranges, outliers, histogram; and how far a variant's output is from the float model's.

Everything is added up over micro-batches in float64, so memory does not grow with rows and a ragged last batch is
exact. Moments are merged as in Pébay 2008 (SAND2008-6212). Two passes of the float model: the first gives the edges of
the histograms and the ruler for outliers, which every variant shares; in the second each layer is also applied with its
rounded weights to the float model's input (*isolated* SQNR), and its output kept until the variant has run on the same
rows (*cumulative* SQNR).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema import (
    ActivationOptions,
    Activations,
    Histogram,
    InputRange,
    LayerActivation,
    OutputStatistics,
)

FINE_BINS = 2048
"""Of the histogram that percentiles come from; what is shown has fewer."""
OUTLIER_STDS = 6.0
PERCENTILES = (0.001, 0.999)
HELD_BYTES = {"cpu": 2**29, "cuda": 2**31}
"""What the float model's outputs of one micro-batch may take while the variant runs; larger ones are split."""

_CONVOLUTION = torch.nn.modules.conv._ConvNd


@dataclass(frozen=True)
class WatchedLayer:
    """A layer to look at.

    Attributes:
        name: of its module, in ``named_modules()``.
        quantized: whether the scheme rounds its weights or its input.
        as_rounded: what the rounding of its input sees of it (smoothing divides features first); None where the input
            stays in float.
        span: the static range of its input; None where there is none.
    """

    name: str
    quantized: bool = False
    as_rounded: Callable[[Tensor], Tensor] | None = None
    span: tuple[float, float] | None = None


@dataclass
class Moments:
    """Count, mean and central sums Σ(x − mean)ᵏ of a stream of numbers.

    Example:
        >>> found = Moments()
        >>> found.add(torch.tensor([1.0, 3.0]))
        >>> found.add(torch.tensor([5.0]))
        >>> found.mean, round(found.std, 6), found.kurtosis
        (3.0, 1.632993, 1.5)
    """

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    third: float = 0.0
    fourth: float = 0.0

    def add(self, values: Tensor) -> None:
        """Some numbers more."""
        if not values.numel():
            return
        wide = values.double()
        mean = wide.mean()
        apart = wide - mean
        squares = apart * apart
        sums = torch.stack([mean, squares.sum(), (squares * apart).sum(), (squares * squares).sum()])
        self._merge(values.numel(), *sums.tolist())

    @property
    def std(self) -> float:
        """Standard deviation, divided by n."""
        return math.sqrt(self.second / self.count) if self.count else math.nan

    @property
    def kurtosis(self) -> float | None:
        """Fourth central moment over the variance's square; None where nothing varies."""
        return self.count * self.fourth / self.second**2 if self.second > 0 else None

    def _merge(self, n: int, mean: float, second: float, third: float, fourth: float) -> None:
        a, b, total = self.count, n, self.count + n
        shift = mean - self.mean
        self.fourth += (
            fourth
            + shift**4 * a * b * (a * a - a * b + b * b) / total**3
            + 6 * shift**2 * (a * a * second + b * b * self.second) / total**2
            + 4 * shift * (a * third - b * self.third) / total
        )
        self.third += third + shift**3 * a * b * (a - b) / total**2 + 3 * shift * (a * second - b * self.second) / total
        self.second += second + shift**2 * a * b / total
        self.mean += shift * b / total
        self.count = total


class Ruler(NamedTuple):
    """What all variants of a layer are measured against: range, mean and std of the float model's output."""

    low: float
    high: float
    mean: float
    std: float

    @property
    def has_bins(self) -> bool:
        """Whether there is a range to divide."""
        return math.isfinite(self.low) and math.isfinite(self.high) and self.high > self.low


@dataclass
class OutputTally:
    """One layer's output in one network, added up.

    Args:
        axis: of the channels.
        ruler: of the float model; None while that is being found.
    """

    axis: int
    ruler: Ruler | None = None
    moments: Moments = field(default_factory=Moments)
    minimum: float = math.inf
    maximum: float = -math.inf
    non_finite: int = 0
    fine: Tensor | None = None
    below: int = 0
    above: int = 0
    outliers: int = 0
    _spans: tuple[Tensor, Tensor] | None = None
    _mixed: bool = False

    def add(self, values: Tensor) -> None:
        """The output of one more call."""
        if not values.numel():
            return
        finite = torch.isfinite(values)
        if bool(finite.all()):
            kept = values.flatten()
        else:
            kept = values[finite]
            self.non_finite += values.numel() - kept.numel()
            self._mixed = True
            if not kept.numel():
                return
        self.moments.add(kept)
        low, high = (float(end) for end in kept.aminmax())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._add_channels(values)
        if self.ruler is not None:
            self._measure(kept, self.ruler)

    def _add_channels(self, values: Tensor) -> None:
        if self._mixed:
            return
        by_channel = values.movedim(self.axis, -1).flatten(0, -2) if values.dim() > 1 else values[None]
        low, high = by_channel.amin(0), by_channel.amax(0)
        if self._spans is None:
            self._spans = low, high
        elif self._spans[0].shape == low.shape:
            self._spans = torch.minimum(self._spans[0], low), torch.maximum(self._spans[1], high)
        else:
            self._mixed = True  # channels come and go: there is no channel to speak of

    def _measure(self, values: Tensor, ruler: Ruler) -> None:
        wide = values.double()
        if ruler.std > 0:
            self.outliers += int((wide - ruler.mean).abs().gt(OUTLIER_STDS * ruler.std).sum())
        if not ruler.has_bins:
            return
        below, above = wide < ruler.low, wide > ruler.high
        self.below, self.above = self.below + int(below.sum()), self.above + int(above.sum())
        places = ((wide - ruler.low) * (FINE_BINS / (ruler.high - ruler.low))).long().clamp_(0, FINE_BINS - 1)
        counts = torch.bincount(places[~(below | above)], minlength=FINE_BINS).cpu()
        self.fine = counts if self.fine is None else self.fine + counts

    def statistics(self, bins: int) -> OutputStatistics:
        """What a result says of it."""
        found = OutputStatistics(elements=self.moments.count + self.non_finite, non_finite=self.non_finite)
        if not self.moments.count:
            return found
        found.minimum, found.maximum = self.minimum, self.maximum
        found.mean, found.std, found.kurtosis = self.moments.mean, self.moments.std, self.moments.kurtosis
        if self._spans is not None and not self._mixed:
            widths = (self._spans[1] - self._spans[0]).double()
            found.channels = widths.numel()
            median = float(widths.quantile(0.5))
            if found.channels > 1 and median > 0:
                found.channel_range_ratio = float(widths.max()) / median
        if self.ruler is not None and self.ruler.std > 0:
            found.outlier_share = self.outliers / self.moments.count
        if self.fine is not None and self.ruler is not None:
            counts = self.fine.reshape(bins, -1).sum(1).tolist()
            found.histogram = Histogram(
                low=self.ruler.low, high=self.ruler.high, counts=counts, below=self.below, above=self.above
            )
            found.low_percentile, found.high_percentile = (self._percentile(share) for share in PERCENTILES)
        return OutputStatistics.model_validate(found.model_dump())

    def _percentile(self, share: float) -> float:
        """Between two edges, by linear interpolation; beyond the ruler's range, up to the values' own end."""
        assert self.fine is not None
        assert self.ruler is not None
        low, high = self.ruler.low, self.ruler.high
        inner = torch.linspace(low, high, FINE_BINS + 1, dtype=torch.float64)
        ends = [torch.tensor([edge], dtype=torch.float64) for edge in (min(self.minimum, low), max(self.maximum, high))]
        edges = torch.cat([ends[0], inner, ends[1]])
        counts = torch.cat([torch.tensor([self.below]), self.fine, torch.tensor([self.above])])
        reached = counts.cumsum(0).double()
        wanted = share * float(reached[-1])
        place = int(torch.searchsorted(reached, wanted).clamp(max=len(counts) - 1))
        before = float(reached[place] - counts[place])
        inside = (wanted - before) / float(counts[place]) if counts[place] else 0.0
        return float(edges[place] + inside * (edges[place + 1] - edges[place]))


@dataclass
class Loss:
    """Σy² and Σ(y − ŷ)² of a layer's output."""

    signal: float = 0.0
    noise: float = 0.0
    reason: str | None = None

    def add(self, wanted: Tensor, found: Tensor) -> None:
        """The outputs of one call in both networks."""
        if wanted.shape != found.shape:
            self.reason = "its output has another shape in the variant"
            return
        reference = wanted.double()
        difference = found.double() - reference
        signal, noise = torch.stack([reference.square().sum(), difference.square().sum()]).tolist()
        self.signal, self.noise = self.signal + signal, self.noise + noise

    @property
    def sqnr_db(self) -> float | None:
        """10·log₁₀(signal / noise); None where it has no meaning."""
        usable = self.reason is None and 0 < self.noise < math.inf and 0 < self.signal < math.inf
        return 10 * math.log10(self.signal / self.noise) if usable else None

    @property
    def why_none(self) -> str | None:
        """Why there is no SQNR; None where there is one."""
        if self.sqnr_db is not None:
            return None
        if self.reason is not None:
            return self.reason
        if not math.isfinite(self.noise) or not math.isfinite(self.signal):
            return "its output is not finite"
        return "its output is zero" if not self.signal else "nothing was lost: its output is the float model's"


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
    with _watching(objective.model, layers, see):
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
        self._isolated = {layer.name: Loss() for layer in self.met}
        self._cumulative = {layer.name: Loss() for layer in self.met}
        self._inputs = {layer.name: _InputTally(layer.span) for layer in self.met if layer.as_rounded is not None}
        self._kept: dict[str, list[Tensor]] = {}
        self._rounded = {} if self._variant is None else _own_parameters(objective.model, self.met, self._variant.point)
        self._alone = False

    def add(self, batch: Any) -> None:
        """One micro-batch through both networks."""
        if self._variant is None:
            with _watching(self._float.model, self.met, lambda name, _, __, output: self._tallies[name].add(output)):
                self._float.scores(batch)
            return
        self._kept = {layer.name: [] for layer in self.met}
        with _watching(self._float.model, self.met, self._see_float):
            self._float.scores(batch)
        with (
            _watching(self._variant.model, self.met, self._see_variant),
            _watching_inputs(self._variant.model, self.met, self._inputs),
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
            alone = _first_tensor(functional_call(module, self._rounded[name], args, kwargs))
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


@dataclass
class _InputTally:
    """What a rounded input is like before it is rounded."""

    span: tuple[float, float] | None
    minimum: float = math.inf
    maximum: float = -math.inf
    count: int = 0
    clipped: int = 0

    def add(self, values: Tensor) -> None:
        if not values.numel():
            return
        low, high = (float(end) for end in values.aminmax())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.count += values.numel()
        if self.span is not None:
            self.clipped += int(((values < self.span[0]) | (values > self.span[1])).sum())

    def record(self) -> InputRange | None:
        if not self.count:
            return None
        low, high = self.span or (None, None)
        share = self.clipped / self.count if self.span is not None else None
        return InputRange(minimum=self.minimum, maximum=self.maximum, low=low, high=high, clipped_share=share)


@contextmanager
def _watching(
    model: nn.Module, layers: Sequence[WatchedLayer], see: Callable[[str, Any, Any, Tensor], None]
) -> Iterator[None]:
    """Show each call of a layer: name, arguments, keyword arguments and the first tensor of its output."""

    def hook(name: str) -> Callable[..., None]:
        def shown(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            tensor = _first_tensor(output)
            if tensor is not None:
                see(name, args, kwargs, tensor.detach())

        return shown

    handles = [
        model.get_submodule(layer.name).register_forward_hook(hook(layer.name), with_kwargs=True) for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watching_inputs(
    model: nn.Module, layers: Sequence[WatchedLayer], tallies: Mapping[str, _InputTally]
) -> Iterator[None]:
    """Show what rounded layers are given, before it is rounded."""

    def hook(layer: WatchedLayer) -> Callable[..., None]:
        def shown(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given = _first_tensor(args) if args else _first_tensor(kwargs)
            if given is not None and given.is_floating_point() and layer.as_rounded is not None:
                tallies[layer.name].add(layer.as_rounded(given.detach()))

        return shown

    handles = [
        model.get_submodule(layer.name).register_forward_pre_hook(hook(layer), prepend=True, with_kwargs=True)
        for layer in layers
        if layer.name in tallies
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((found for item in value if (found := _first_tensor(item)) is not None), None)
    return None
