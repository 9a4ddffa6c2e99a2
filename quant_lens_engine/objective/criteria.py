"""Loss functions with their own denominator, so that batches of any size add up to the loss of the whole sample."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.errors import DataError, InputError


class Terms(NamedTuple):
    """Numerators and denominators of a loss: ``losses.sum() / weights.sum()`` over the sample.

    Both are ``(rows,)``, or ``(1,)`` where a criterion gives nothing finer than a batch.
    """

    losses: Tensor
    weights: Tensor


class Likelihood(NamedTuple):
    """The loss as Σ weights · losses, with each of ``losses`` −log p of one observation, up to a constant.

    Both are ``(observations,)``: a label each, or a row each of a regression; ``weights`` has no gradient.
    """

    losses: Tensor
    weights: Tensor


class Criterion(ABC):
    """A loss as terms that can be added over batches.

    Attributes:
        normalised: the loss is Σ losses / Σ weights; False for ``reduction="sum"``: Σ losses.
        ignore_index: a label that counts for nothing, where the criterion has one.
        takes_any_output: it takes what the model answers, be it one tensor or not.
    """

    normalised: bool = True
    ignore_index: int | None = None
    takes_any_output: bool = False

    @abstractmethod
    def terms(self, output: Tensor, target: Any, rows: int) -> Terms:
        """The terms of one batch; differentiable in ``output``."""

    def row_terms(self, output: Tensor, target: Any, rows: int) -> Terms | None:
        """The terms a row, for sampling errors; None where the loss is no sum over rows."""
        terms = self.terms(output, target, rows)
        return terms if terms.losses.shape[0] == rows else None

    def likelihood(self, output: Tensor, target: Any, rows: int) -> Likelihood | None:
        """The loss an observation, differentiable in ``output``; None where it is no sum over observations."""
        terms = self.row_terms(output, target, rows)
        return None if terms is None else Likelihood(terms.losses, torch.ones_like(terms.losses))

    def drawn(
        self,
        output: Tensor,  # noqa: ARG002
        target: Any,  # noqa: ARG002
        rows: int,  # noqa: ARG002
        draws: Sequence[torch.Generator],  # noqa: ARG002
    ) -> Likelihood | None:
        """:meth:`likelihood` with targets drawn from the distribution that ``output`` stands for, a generator a row.

        Observations that do not count in the data do not count here. None where the loss is no likelihood.
        """
        return None

    def information(self, output: Tensor, target: Any) -> Callable[[Tensor], Tensor] | None:  # noqa: ARG002
        """u ↦ Σ weights · E[g gᵀ] u, with g the gradient in ``output`` of the loss of a target drawn by :meth:`drawn`.

        It is the Fisher information of the output; u has its shape. None where the loss is no likelihood.
        """
        return None

    @abstractmethod
    def check(self, output: Tensor, target: Any) -> None:
        """Raise DataError if the targets do not fit the outputs."""

    @abstractmethod
    def to(self, device: torch.device, dtype: torch.dtype | None) -> None:
        """Move what the criterion holds (class weights)."""


class _ModuleCriterion(Criterion):
    """A copy of a torch loss module, asked for its elements rather than their mean."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval()
        self.reduction = str(getattr(module, "reduction", "mean"))
        self.module.reduction = "none"  # type: ignore[assignment]  # every loss of torch reads this plain attribute
        self.normalised = self.reduction != "sum"

    def to(self, device: torch.device, dtype: torch.dtype | None) -> None:
        """Move class weights."""
        self.module.to(device=device, dtype=dtype)


