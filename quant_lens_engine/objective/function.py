"""Model, sample and loss as one function of the parameters."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine.errors import DataError, DeviceError, InputError, bad_argument, is_out_of_memory
from quant_lens_engine.objective.categories import categories
from quant_lens_engine.objective.criteria import Likelihood, Terms, as_criterion
from quant_lens_engine.objective.evaluation_mode import evaluation_mode
from quant_lens_engine.objective.model_call import (
    Computation,
    Forward,
    ModelCall,
    plain_paths,
    private_copy,
)
from quant_lens_engine.objective.row_terms import RowTerms, right_answers
from quant_lens_engine.objective.sample import Batch, Sample, tensors
from quant_lens_engine.objective.sample_weights import (
    checked_weights,
    weighted_information,
    weighted_likelihood,
    weighted_terms,
)
from quant_lens_engine.objective.tasks import TASKS, Categories

Point = Mapping[str, Tensor]
"""Parameters by name, as ``model.named_parameters()`` names them; tied ones once."""

RESIDENT_BYTES = 2**30
"""A sample up to this size stays on the device; a larger one is moved a micro-batch at a time."""


class Objective:
    """The loss of one fixed sample as a function of a model's parameters.

    L(w) = Σ_b a_b(w) / Σ_b n_b over micro-batches b, with the criterion's own denominators n_b, so micro-batches and a
    ragged last batch never change the answer. The model is copied once: the caller's keeps its device, mode,
    gradients and weights, exceptions included. Parameters enter by ``torch.func.functional_call``; buffers are
    fixed and the mode is ``eval()``.

    Args:
        model: any module.
        batches: any iterable of batches (tuples, dicts, tensors); read once, kept on the CPU. A :class:`Sample` is
            shared, not read again.
        criterion: a torch loss, or a callable ``(output, target) -> loss``; None for the task's own.
        task: ``classification``, ``regression``, ``causal-lm``, ``masked-lm`` or ``self-distillation``.
        forward: ``(model, batch) -> output`` for models that are called in their own way.
        device: where to compute, such as ``"cpu"`` or ``"cuda"``.
        dtype: of parameters and floating data; None keeps the model's own.
        micro_batch: rows at a time; None keeps the loader's batches.
        sample_weights: how much each row counts in the loss and its derivatives ``(rows,)``; None: all the same.
            Accuracy stays a share of rows.
        parameters: names of parameters or modules that curvature and landscapes move; None: see ``free``.

    Attributes:
        point: every parameter, detached; tied ones once.
        free: the names that curvature and landscapes move: the trainable parameters, or all where none is trainable.
        samples: rows.

    Raises:
        DataError: no rows, or NaN or infinity in them.
        CheckpointError: NaN or infinity in the weights.
        DeviceError: this machine does not have the device.
        InputError: ``bad_argument``: no such dtype, or micro-batch; ``no_such_parameter``; ``no_parameters``,
            ``quantized_model``: there is no float weight to move.

    Example:
        >>> data = [(torch.eye(2), torch.tensor([0, 1]))]
        >>> objective = Objective(nn.Linear(2, 2, bias=False), data)
        >>> round(objective.at({"weight": torch.zeros(2, 2)}).loss(), 4)
        0.6931
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any] | Sample,
        criterion: nn.Module | Callable[..., Tensor] | None = None,
        *,
        task: str = "classification",
        forward: Forward | None = None,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype | None = None,
        micro_batch: int | None = None,
        sample_weights: Tensor | Sequence[float] | None = None,
        parameters: Iterable[str] | None = None,
    ) -> None:
        self.device = available_device(device)
        self.dtype = floating_dtype(dtype)
        self.task = TASKS[task]
        self.call = ModelCall(private_copy(model, self.device, self.dtype), forward)
        self.computation: Computation | None = None
        self.criterion = as_criterion(self.task.criterion() if criterion is None else criterion)
        self.criterion.to(self.device, self.dtype)
        sample = batches if isinstance(batches, Sample) else Sample.read(batches)
        if sample_weights is not None:
            sample = sample.weighted(checked_weights(sample_weights, sample.rows))
        self.sample = sample.regroup(micro_batch)
        self._whole = self.sample.rows  # a loss that is a sum is scaled to all rows, on a part of them too
        own = dict(self.call.model.named_parameters())
        self.point: dict[str, Tensor] = {name: tensor.detach() for name, tensor in own.items()}
        floating = tuple(name for name, tensor in own.items() if tensor.is_floating_point())
        self.free: tuple[str, ...] = tuple(name for name in floating if own[name].requires_grad) or floating
        if parameters is not None:
            self.free = self.only(parameters).free
        if not self.free:
            raise InputError(
                "the model has no floating-point parameter to move",
                hint="give the float model, and a converted one to QuantDiagnostic.add_int8_model",
                code="no_parameters",
            )
        self._checked = False
        self._resident: list[Batch] | None = None
        if self.task.target is not None:
            self._distil(self.task.target)

    @property
    def model(self) -> nn.Module:
        """The private copy, for its structure: which module owns which parameter. Not to be changed."""
        return self.call.model

    @property
    def samples(self) -> int:
        """Rows of the sample."""
        return self.sample.rows

    @property
    def dimension(self) -> int:
        """How many numbers the free parameters have."""
        return sum(self.point[name].numel() for name in self.free)

    def at(self, point: Point) -> Objective:
        """The same function, at another point; names that ``point`` leaves out keep their value.

        Raises:
            InputError: ``point`` has a name or a shape that the model has not.
        """
        moved = copy.copy(self)
        moved.point = self.point | {name: self._fitted(name, tensor) for name, tensor in point.items()}
        return moved

    def only(self, names: Iterable[str]) -> Objective:
        """The same function of some of the parameters: the others keep their value, and no derivative is taken of them.

        Args:
            names: of parameters, or of modules, which stand for all that they own.

        Raises:
            InputError: ``no_such_parameter``, with the nearest names; or no name is given.

        Example:
            >>> objective = Objective(nn.Linear(2, 3), [(torch.ones(1, 2), torch.tensor([0]))])
            >>> objective.only(["bias"]).dimension
            3
        """
        owned = {name: {own for own in self.point if own == name or own.startswith(f"{name}.")} for name in names}
        unknown = sorted(name for name, own in owned.items() if not own)
        if unknown or not owned:
            name = unknown[0] if unknown else ""
            near = difflib.get_close_matches(name, self.point, n=3) or list(self.point)[:3]
            raise InputError(
                f"the model has no parameter {name!r}" if unknown else "no parameter is named",
                hint=f"such as {', '.join(near)}",
                code="no_such_parameter",
            )
        chosen = set().union(*owned.values())
        part = copy.copy(self)
        part.free = tuple(name for name in self.point if name in chosen)
        return part

    def through(self, computation: Computation | None) -> Objective:
        """The same loss of another computation of the same model; None: of the plain one.

        Raises:
            InputError: its parameters are others.
        """
        if computation is None:
            return self
        own = {name: tensor.shape for name, tensor in self.point.items()}
        if {name: tensor.shape for name, tensor in computation.model.named_parameters()} != own:
            raise InputError("the computation is one of another model", code="wrong_point")
        moved = copy.copy(self)
        moved.call = ModelCall(computation.model, self.call.custom_forward)
        moved.computation = computation
        return moved

    def select(self, rows: Tensor) -> Objective:
        """The same function on some rows, by index ``(n,)``.

        Raises:
            InputError: ``bad_argument``: the sample has no such row, or none is given.
        """
        return self._on(self.sample.select(rows))

    def regrouped(self, micro_batch: int) -> Objective:
        """The same function, computed so many rows at a time.

        Raises:
            InputError: ``bad_argument``: less than one row.
        """
        return self._on(self.sample.regroup(micro_batch))

    def over(self, batches: Iterable[Any] | Sample, micro_batch: int | None = None) -> Objective:
        """The same model and loss on other rows: calibration rows, say."""
        sample = batches if isinstance(batches, Sample) else Sample.read(batches)
        other = self._on(sample.regroup(micro_batch))
        other._whole = other.sample.rows
        if self.task.target is not None:
            other._distil(self.task.target)
        return other

    def _on(self, sample: Sample) -> Objective:
        """The same function on another sample, or on this one in other micro-batches."""
        other = copy.copy(self)
        other.sample, other._resident = sample, None
        if self.computation is not None:
            other.computation = self.computation.for_other_rows()
        return other

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
        if isinstance(output, Tensor) and (target is not None or self.task.target is not None):
            output, target = self.task.align(output, target)
        if not self._checked and isinstance(output, Tensor):
            if output.ndim == 0 or output.shape[0] == 0:
                raise DataError(f"the model's output has the shape {tuple(output.shape)}", code="wrong_shape")
            self.criterion.check(output, target)
        return output, target

    def _categories(self, output: Any, target: Any) -> Categories | None:
        return categories(self.task, self.criterion, output, target) if isinstance(output, Tensor) else None

    def _fitted(self, name: str, tensor: Tensor) -> Tensor:
        own = self.point.get(name)
        if own is None or own.shape != tensor.shape:
            known = f"shape {tuple(own.shape)}" if own is not None else "no such parameter"
            raise InputError(
                f"{name} of shape {tuple(tensor.shape)} does not fit the model ({known})", code="wrong_point"
            )
        return tensor.detach().to(own.device, own.dtype)

    @contextmanager
    def _evaluating(self, own_model: nn.Module | None) -> Iterator[ModelCall | None]:
        with torch.no_grad(), plain_paths():
            if own_model is None:
                yield None
                self._checked = True
            else:
                with evaluation_mode(own_model):
                    yield ModelCall(own_model, self.call.custom_forward)

    def _distil(self, target_of: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad(), plain_paths():
            answers = [target_of(self.output(batch)).cpu() for batch in self.batches()]
        pairs = zip(self.sample.batches, answers, strict=True)
        self.sample = Sample([replace(batch, target=answer) for batch, answer in pairs])
        self._resident = None


def _shapes(batch: Batch) -> str:
    return ", ".join(f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in tensors(batch.content))


def no_weight() -> DataError:
    """No row counts: a mean over nothing."""
    return DataError(
        "no row of the data counts: every label is ignored, or its class has the weight 0",
        hint="check the labels, and the criterion's ignore_index and class weights",
        code="nothing_counts",
    )


def available_device(device: str | torch.device) -> torch.device:
    """The torch device of that name.

    Raises:
        DeviceError: this machine does not have it, or it is no device's name.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"{device!r} is no device", hint="use 'cpu' or 'cuda'") from error
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"{str(chosen)!r} is not supported", hint="use 'cpu' or 'cuda'")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"the device {str(chosen)!r} is not on this machine",
            hint="use device='cpu', or install a CUDA build of torch on a machine with a GPU",
        )
    return chosen


def floating_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The floating-point type of that name; None stays None.

    Raises:
        InputError: ``bad_argument``: torch has no such type, or it is not floating-point.

    Example:
        >>> floating_dtype("float64")
        torch.float64
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found is None and dtype is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        words = "a floating-point type, such as 'float32' or 'float64', or None for the model's own"
        raise bad_argument("dtype", dtype, words)
    return found
