"""Quantization-aware fine-tuning (QAT): gradient descent through the rounding, straight through (Jacob et al. 2018,
arXiv:1712.05877); plain, or with sharpness-aware minimisation (SAM; Foret et al. 2021, arXiv:2010.01412).

Every trainable parameter moves, in ``eval()`` mode: normalisation keeps its statistics and nothing is dropped out, so
the function that is trained is the one that is measured. The rows are the calibration rows, a part of which is held
out: the parameters that did best on that part are kept, for a few hundred rows are soon learnt by heart. The
evaluation's rows are never among them; where there are no others training is refused. ``float+qat`` trains the float
model alike, as the control of a comparison: the same rows, steps and order, without rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from quant_lens_engine.errors import NumericalError, SchemeError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.randomness import generator
from quant_lens_engine.quantization.algorithms import ALGORITHMS, Phase
from quant_lens_engine.quantization.blocks import working
from quant_lens_engine.quantization.draft import Draft
from quant_lens_engine.quantization.fake_quant import straight_through
from quant_lens_engine.schema import QuantizationScheme, Request

FEWEST_ROWS = 4


class QatOptions(Request):
    """How it trains.

    Attributes:
        steps: of Adam, each on one batch.
        batch: rows of a batch.
        learning_rate: at the first step; it falls to 0 along half a cosine.
        held_out: part of the rows that chooses when to stop, and is not trained on.
        checks: how often that part is looked at.
    """

    steps: int = Field(default=200, ge=1, le=1_000_000)
    batch: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    checks: int = Field(default=10, ge=1, le=10_000)


class SamOptions(QatOptions):
    """How it trains, and how far the worst neighbour is looked for.

    Attributes:
        rho: radius of the neighbourhood.
    """

    rho: float = Field(default=0.05, gt=0)


class QuantizationAwareTraining:
    """Train through the rounding."""

    phase: Phase = "train"
    place = 0
    needs_calibration = True
    passes = 65.0
    options: ClassVar[type[Request]] = QatOptions
    description = "a short fine-tune through the rounding (QAT, arXiv:1712.05877)"

    def check(self, scheme: QuantizationScheme) -> None:
        """Any scheme, and none: the float model is the control."""

    def apply(self, draft: Draft, options: QatOptions) -> None:
        """Train, and leave how far each parameter has moved."""
        if draft.overlap or draft.rows.samples < FEWEST_ROWS:
            raise SchemeError(
                "there are no rows to train on: calibration rows are few, or among those that are evaluated",
                hint="lower data.limit, or give a calibration file: what is measured on must be held out",
                code="no_rows_to_train_on",
            )
        training = _Training(draft, options)
        training.run()
        floats = draft.weights
        for name, leaf in training.leaves.items():
            draft.shifts[name] = leaf.detach().double() - floats[name].double()
        draft.notes.append(f"trained on {training.seen.samples} calibration rows; {training.outcome()}")


class SharpnessAware(QuantizationAwareTraining):
    """Train at the worst point of a neighbourhood."""

    passes = 110.0
    options: ClassVar[type[Request]] = SamOptions
    description = "the same with sharpness-aware minimisation (SAM, arXiv:2010.01412)"


class _Training:
    """Parameters on their way, and the best of them so far.

    They are held in float32 at least: a step is too small for a shorter dtype. A weight whose codes were chosen by
    another algorithm starts from these.
    """

    def __init__(self, draft: Draft, options: QatOptions) -> None:
        self.draft, self.options = draft, options
        point, floats = draft.point(), draft.weights
        plain = {site.parameter for site in draft.survey.sites} - set(draft.decided)
        objective = draft.rows.through(draft.forward).at(point)
        for name in objective.free:  # frozen weights keep what was decided for them
            draft.decided.pop(name, None)
        order = torch.randperm(objective.samples, generator=generator(draft.seed, "held out of training"))
        kept = max(1, round(options.held_out * objective.samples))
        self.held_out, self.seen = (objective.select(rows.sort().values) for rows in (order[:kept], order[kept:]))
        start = {name: (floats if name in plain else point)[name] for name in objective.free}
        self.dtypes = {name: tensor.dtype for name, tensor in start.items()}
        self.leaves = {name: working(tensor).clone().requires_grad_() for name, tensor in start.items()}
        self.roundings = {site.parameter: draft.rounding(site) for site in draft.survey.sites}
        self.optimizer = torch.optim.Adam(list(self.leaves.values()), lr=options.learning_rate)
        self.before = self.best = self._held_out_loss()
        self.best_step = 0
        self._best_values = self._values()

    def run(self) -> None:
        """Every step; the best parameters stand in the leaves afterwards."""
        rho = getattr(self.options, "rho", 0.0)
        interval = max(1, self.options.steps // self.options.checks)
        for step, rows in enumerate(self._batches(), start=1):
            for group in self.optimizer.param_groups:
                done = (step - 1) / self.options.steps
                group["lr"] = self.options.learning_rate * (1 + math.cos(math.pi * done)) / 2
            gradients = self._gradients(rows)
            if rho:
                gradients = self._at_the_worst_neighbour(rows, gradients, rho)
            for leaf, gradient in zip(self.leaves.values(), gradients, strict=True):
                leaf.grad = gradient
            self.optimizer.step()
            if step % interval == 0 or step == self.options.steps:
                self.draft.tell("training", step, self.options.steps)
                self._keep_if_best(step)
        self._put(self._best_values)

    def outcome(self) -> str:
        """What came of it on the rows held out."""
        if not self.best_step:
            return (
                f"no step did better on the {self.held_out.samples} held out, where the loss is {self.before:.4g}: "
                "the parameters stay as they were"
            )
        return (
            f"on the {self.held_out.samples} held out the loss fell from {self.before:.4g} to {self.best:.4g} "
            f"(step {self.best_step}/{self.options.steps})"
        )

    def _keep_if_best(self, step: int) -> None:
        loss = self._held_out_loss()
        if loss < self.best:
            self.best, self.best_step, self._best_values = loss, step, self._values()

    def _held_out_loss(self) -> float:
        with torch.no_grad():
            return self.held_out.at(self._point()).loss()

    def _values(self) -> list[Tensor]:
        return [leaf.detach().clone() for leaf in self.leaves.values()]

    def _put(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for leaf, value in zip(self.leaves.values(), values, strict=True):
                leaf.copy_(value)

    def _at_the_worst_neighbour(self, rows: Objective, gradients: list[Tensor], rho: float) -> list[Tensor]:
        length = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients))
        steps = [gradient * (rho / (length + 1e-12)) for gradient in gradients]
        here = self._values()
        with torch.no_grad():
            for leaf, step in zip(self.leaves.values(), steps, strict=True):
                leaf += step
        worst = self._gradients(rows)
        self._put(here)
        return worst

    def _gradients(self, rows: Objective) -> list[Tensor]:
        self.draft.progress.check_cancelled()
        totals, weight = [torch.zeros_like(leaf) for leaf in self.leaves.values()], 0.0
        for batch in rows.batches():
            with torch.enable_grad():
                terms = rows.terms(batch, rows.point | self._point())
                total = terms.losses.sum()
            gradients = torch.autograd.grad(total, list(self.leaves.values()), allow_unused=True)
            weight += float(terms.weights.sum())
            totals = [sofar if part is None else sofar + part for sofar, part in zip(totals, gradients, strict=True)]
        if not all(bool(torch.isfinite(part).all()) for part in totals):
            raise NumericalError(
                "training diverged: a gradient is not finite", hint="lower learning_rate", code="training_diverged"
            )
        return [part / weight for part in totals]

    def _point(self) -> dict[str, Tensor]:
        """Rounded weights with the derivative of the identity; other parameters as they are."""
        stored = {name: leaf.to(self.dtypes[name]) for name, leaf in self.leaves.items()}
        return {
            name: straight_through(self.roundings[name](value), value) if name in self.roundings else value
            for name, value in stored.items()
        }

    def _batches(self) -> Iterator[Objective]:
        """Rows drawn without replacement, epoch after epoch."""
        count, size = self.seen.samples, min(self.options.batch, self.seen.samples)
        order = torch.empty(0, dtype=torch.long)
        for step in range(self.options.steps):
            if len(order) < size:
                order = torch.randperm(count, generator=generator(self.draft.seed, "training", step))
            rows, order = order[:size], order[size:]
            yield self.seen.select(rows.sort().values)


ALGORITHMS.add("qat", QuantizationAwareTraining())
ALGORITHMS.add("qat-sam", SharpnessAware())