class ElementwiseCriterion(_ModuleCriterion):
    """Losses that are a mean over elements (MSE, L1, Huber, BCE …), over rows (``batchmean``) or a sum."""

    def terms(self, output: Tensor, target: Any, rows: int) -> Terms:
        """Elements summed over each row."""
        elements = self.module(_at_least_single(output), target)
        if elements.ndim == 0 or elements.shape[0] != rows:
            raise DataError(
                f"the loss of {rows} rows has the shape {tuple(elements.shape)}",
                hint="outputs and targets need rows on their first axis, and equal shapes",
                code="wrong_shape",
            )
        per_row = 1 if self.reduction == "batchmean" else elements.numel() // rows
        weights = torch.full((rows,), float(per_row), dtype=torch.float64, device=elements.device)
        return Terms(elements.reshape(rows, -1).sum(1), weights)

    def drawn(self, output: Tensor, target: Any, rows: int, draws: Sequence[torch.Generator]) -> Likelihood | None:  # noqa: ARG002
        """Squared errors: y ~ N(output, ½), whose −log p is the squared error; BCE: y ~ Bernoulli."""
        output = _at_least_single(output)
        mean, each = output.detach(), output[0].numel()
        if type(self.module) is nn.MSELoss:
            noise = torch.stack([torch.randn(each, generator=draw, dtype=torch.float64) for draw in draws])
            return self.likelihood(output, mean + noise.to(mean).view_as(mean) * 0.5**0.5, rows)
        if type(self.module) is nn.BCEWithLogitsLoss and self.module.weight is None and self.module.pos_weight is None:
            uniform = torch.stack([torch.rand(each, generator=draw, dtype=torch.float64) for draw in draws])
            return self.likelihood(output, (uniform.to(mean).view_as(mean) < mean.sigmoid()).to(mean), rows)
        return None

    def information(self, output: Tensor, target: Any) -> Callable[[Tensor], Tensor] | None:  # noqa: ARG002
        """Squared errors: 2 u; BCE: p (1 − p) u."""
        if type(self.module) is nn.MSELoss:
            return lambda direction: 2 * direction
        if type(self.module) is nn.BCEWithLogitsLoss and self.module.weight is None and self.module.pos_weight is None:
            probability = _at_least_single(output).sigmoid()
            return lambda direction: probability * (1 - probability) * direction
        return None

    def check(self, output: Tensor, target: Any) -> None:
        """Targets have the outputs' shape."""
        if not isinstance(target, Tensor):
            raise DataError("the data has no targets", hint="give batches (x, y), or choose another task")
        by_label = isinstance(self.module, nn.MultiMarginLoss)
        if (
            target.shape != output.shape and not by_label
        ):  # torch would broadcast (rows, 1) against (rows,) to (rows, rows)
            raise DataError(
                f"outputs have the shape {tuple(output.shape)}, targets {tuple(target.shape)}",
                hint="this loss compares elements: give targets of the outputs' shape",
                code="wrong_shape",
            )


