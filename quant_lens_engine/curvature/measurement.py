"""The curvature of one variant, as the record that a run keeps: one budget of products for all of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from quant_lens_engine.curvature import records
from quant_lens_engine.curvature.davidson import Start, is_near
from quant_lens_engine.curvature.gradient import gradient_of
from quant_lens_engine.curvature.hessian_products import HessianProducts, HessianWay
from quant_lens_engine.curvature.krylov import Krylov, Process, product_error
from quant_lens_engine.curvature.lanczos import Spectrum, extreme_spectrum
from quant_lens_engine.curvature.layers import layer_spectrum, slices_of
from quant_lens_engine.curvature.plan import HvpPlan
from quant_lens_engine.curvature.product_log import LoggedProducts, identity_of
from quant_lens_engine.curvature.sample_spread import spread_over_shards
from quant_lens_engine.curvature.shared_products import density_runs, sampled_traces
from quant_lens_engine.curvature.sharpness import (
    ADAPTIVE_RADIUS,
    filter_norms,
    relative_spectrum,
    worst_case,
)
from quant_lens_engine.curvature.traces import BlockTraces, SampleMean
from quant_lens_engine.errors import NumericalError
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.schema.analyses import CurvatureOptions
from quant_lens_engine.schema.curvature import Curvature, LayerCurvature, Sharpness

FEWEST_FOR_START = 100
"""Under a lower cap a start at random comes further: its own bounds are the earlier ones."""

INNER = 10.0
"""Eigenvalues behind the extreme ones are asked for to so many times the tolerance."""


def measure_curvature(
    objective: Objective,
    options: CurvatureOptions | None = None,
    *,
    seed: int = 0,
    hvp_plan: HvpPlan | None = None,
    weights: Literal["float", "dequantized"] = "dequantized",
    layers: Mapping[str, Sequence[str]] | None = None,
    start: Start | None = None,
    progress: Progress = SILENT,
    stage: str = "",
    checkpoint: Path | None = None,
) -> Curvature:
    """The spectrum of ∇²L, over the whole sample: its ends, trace, density, layers and invariant sharpness.

    Args:
        objective: at the point of interest; a variant's is ``objective.at(variant.point)``.
        options: accuracy and effort.
        seed: of start vectors, probes and shards; the same for every variant of a run.
        hvp_plan: see :class:`~quant_lens_engine.curvature.sample_operator.SampleOperator`.
        weights: what the point is, for the record.
        layers: the names of each layer's weights.
        start: what the float model's curvature has taught; see :func:`start_pays`.
        progress: told after each product.
        stage: the stage's key.
        checkpoint: a folder for this measurement alone: its products are kept there, and one that was stopped goes on
            from them; see :mod:`~quant_lens_engine.curvature.product_log`. None: it begins anew.

    Returns:
        the record; where an operator has no second derivative, products are differences of gradients, and the record
        says so. Where a product is not finite, its numbers are null and ``reason`` says why.

    Example:
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(2, 1, bias=False), data, task="regression")
        >>> curvature = measure_curvature(objective)
        >>> [round(number, 6) for number in (curvature.lambda_max.value, curvature.lambda_min.value)]
        [4.0, 1.0]
        >>> round(curvature.trace.value, 6)
        5.0
    """
    measurement = CurvatureMeasurement(
        objective, options or CurvatureOptions(), seed, hvp_plan, layers or {}, start, progress, stage, checkpoint
    )
    return measurement.measure(weights)


@dataclass
class CurvatureMeasurement:
    """One variant's curvature, and what the next one can start from; see :func:`measure_curvature`.

    One Lanczos process serves all of it: its ends are the eigenpairs, its basis takes the variance out of every trace,
    its Ritz values are a quadrature of the density, and its eigenvectors are where other variants start.
    """

    objective: Objective
    options: CurvatureOptions
    seed: int = 0
    hvp_plan: HvpPlan | None = None
    layers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    start: Start | None = None
    progress: Progress = SILENT
    stage: str = ""
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        self._first: Process | None = None
        self._way = HessianWay(self.hvp_plan, self.progress.check_cancelled)
        self._products: dict[str, float] = {}
        self._operator: HessianProducts | None = None

    def measure(self, weights: Literal["float", "dequantized"] = "dequantized") -> Curvature:
        """The record."""
        started = time.perf_counter()
        try:
            curvature = self._measured_somehow()
        except NumericalError as error:
            curvature = Curvature(reason=error.message)
        operator = self._operator
        curvature.products = self._products
        curvature.hvps = max(sum(self._products.values()), operator.products if operator else 0)
        curvature.dimension = self.objective.dimension
        curvature.attention = operator.attention if operator else None
        curvature.derivative, curvature.without_second_derivative = self._way.derivative, self._way.without
        curvature.lowered = list(self._way.room.lowered)
        curvature.weights = weights
        curvature.started_from = self.start.name if self.start else None
        curvature.elapsed_s = time.perf_counter() - started
        return curvature

    def taught(self, name: str) -> Start | None:
        """What a near variant can start from: the spectrum that :meth:`measure` found, or finds now by itself."""
        try:
            first = self._first or self._spectrum(self._hessian()).first
        except NumericalError:
            return None
        return Start.of(name, first) if isinstance(first, Krylov) and not first.restarts else None

    def _hessian(self) -> HessianProducts:
        operator = self._way.operator(self.objective)
        if self.checkpoint is not None:
            operator = LoggedProducts(operator, self.checkpoint / self._way.derivative, identity_of(self.objective))
        self._operator = operator
        return self._operator

    def _measured_somehow(self) -> Curvature:
        """By exact products, or by differences where the first one shows that there are none."""
        try:
            return self._measured()
        except NumericalError as error:
            self._way.fall_back(error)
        return self._measured()

    def _measured(self) -> Curvature:
        options, operator = self.options, self._hessian()
        spectrum = self._spectrum(operator)
        self._count("eigenvalues", operator.products)
        report = self._reporter(operator, "density")
        runs = density_runs(
            operator, spectrum, runs=options.density_runs, steps=options.density_steps, seed=self.seed,
            on_product=report,
        )  # fmt: skip
        self._count("density", operator.products)
        scales = filter_norms(self.objective) if options.sharpness else None
        traces = self._traces(operator, spectrum, scales)
        self._count("trace", operator.products)
        sharpness = None if scales is None else self._sharpness(operator, spectrum, traces, scales)
        self._count("sharpness", operator.products)
        operator.release()
        self.objective = self._way.room.fitted(self.objective)
        ends = torch.stack([spectrum.top.vectors[0], spectrum.bottom.vectors[0]])
        spread = spread_over_shards(self.objective, ends, seed=self.seed, products=self._way.operator)
        self._products["shards"] = len(ends)
        curvature = records.eigenvalues(spectrum, spread, options, self._precision)
        records.add_density(curvature, runs, operator.dimension, operator.products, options.confidence)
        error = product_error(operator)
        curvature.trace = records.trace_record(
            traces.whole, traces.exact, options.confidence, error * operator.dimension
        )
        curvature.effective_rank = records.estimate_record(
            traces.effective_rank(), options.confidence, 0.0, operator.dimension, known=not error
        )
        curvature.layers = self._layer_records(traces, error * math.sqrt(operator.dimension))
        curvature.sharpness = sharpness
        return curvature

    def _spectrum(self, operator: HessianProducts) -> Spectrum:
        options = self.options
        found = extreme_spectrum(
            operator,
            top=options.top,
            bottom=options.bottom,
            tolerance=options.tolerance,
            inner_tolerance=INNER * options.tolerance,
            max_products=options.max_products,
            confidence=options.confidence,
            seed=self.seed,
            start=self.start,
            on_step=lambda _: self._reporter(operator, "eigenvalues")(),
        )
        self._first = found.first
        return found

    def _traces(self, operator: HessianProducts, spectrum: Spectrum, scales: Tensor | None) -> BlockTraces:
        blocks = [slices_of(self.objective, names) for names in self.layers.values()]
        return sampled_traces(
            operator,
            spectrum,
            BlockTraces(spectrum.first, blocks, None if scales is None else scales.square(), spectrum.beyond_first()),
            relative_error=self.options.trace_error,
            probes=self.options.trace_probes,
            seed=self.seed,
            on_product=self._reporter(operator, "trace"),
        )

    def _sharpness(
        self, operator: HessianProducts, spectrum: Spectrum, traces: BlockTraces, scales: Tensor
    ) -> Sharpness:
        options = self.options
        report = self._reporter(operator, "sharpness")
        relative = relative_spectrum(
            operator,
            scales,
            tolerance=INNER * options.tolerance,
            max_products=options.max_products,
            confidence=options.confidence,
            seed=self.seed,
            on_step=lambda _: report(),
        )
        room = self._way.room
        self.objective = room.fitted(self.objective)
        gradient, _ = room.within(self.objective, lambda fitted: gradient_of(fitted, self.progress.check_cancelled))
        radius = options.radius
        top, relative_top = spectrum.top.vectors[0], relative.top.vectors[0]
        return Sharpness(
            relative_lambda_max=records.largest_record(relative, self._precision, options.confidence),
            relative_trace=records.trace_record(
                traces.scaled, traces.exact, options.confidence, product_error(operator) * float(scales.square().sum())
            ),
            adaptive=room.within(
                self.objective,
                lambda fitted: worst_case(fitted, gradient, relative_top, ADAPTIVE_RADIUS * radius, scales),
            ),
            plain=room.within(self.objective, lambda fitted: worst_case(fitted, gradient, top, radius)),
        )

    def _layer_records(self, traces: BlockTraces, probe_error: float) -> list[LayerCurvature]:
        """Of every layer; ``probe_error`` is that of a product with a probe of ±1."""
        found: list[LayerCurvature] = []
        cost, before = 0.0, round(sum(self._products.values()))
        for (name, parameters), mean in zip(self.layers.items(), traces.blocks, strict=True):
            self.progress.report(self.stage, before + len(found), before + len(self.layers), f"layer {name}")
            size = sum(self.objective.point[parameter].numel() for parameter in parameters)
            error = probe_error * math.sqrt(size)
            record = LayerCurvature(
                name=name,
                parameters=size,
                trace=records.trace_record(mean, traces.exact, self.options.confidence, error),
            )
            if self.options.layer_eigenvalues != "none":
                block = layer_spectrum(
                    self.objective,
                    parameters,
                    tolerance=self.options.tolerance,
                    confidence=self.options.confidence,
                    seed=self.seed,
                    products=self._way.operator,
                )
                if block is not None:
                    record.lambda_max = records.largest_record(block.spectrum, self._precision, self.options.confidence)
                    cost += block.cost
                    if block.trace is not None:
                        known = SampleMean(block.trace)
                        record.trace = records.trace_record(known, True, self.options.confidence, block.trace_error)
            found.append(record)
        if cost:
            self._products["layers"] = cost
        return found

    @property
    def _precision(self) -> float:
        return float(torch.finfo(self.objective.point[self.objective.free[0]].dtype).eps)

    def _count(self, part: str, products: int) -> None:
        """``products`` so far: what is new of them was spent on ``part``."""
        new = products - sum(self._products.values())
        if new:
            self._products[part] = new

    def _reporter(self, operator: HessianProducts, note: str) -> Callable[[], None]:
        options = self.options
        most = min(options.max_products, operator.dimension) + options.density_runs * options.density_steps
        most += min(options.trace_probes, operator.dimension)

        def report() -> None:
            self.progress.report(self.stage, operator.products, max(most, operator.products), note)

        return report


def start_pays(options: CurvatureOptions, reference: Objective, objective: Objective) -> bool:
    """Whether a variant's curvature is better started from that at ``reference`` than at random.

    A start that is given needs a second process for its bounds, so it pays where there is one in any case.
    """
    if options.top == options.bottom == 1 or options.max_products < FEWEST_FOR_START:
        return False
    return is_near(_flat(objective), _flat(reference))


def _flat(objective: Objective) -> Tensor:
    return torch.cat([objective.point[name].detach().reshape(-1).double() for name in objective.free])
