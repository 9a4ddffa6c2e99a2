"""Model, sample and loss as one function of the parameters."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import InputError
from quant_lens_engine.objective.criteria import as_criterion
from quant_lens_engine.objective.model_call import (
    Computation,
    Forward,
    ModelCall,
    checked_scores,
    plain_paths,
    private_copy,
)
from quant_lens_engine.objective.passes import Passes, Point, no_weight
from quant_lens_engine.objective.placement import available_device, floating_dtype
from quant_lens_engine.objective.sample import Batch, Sample
from quant_lens_engine.objective.sample_weights import checked_weights
from quant_lens_engine.objective.tasks import TASKS

__all__ = ["Objective", "Point", "available_device", "floating_dtype", "no_weight"]


class Objective(Passes):
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
        task: a name of :data:`~quant_lens_engine.objective.tasks.TASKS`: ``classification``, ``multi-label``,
            ``segmentation``, ``token-classification``, ``regression``, ``causal-lm``, ``masked-lm`` or
            ``self-distillation``.
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

    def of(self, model: nn.Module) -> Objective:
        """The same loss of another network, at that one's parameters, all of which are free.

        Args:
            model: in ``eval()`` mode, on the device; used as it is.
        """
        other = copy.copy(self)
        other.call, other.computation = ModelCall(model, self.call.custom_forward), None
        other.point = {name: tensor.detach() for name, tensor in model.named_parameters()}
        other.free = tuple(other.point)
        return other

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

    def _fitted(self, name: str, tensor: Tensor) -> Tensor:
        own = self.point.get(name)
        if own is None or own.shape != tensor.shape:
            known = f"shape {tuple(own.shape)}" if own is not None else "no such parameter"
            raise InputError(
                f"{name} of shape {tuple(tensor.shape)} does not fit the model ({known})", code="wrong_point"
            )
        return tensor.detach().to(own.device, own.dtype)

    def _distil(self, target_of: Callable[[Tensor], Tensor]) -> None:
        with torch.no_grad(), plain_paths():
            answers = [target_of(checked_scores(self.output(batch))).cpu() for batch in self.batches()]
        pairs = zip(self.sample.batches, answers, strict=True)
        self.sample = Sample([replace(batch, target=answer) for batch, answer in pairs])
        self._resident = None