class ClassCriterion(_ModuleCriterion):
    """Cross-entropy and negative log-likelihood: the denominator is the sum of the class weights of the labels that
    are not ignored, or the rows where targets are probabilities."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.ignore_index: int = int(getattr(module, "ignore_index", -100))

    def terms(self, output: Tensor, target: Any, rows: int) -> Terms:
        """Weighted losses and the weights of the labels, summed over the positions of each row."""
        output, target = _at_least_single(output), _labels(target)
        losses = self.module(output, target).reshape(rows, -1)
        weights = torch.ones_like(losses) if target.is_floating_point() else self._weights(target).reshape(rows, -1)
        return Terms(losses.sum(1), weights.detach().to(torch.float64).sum(1))

    def likelihood(self, output: Tensor, target: Any, rows: int) -> Likelihood:  # noqa: ARG002
        """−log p of each label, under its class' weight."""
        target = _labels(target)
        if target.is_floating_point():
            losses = self.module(_at_least_single(output), target).reshape(-1)
            return Likelihood(losses, torch.ones_like(losses))
        weights = self._weights(target).to(output.device)
        return Likelihood(self._plain(output, target.where(weights > 0, 0)).reshape(-1), weights.reshape(-1))

    def drawn(self, output: Tensor, target: Any, rows: int, draws: Sequence[torch.Generator]) -> Likelihood:  # noqa: ARG002
        """Labels drawn from the model's own probabilities, under the weights of the data's labels."""
        log_probability = _at_least_single(output.detach())
        if isinstance(self.module, nn.CrossEntropyLoss):
            log_probability = log_probability.log_softmax(1)
        below = log_probability.double().exp().movedim(1, -1).cumsum(-1)
        uniform = torch.stack(
            [torch.rand(below[0, ..., 0].shape, generator=draw, dtype=torch.float64) for draw in draws]
        )
        places = torch.searchsorted(below.contiguous(), (uniform.to(below.device) * below[..., -1])[..., None])
        labels = places[..., 0].clamp(max=output.shape[1] - 1)
        target = _labels(target)
        weights = torch.ones_like(labels, dtype=below.dtype) if target.is_floating_point() else self._weights(target)
        return Likelihood(self._plain(output, labels).reshape(-1), weights.to(labels.device).reshape(-1))

    def information(self, output: Tensor, target: Any) -> Callable[[Tensor], Tensor]:
        """Softmax: diag(p) − ppᵀ, under the weights of the data's labels; of log-probabilities: diag(p).

        With label smoothing s over K classes the gradient p − (1 − s) e_y − s/K has the second moment
        (1 − s)² (diag(p) − ppᵀ) + s² (p − 1/K)(p − 1/K)ᵀ.
        """
        output, target = _at_least_single(output), _labels(target)
        weights = torch.ones_like(output[:, :1]) if target.is_floating_point() else self._weights(target).unsqueeze(1)
        weights = weights.to(output)
        if not isinstance(self.module, nn.CrossEntropyLoss):
            return lambda direction: weights * output.exp() * direction
        probability, smoothing = output.softmax(1), self.module.label_smoothing
        beside = probability - 1 / output.shape[1]

        def product(direction: Tensor) -> Tensor:
            mean = (probability * direction).sum(1, keepdim=True)
            moment = (1 - smoothing) ** 2 * probability * (direction - mean)
            return weights * (moment + smoothing**2 * beside * (beside * direction).sum(1, keepdim=True))

        return product

    def _weights(self, labels: Tensor) -> Tensor:
        """The weight of each label; 0 where it is ignored."""
        kept = labels != self.ignore_index
        class_weight = getattr(self.module, "weight", None)
        return (kept if class_weight is None else class_weight[labels.where(kept, 0)] * kept).detach().double()

    def _plain(self, output: Tensor, labels: Tensor) -> Tensor:
        """The loss a label, without class weights."""
        output = _at_least_single(output)
        if isinstance(self.module, nn.CrossEntropyLoss):
            smoothing = self.module.label_smoothing
            return F.cross_entropy(output, labels, reduction="none", label_smoothing=smoothing)
        return F.nll_loss(output, labels, reduction="none")

    def check(self, output: Tensor, target: Any) -> None:
        """Labels are whole numbers within the classes, one a position; or probabilities of the outputs' shape."""
        if not isinstance(target, Tensor):
            raise DataError("the data has no labels", hint="give batches (x, y), or choose another task")
        target = _labels(target)
        classes = output.shape[1] if output.ndim > 1 else output.shape[0]
        if target.is_floating_point():
            if target.shape != output.shape:
                raise DataError(
                    f"targets of the type {target.dtype} and shape {tuple(target.shape)} are neither labels nor "
                    f"probabilities for outputs of the shape {tuple(output.shape)}",
                    hint="labels are whole numbers; for a regression choose the task 'regression'",
                    code="wrong_target",
                )
            return
        if output.shape[:1] + output.shape[2:] != target.shape:
            raise DataError(
                f"labels of the shape {tuple(target.shape)} do not fit outputs of the shape {tuple(output.shape)}",
                hint="one label a row: shape (rows,)",
                code="wrong_shape",
            )
        wrong = (target != self.ignore_index) & ((target < 0) | (target >= classes))
        if bool(wrong.any()):
            row = int(torch.nonzero(wrong)[0, 0])
            label = int(target[wrong][0])
            raise DataError(
                f"label {label} is out of range: the model has {classes} classes, 0 to {classes - 1}",
                hint="check the labels' numbering, and that data and model belong together",
                code="label_out_of_range",
                details={"label": label, "row_of_batch": row, "classes": classes},
            )


