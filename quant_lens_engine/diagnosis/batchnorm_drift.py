"""BatchNorm's running statistics against those that a network has on the data, and what putting them right does.

The data's mean and variance of each channel are exact over all rows, whatever the micro-batches: they are merged in
float64 as in Chan, Golub and LeVeque 1983. Re-estimation goes layer by layer in the order in which they run: a layer's
statistics are taken while those before it have theirs, so the result is that of one pass in training mode with all rows
as one batch. (Averages over mini-batches, as "precise BN" takes them, depend on how rows are grouped: Wu and Johnson
2021, arXiv:2105.07576.) New buffers are passed along with the parameters: the model itself is never written to.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from quant_lens_engine.objective import Objective, RowTerms, mean_with_error
from quant_lens_engine.objective.model_call import plain_paths
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema import BatchNormDrift, BatchNormOptions, NormalizationDrift, Reestimation


@dataclass
class ChannelMoments:
    """Mean and variance of each channel of a stream of activations ``(rows, channels, …)``.

    Example:
        >>> found = ChannelMoments()
        >>> found.add(torch.tensor([[1.0], [3.0]]))
        >>> found.add(torch.tensor([[5.0]]))
        >>> found.mean.tolist(), [round(value, 6) for value in found.variance.tolist()]
        ([3.0], [2.666667])
    """

    count: int = 0
    _mean: Tensor | None = None
    _squares: Tensor | None = None

    def add(self, values: Tensor) -> None:
        """One micro-batch more."""
        if not values.numel():
            return
        channels = values.shape[1]
        by_channel = values.double().transpose(0, 1).reshape(channels, -1)
        n, mean = by_channel.shape[1], by_channel.mean(1)
        squares = (by_channel - mean[:, None]).square().sum(1)
        if self._mean is None or self._squares is None:
            self.count, self._mean, self._squares = n, mean, squares
            return
        total, shift = self.count + n, mean - self._mean
        self._squares = self._squares + squares + shift.square() * (self.count * n / total)
        self._mean = self._mean + shift * (n / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """``(channels,)``, float64."""
        assert self._mean is not None
        return self._mean

    @property
    def variance(self) -> Tensor:
        """``(channels,)``, float64, divided by n."""
        assert self._squares is not None
        return self._squares / self.count


class _Enough(Exception):  # noqa: N818  (not an error: the rest of the pass is not needed)
    """All that was to be seen has been seen."""


def measure_batchnorm(
    objective: Objective, source: Objective | None = None, *, overlap: bool = True,
    options: BatchNormOptions | None = None, progress: Progress = SILENT, stage: str = "",
) -> BatchNormDrift:  # fmt: skip
    """Drift of every batch normalisation, and the effect of re-estimating them.

    Args:
        objective: of the variant, at its point, on the sample.
        source: the same on the rows that new statistics are taken from; None: those of the sample.
        overlap: whether rows of ``source`` are among those of ``objective``.
        options: whether to re-estimate.
        progress: told after each layer.
        stage: the stage's key.

    Example:
        >>> norm = nn.BatchNorm1d(1, eps=0.0)
        >>> rows = [(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))]
        >>> found = measure_batchnorm(Objective(nn.Sequential(norm), rows)).layers[0]
        >>> found.mean_shift_rms, found.variance_ratio  # running statistics of a new layer: mean 0, variance 1
        (2.0, 1.0)
    """
    started = time.perf_counter()
    options = options or BatchNormOptions()
    norms = {name: module for name, module in objective.model.named_modules() if isinstance(module, _BatchNorm)}
    if not norms:
        progress.report(stage, 1, 1)
        return BatchNormDrift(reason="the model has no batch normalisation", samples=objective.samples)
    tracked = [name for name, module in norms.items() if isinstance(module.running_mean, Tensor)]
    total = len(tracked) + 3
    progress.report(stage, 0, total, "statistics of the data")
    seen, calls = _statistics(objective, tracked, progress=progress)
    progress.report(stage, 1, total)
    found = BatchNormDrift(samples=objective.samples)
    found.layers = [_drift(name, norms[name], moments) for name, moments in seen.items()]
    found.layers += [_unmet(name, norms[name]) for name in norms if name not in seen]
    usable = [item.name for item in found.layers if item.reason is None]
    if options.reestimate and usable:
        rows = _few(objective if source is None else source, options.rows)
        found.reestimation = _reestimate(
            objective, rows, usable, calls, overlap or source is None, progress, stage, total
        )
    found.elapsed_s = time.perf_counter() - started
    return BatchNormDrift.model_validate(found.model_dump())


def reestimated(
    objective: Objective, names: Sequence[str], calls: Mapping[str, int], progress: Progress = SILENT,
    stage: str = "", total: int = 0,
) -> dict[str, Tensor]:  # fmt: skip
    """New ``running_mean`` and ``running_var`` of some normalisations, by the buffers' names.

    Args:
        objective: of the rows that they are taken from.
        names: of the layers, in the order in which they run.
        calls: how often a pass calls each.
        progress: told after each layer.
        stage: the stage's key.
        total: of the progress.
    """
    buffers: dict[str, Tensor] = {}
    for index, name in enumerate(names):
        progress.report(stage, index + 1, total, f"re-estimating {name}")
        seen, _ = _statistics(objective, [name], buffers, stop_after=calls[name], progress=progress)
        if name not in seen:
            continue
        module = objective.model.get_submodule(name)
        assert isinstance(module.running_mean, Tensor)
        assert isinstance(module.running_var, Tensor)
        buffers[f"{name}.running_mean"] = seen[name].mean.to(module.running_mean)
        buffers[f"{name}.running_var"] = seen[name].variance.to(module.running_var)
    return buffers


def _reestimate(
    objective: Objective, source: Objective, names: Sequence[str], calls: Mapping[str, int], overlap: bool,
    progress: Progress, stage: str, total: int,
) -> Reestimation:  # fmt: skip
    buffers = reestimated(source, names, calls, progress, stage, total)
    found = Reestimation(layers=len(buffers) // 2, rows=source.samples, overlap=overlap)
    broken = [name for name, tensor in buffers.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        found.reason = f"the data's statistics are not finite: {broken[0]}"
        return found
    before = objective.measure(rowwise=True, check_cancelled=progress.check_cancelled)
    progress.report(stage, total - 1, total, "the loss with new statistics")
    after = objective.measure(
        {**objective.point, **buffers}, rowwise=True, check_cancelled=progress.check_cancelled
    )  # fmt: skip
    progress.report(stage, total, total)
    _compare(found, before, after)
    return found


def _compare(found: Reestimation, before: RowTerms, after: RowTerms) -> None:
    found.loss_before, found.loss_after = before.loss.value, after.loss.value
    if before.losses.shape == after.losses.shape:
        change = mean_with_error(after.losses - before.losses, before.weights)
        found.delta_loss = change.value
        found.delta_loss_standard_error = change.standard_error if before.rowwise and after.rowwise else None
    if before.accuracy is None or after.accuracy is None:
        return
    found.accuracy_before, found.accuracy_after = before.accuracy.value, after.accuracy.value
    if before.correct is not None and after.correct is not None and before.counted is not None:
        shift = mean_with_error(after.correct - before.correct, before.counted)
        found.delta_accuracy, found.delta_accuracy_standard_error = shift


def _statistics(
    objective: Objective, names: Sequence[str], buffers: Mapping[str, Tensor] | None = None, *,
    stop_after: int | None = None, progress: Progress = SILENT,
) -> tuple[dict[str, ChannelMoments], dict[str, int]]:  # fmt: skip
    """Statistics of the inputs of some layers, in the order in which they first run, and how often a pass calls each.

    Args:
        objective: of the network.
        names: of the layers.
        buffers: put in place of the model's own.
        stop_after: calls of a single layer after which the rest of a pass is not needed.
        progress: asked before each micro-batch whether to go on.
    """
    seen: dict[str, ChannelMoments] = {}
    calls: dict[str, int] = {}
    most: dict[str, int] = {}

    def see(name: str, values: Tensor) -> None:
        seen.setdefault(name, ChannelMoments()).add(values)
        calls[name] = calls.get(name, 0) + 1
        if calls[name] == stop_after:
            raise _Enough

    point = {**objective.point, **(buffers or {})}
    with _watching(objective.model, names, see), torch.no_grad(), plain_paths():
        for batch in objective.batches():
            progress.check_cancelled()
            calls.clear()
            with contextlib.suppress(_Enough):
                objective.output(batch, point)
            most |= {name: max(count, most.get(name, 0)) for name, count in calls.items()}
    return seen, most


@contextmanager
def _watching(model: nn.Module, names: Sequence[str], see: Any) -> Iterator[None]:
    def hook(name: str) -> Any:
        return lambda _, args: see(name, args[0].detach())

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _drift(name: str, norm: _BatchNorm, moments: ChannelMoments) -> NormalizationDrift:
    found = NormalizationDrift(name=name, kind=type(norm).__name__, channels=len(moments.mean))
    mean, variance = moments.mean, moments.variance
    if not bool(torch.isfinite(mean).all() and torch.isfinite(variance).all()):
        found.reason = "its input is not finite"
        return found
    assert isinstance(norm.running_mean, Tensor)
    assert isinstance(norm.running_var, Tensor)
    running = norm.running_var.to(mean) + norm.eps
    shift = (mean - norm.running_mean.to(mean)) / running.sqrt()
    ratio = (variance + norm.eps) / running
    found.mean_shift_rms = float(shift.square().mean().sqrt())
    found.worst_channel = int(shift.abs().argmax())
    found.mean_shift_worst = float(shift.abs().max())
    found.variance_ratio = float(ratio.log().mean().exp())
    found.variance_ratio_min, found.variance_ratio_max = (float(end) for end in ratio.aminmax())
    return found


def _unmet(name: str, norm: _BatchNorm) -> NormalizationDrift:
    kept = isinstance(norm.running_mean, Tensor)
    return NormalizationDrift(
        name=name,
        kind=type(norm).__name__,
        channels=norm.num_features,
        reason="it is not called in the forward pass"
        if kept
        else "it keeps no running statistics: each batch is normalised by its own",
    )


def _few(objective: Objective, rows: int) -> Objective:
    """At most so many rows, evenly spaced."""
    if objective.samples <= rows:
        return objective
    return objective.select(torch.linspace(0, objective.samples - 1, rows, dtype=torch.float64).round().long())
