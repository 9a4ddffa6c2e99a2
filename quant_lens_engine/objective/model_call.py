"""A private copy of a model, called as a pure function of its parameters."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import CheckpointError, InputError
from quant_lens_engine.objective.sample import inputs_of, map_tensors, tensors

_SCORES = ("logits", "out")
"""What scores are called in dicts: transformers' name, and that of torchvision's segmentation."""

Forward = Callable[[nn.Module, Any], Any]
"""``forward(model, batch) -> output``, with the batch as the loader gave it, target included."""


class Computation(Protocol):
    """How a model's forward pass is computed: with some activations rounded, say.

    Attributes:
        model: computes the same function of the same parameters, by name and shape, but for what is rounded.
    """

    model: nn.Module

    def prepare(self, batch: int, at: Callable[[Mapping[str, Tensor]], Any]) -> None:
        """Called before each pass over micro-batch number ``batch``; ``at(point)`` runs it at other parameters."""

    def around(self, batch: int) -> AbstractContextManager[None]:
        """Entered for the pass itself."""

    def for_other_rows(self) -> Computation:
        """The same computation where micro-batch numbers stand for other rows: nothing of these ones is kept."""


class ModelCall(nn.Module):
    """From a batch to its output, by the model's own ``forward`` or by the caller's.

    Args:
        model: used as it is; see :func:`private_copy`.
        forward: ``(model, batch) -> output``; by default a mapping without its target is passed by keyword where the
            model's signature has its keys, a tuple without its target by position, and ``logits`` are taken out of
            structured outputs.

    Attributes:
        works_in_place: whether the model writes into its inputs; it is then given copies, and the sample stays as it
            is. None until the first call has shown it.
    """

    def __init__(self, model: nn.Module, forward: Forward | None = None) -> None:
        super().__init__()
        self.model = model
        self.custom_forward = forward
        self.works_in_place: bool | None = None
        self._accepted = _keywords_of(model)

    def forward(self, content: Any) -> Any:
        """The output for one batch, which is not changed."""
        if self.works_in_place is False:
            return self._answer(content)
        copied = map_tensors(content, Tensor.clone)
        before = [tensor._version for tensor in tensors(copied)]
        answer = self._answer(copied)
        self.works_in_place = self.works_in_place or before != [tensor._version for tensor in tensors(copied)]
        return answer

    def _answer(self, content: Any) -> Any:
        if self.custom_forward is not None:
            return self.custom_forward(self.model, content)
        inputs = inputs_of(content)
        if isinstance(inputs, Mapping):
            if self._accepted is not None and not set(inputs) <= self._accepted and len(inputs) == 1:
                return logits_of(self.model(*inputs.values()))
            return logits_of(self.model(**inputs))
        return logits_of(self.model(*inputs) if isinstance(inputs, tuple) else self.model(inputs))


def logits_of(output: Any) -> Any:
    """The tensor of scores in a structured output: its ``logits``, a dict's one tensor, or a tuple's first.

    A dict of several tensors, none of which is called ``logits`` or ``out`` (torchvision's segmentation), stays as it
    is: a loss of the caller's may take it, and every other refuses it (:func:`checked_scores`).

    Example:
        >>> logits_of({"out": torch.ones(2), "aux": torch.zeros(2)}).tolist(), logits_of({"y": torch.ones(1)}).tolist()
        ([1.0, 1.0], [1.0])
    """
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Mapping):
        found = {key: value for key, value in output.items() if isinstance(value, Tensor)}
        name = name_of_scores(list(found))
        return output if name is None else found[name]
    return output[0] if isinstance(output, tuple) and output else output


def name_of_scores(names: Sequence[Any]) -> Any:
    """Which of a dict's tensors are the scores: ``logits``, ``out``, or the only one; None where none is known to be.

    Example:
        >>> name_of_scores(["features", "logits"]), name_of_scores(["y"]), name_of_scores(["features", "y"])
        ('logits', 'y', None)
    """
    named = next((name for name in _SCORES if name in names), None)
    return names[0] if named is None and len(names) == 1 else named


def checked_scores(output: Any) -> Any:
    """The output itself, unless it is a dict among whose tensors no name says which are the scores.

    Raises:
        InputError: ``bad_output``; the message names the dict's keys.

    Example:
        >>> checked_scores({"h": torch.ones(2), "aux": torch.ones(2)})
        Traceback (most recent call last):
        ...
        quant_lens_engine.errors.InputError: the model answers with a dict ('h', 'aux'), and none of them is 'logits'
        call the scores 'logits', or answer with them alone; in a notebook QuantDiagnostic(…, forward=…) chooses
    """
    if not isinstance(output, Mapping):
        return output
    keys = ", ".join(repr(key) for key in list(output)[:8]) or "no keys"
    raise InputError(
        f"the model answers with a dict ({keys}), and none of them is 'logits'",
        hint="call the scores 'logits', or answer with them alone; in a notebook QuantDiagnostic(…, forward=…) chooses",
        code="bad_output",
        details={"keys": [str(key) for key in output][:50]},
    )


def private_copy(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """A copy in ``eval()`` mode on ``device``; the caller's model keeps its mode, gradients and weights.

    Raises:
        CheckpointError: ``non_finite_weights``, naming the tensors.
        InputError: ``quantized_model``; ``model_not_copyable``.
    """
    _refuse_quantized(model)
    check_finite_weights(model)
    # A cached tensor that is no leaf (old-style weight_norm) cannot be copied by torch: it gets a detached stand-in.
    cached = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    stand_ins: dict[int, Any] = {id(value): value.detach().clone() for value in cached if not value.is_leaf}
    try:
        duplicate = copy.deepcopy(model, stand_ins)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise InputError(
            f"the model cannot be copied: {error}",
            hint="copy.deepcopy(model) must work: lambdas and open files in a module often prevent it",
            code="model_not_copyable",
        ) from error
    for parameter in duplicate.parameters():
        parameter.grad = None
    return duplicate.to(device=device, dtype=dtype).eval()


def _refuse_quantized(model: nn.Module) -> None:
    """A model of torchao's quantized tensors has no float parameters that a derivative could be taken of."""
    packed = [name for name, parameter in model.named_parameters() if hasattr(parameter, "__tensor_flatten__")]
    if packed:
        raise InputError(
            f"the model is quantized already: {', '.join(packed[:3])}{' …' if len(packed) > 3 else ''}",
            hint="give the float model, and this one to QuantDiagnostic.add_int8_model(model_int8=…)",
            code="quantized_model",
            details={"tensors": packed},
        )


def check_finite_weights(model: nn.Module) -> None:
    """Raise CheckpointError if a parameter or buffer holds NaN or infinity, naming every such tensor."""
    named = [*model.named_parameters(), *model.named_buffers()]
    broken = [
        name
        for name, tensor in named
        if tensor.is_floating_point() and tensor.layout == torch.strided and not bool(torch.isfinite(tensor).all())
    ]
    parameters = {name for name, _ in model.named_parameters()}
    # A mask may hold −inf by design; only weights must be finite, and statistics of a normalisation.
    wrong = [name for name in broken if name in parameters or name.rpartition(".")[2].startswith("running_")]
    if wrong:
        raise CheckpointError(
            f"the weights hold NaN or infinity in {', '.join(wrong[:5])}{' …' if len(wrong) > 5 else ''}",
            hint="the checkpoint is damaged or the training diverged: use an earlier one",
            code="non_finite_weights",
            details={"tensors": wrong},
        )


@contextmanager
def plain_paths() -> Iterator[None]:
    """Switch off inference fast paths, which skip what hooks and functional parameters do (encoder layers)."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _keywords_of(model: nn.Module) -> set[str] | None:
    """The keywords that ``model.forward`` takes; None where it takes any."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters}