class CallableCriterion(Criterion):
    """Any function ``(output, target) -> loss``: a scalar mean over its batch, or one loss a row; weighted by rows."""

    takes_any_output = True

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = copy.deepcopy(function) if isinstance(function, nn.Module) else function

    def terms(self, output: Tensor, target: Any, rows: int) -> Terms:
        """The function's mean times its rows, or its losses a row."""
        loss = self.function(output, target)
        if not isinstance(loss, Tensor) or loss.shape not in ((), (1,), (rows,)):
            raise InputError(
                f"the criterion gave {getattr(loss, 'shape', type(loss).__name__)} for {rows} rows",
                hint="it must return a scalar tensor (the batch's mean) or one loss a row",
                code="bad_criterion",
            )
        if loss.shape == (rows,):
            return Terms(loss, torch.ones(rows, dtype=torch.float64, device=loss.device))
        return Terms(loss.reshape(1) * rows, torch.full((1,), float(rows), dtype=torch.float64, device=loss.device))

    def row_terms(self, output: Tensor, target: Any, rows: int) -> Terms | None:
        """The function called a row at a time, where these losses add up to the batch's."""
        terms = self.terms(output, target, rows)
        if terms.losses.shape[0] == rows or not isinstance(output, Tensor) or not isinstance(target, Tensor | None):
            return terms if terms.losses.shape[0] == rows else None
        try:
            single = [
                self.function(output[i : i + 1], None if target is None else target[i : i + 1]) for i in range(rows)
            ]
            losses = torch.stack([loss.reshape(()) for loss in single])
        except (RuntimeError, ValueError, IndexError):
            return None  # a loss between rows (contrastive, ranking) has no loss of one row
        if not torch.allclose(losses.sum(), terms.losses[0], rtol=1e-3):
            return None
        return Terms(losses, torch.ones(rows, dtype=torch.float64, device=losses.device))

    def check(self, output: Tensor, target: Any) -> None:
        """A function of the caller's checks its own arguments."""

    def to(self, device: torch.device, dtype: torch.dtype | None) -> None:
        """Move the function's parameters and buffers, if it is a module."""
        if isinstance(self.function, nn.Module):
            self.function.to(device=device, dtype=dtype)


_MODULES_OF_FUNCTIONS: dict[Any, Callable[[], nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.nll_loss: nn.NLLLoss,
    F.mse_loss: nn.MSELoss,
    F.l1_loss: nn.L1Loss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
}


def as_criterion(criterion: nn.Module | Callable[..., Tensor]) -> Criterion:
    """The terms of a torch loss module, of a function of ``torch.nn.functional``, or of any callable.

    Example:
        >>> criterion = as_criterion(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0])))
        >>> terms = criterion.terms(torch.zeros(2, 2), torch.tensor([0, 1]), rows=2)
        >>> terms.weights.tolist()
        [1.0, 3.0]
    """
    if not isinstance(criterion, nn.Module) and criterion in _MODULES_OF_FUNCTIONS:
        criterion = _MODULES_OF_FUNCTIONS[criterion]()
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss) and type(criterion).__module__ == nn.NLLLoss.__module__:
        return ClassCriterion(criterion)
    if type(criterion).__module__ == nn.MSELoss.__module__ and isinstance(criterion, nn.Module):
        return ElementwiseCriterion(criterion)
    return CallableCriterion(criterion)


def _labels(target: Tensor) -> Tensor:
    """Whole numbers of any type as torch's losses want them; probabilities as they are."""
    return target if target.is_floating_point() else target.long()


def _at_least_single(output: Tensor) -> Tensor:
    """Losses of half-precision outputs are taken in single precision: a mean over rows would lose its digits."""
    return output.float() if output.dtype in (torch.float16, torch.bfloat16) else output
