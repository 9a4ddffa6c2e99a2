"""A sample through a model: outputs, their losses, and what goes wrong with either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine.errors import DataError, InputError, is_out_of_memory
from quant_lens_engine.objective.categories import categories
from quant_lens_engine.objective.criteria import Criterion, Likelihood, Terms
from quant_lens_engine.objective.evaluation_mode import evaluation_mode
from quant_lens_engine.objective.model_call import Computation, ModelCall, checked_scores, plain_paths
from quant_lens_engine.objective.row_terms import RowTerms, right_answers
from quant_lens_engine.objective.sample import Batch, Sample, tensors
from quant_lens_engine.objective.sample_weights import weighted_information, weighted_likelihood, weighted_terms
from quant_lens_engine.objective.tasks import Categories, Task

Point = Mapping[str, Tensor]
"""Parameters by name, as ``model.named_parameters()`` names them; tied ones once."""

RESIDENT_BYTES = 2**30
"""A sample up to this size stays on the device; a larger one is moved a micro-batch at a time."""


class Passes:
    """The sample through the model at a point, a micro-batch at a time.

    What passes read; :class:`~quant_lens_engine.objective.function.Objective` sets it.

    Attributes:
        device: where to compute.
        dtype: of parameters and floating data; None: the model's own.
        task: how outputs and targets meet.
        call: the model.
        computation: another computation of the model; None: the plain one.
        criterion: the loss.
        sample: the rows.
        point: every parameter, detached; tied ones once.
    """

    device: torch.device
    dtype: torch.dtype | None
    task: Task
    call: ModelCall
    computation: Computation | None
    criterion: Criterion
    sample: Sample
    point: dict[str, Tensor]
    _whole: int
    """Rows that a loss which is a sum is scaled to, on a part of them too."""
    _checked: bool
    """Whether a pass has succeeded: model and data fit."""
    _resident: list[Batch] | None
    """The micro-batches on the device, once they are there."""

    def batches(self) -> Iterator[Batch]:
        """The micro-batches, on the device."""
        if self._resident is None and self.sample.size_bytes <= RESIDENT_BYTES:
            self._resident = [batch.to(self.device, self.dtype) for batch in self.sample.batches]
        if self._resident is not None:
            yield from self._resident
        else:
            yield from (batch.to(self.device, self.dtype) for batch in self.sample.batches)

    def output(self, batch: Batch, point: Point | None = None) -> Any:
        """The model's output for one micro-batch at ``point``, as the model gives it; differentiable in ``point``."""
        values = self.point if point is None else point
        if self.computation is None:
            return self._output(batch, values)
        self.computation.prepare(batch.index, lambda other: self._output(batch, self.point | dict(other)))
        with self.computation.around(batch.index):
            return self._output(batch, values)

    def _output(self, batch: Batch, values: Point) -> Any:
        parameters = {f"model.{name}": value for name, value in values.items()}
        with self._fitting(batch):
            return functional_call(self.call, parameters, (batch.content,))

    def scores(self, batch: Batch) -> Categories | None:
        """The class scores of one micro-batch, without gradients; None where outputs name no class."""
        with self._evaluating(None):
            return self._categories(*self._aligned(self.output(batch), batch))

    def terms(self, batch: Batch, point: Point | None = None) -> Terms:
        """Numerators and denominators of one micro-batch; differentiable in ``point``."""
        return self.terms_of(self.output(batch, point), batch)

    def terms_of(self, output: Any, batch: Batch) -> Terms:
        """The terms of an output that the model gave, or could have given, for one micro-batch."""
        output, target = self._aligned(output, batch)
        if batch.weights is None:
            terms = self.criterion.terms(output, target, batch.rows)
        else:
            terms = weighted_terms(self.criterion.row_terms(output, target, batch.rows), batch.weights)
        if self.criterion.normalised:
            return terms
        return Terms(terms.losses, torch.full_like(terms.weights, 1 / self._whole))

    def likelihood_of(
        self, output: Any, batch: Batch, draws: Sequence[torch.Generator] | None = None
    ) -> Likelihood | None:
        """The loss of an output for one micro-batch, an observation each; None where it has none.

        Args:
            output: what the model gave; the losses are differentiable in it.
            batch: the micro-batch.
            draws: a generator a row: targets are drawn from the output itself, they are not the data's.
        """
        output, target = self._aligned(output, batch)
        if draws is None:
            found = self.criterion.likelihood(output, target, batch.rows)
        else:
            found = self.criterion.drawn(output, target, batch.rows, draws)
        return found if found is None or batch.weights is None else weighted_likelihood(found, batch.weights)

    def information(self, batch: Batch, point: Point) -> tuple[Tensor, Callable[[Tensor], Tensor], float] | None:
        """The output of one micro-batch as the criterion sees it, its Fisher information, and its denominator.

        None where the output is no tensor, or the loss no likelihood; see
        :meth:`~quant_lens_engine.objective.criteria.Criterion.information`.
        """
        raw = self.output(batch, point)
        output, target = self._aligned(raw, batch)
        found = self.criterion.information(output.detach(), target) if isinstance(output, Tensor) else None
        if found is None:
            return None
        if batch.weights is not None:
            found = weighted_information(found, batch.weights)
        return output, found, float(self.terms_of(raw.detach(), batch).weights.sum())

    def loss(self, point: Point | None = None) -> float:
        """The loss of the whole sample, at ``point`` or at the objective's own."""
        return self.measure(point).loss.value

    def measure(
        self,
        point: Point | None = None,
        *,
        rowwise: bool = False,
        own_model: nn.Module | None = None,
        observe: Callable[[int, Categories | None], None] | None = None,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RowTerms:
        """Loss and right answers over the whole sample, without gradients.

        Args:
            point: parameters; None for the objective's own.
            rowwise: also take a batch's loss apart into rows where it comes in one piece, for sampling errors.
            own_model: run this model instead of the function (a custom quantized model with its own kernels).
            observe: called with each micro-batch's index and class scores.
            check_cancelled: called before each micro-batch.
        """
        parts: list[tuple[Terms, Tensor | None, Tensor | None]] = []
        complete = True
        with self._evaluating(own_model) as run:
            for index, batch in enumerate(self.batches()):
                check_cancelled()
                raw = self.output(batch, point) if run is None else self._run_own(run, batch)
                output, target = self._aligned(raw, batch)
                row_by_row = rowwise or batch.weights is not None
                terms = self.criterion.row_terms(output, target, batch.rows) if row_by_row else None
                if batch.weights is not None:
                    terms = weighted_terms(terms, batch.weights)
                elif terms is None:
                    terms = self.criterion.terms(output, target, batch.rows)
                complete &= terms.losses.shape[0] == batch.rows
                scores = self._categories(output, target)
                if observe is not None:
                    observe(index, scores)
                parts.append((terms, *right_answers(scores)))
        return self._collect(parts, complete)

    def _run_own(self, call: ModelCall, batch: Batch) -> Any:
        """A custom model's output. Where the float model has taken the data, what goes wrong is the custom model's."""
        if not self._checked:
            with self._fitting(batch):
                return call(batch.content)
        try:
            return call(batch.content)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            if is_out_of_memory(error):
                raise
            raise InputError(
                f"the custom model cannot be run here, on a batch of {_shapes(batch)}: {error or type(error).__name__}",
                hint="some kernels need another device or dtype; export a graph with a dynamic batch dimension",
                code="custom_model_fails",
            ) from error

    @contextmanager
    def _fitting(self, batch: Batch) -> Iterator[None]:
        """Until a pass has succeeded, an error of the model's forward means that data and model do not fit."""
        try:
            yield
        except (torch.OutOfMemoryError, NotImplementedError):  # of an operator, whatever the data
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if self._checked or is_out_of_memory(error):
                raise
            raise DataError(
                f"the model cannot be run on a batch of {_shapes(batch)}: {error}",
                hint="check layout, channels, size and dtype of the data, or give forward=",
                code="wrong_shape",
            ) from error

    def _collect(self, parts: list[tuple[Terms, Tensor | None, Tensor | None]], rowwise: bool) -> RowTerms:
        losses = torch.cat([terms.losses.double() for terms, _, _ in parts]).cpu()
        weights = torch.cat([terms.weights for terms, _, _ in parts]).cpu()
        if not bool(weights.any()):
            raise no_weight()
        if not self.criterion.normalised:
            weights = torch.full_like(weights, 1 / self._whole)
        rights = [correct for _, correct, _ in parts if correct is not None]
        counts = [counted for _, _, counted in parts if counted is not None]
        if len(rights) != len(parts):
            return RowTerms(losses, weights, None, None, rowwise)
        return RowTerms(losses, weights, torch.cat(rights).cpu(), torch.cat(counts).cpu(), rowwise)

    def _aligned(self, output: Any, batch: Batch) -> tuple[Any, Any]:
        target = batch.target
        if not self.criterion.takes_any_output:
            output = checked_scores(output)
        if isinstance(output, Tensor) and (target is not None or self.task.target is not None):
            output, target = self.task.align(output, target)
        if not self._checked and isinstance(output, Tensor):
            if output.ndim == 0 or output.shape[0] == 0:
                raise DataError(f"the model's output has the shape {tuple(output.shape)}", code="wrong_shape")
            self.criterion.check(output, target)
        return output, target

    def _categories(self, output: Any, target: Any) -> Categories | None:
        return categories(self.task, self.criterion, output, target) if isinstance(output, Tensor) else None

    @contextmanager
    def _evaluating(self, own_model: nn.Module | None) -> Iterator[ModelCall | None]:
        with torch.no_grad(), plain_paths():
            if own_model is None:
                yield None
                self._checked = True
            else:
                with evaluation_mode(own_model):
                    yield ModelCall(own_model, self.call.custom_forward)


def _shapes(batch: Batch) -> str:
    return ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors(batch.content))


def no_weight() -> DataError:
    """No row counts: a mean over nothing."""
    return DataError(
        "no row of the data counts: every label is ignored, or its class has the weight 0",
        hint="check the labels, and the criterion's ignore_index and class weights",
        code="nothing_counts",
    )
