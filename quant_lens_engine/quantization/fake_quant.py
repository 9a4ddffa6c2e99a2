"""Fake-quant (QDQ) with a straight-through estimator.

The value is Q(w); the derivative is that of the identity everywhere, beyond a clip too, and scales and zero points are
constants (Bengio et al. 2013, arXiv:1308.3432). Written as ``Q(w).detach() + (w − w.detach())``: the second term is
exactly 0, so the value is exactly Q(w), and every mode of differentiation (reverse, reverse twice, forward, vmap and
their compositions in ``torch.func``) sees the identity. torch's own ``fake_quantize_*`` have no forward mode.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import InputError, NumericalError, SchemeError
from quant_lens_engine.filters import ROWS, FilterLayout
from quant_lens_engine.quantization.blocks import round_trip
from quant_lens_engine.schema import QuantizationScheme, parse_scheme


def fake_quantize(tensor: Tensor, scheme: str | QuantizationScheme, layout: FilterLayout = ROWS) -> Tensor:
    """The dequantized tensor: what the weights are worth after a trip through the scheme's codes.

    Args:
        tensor: floating point, any shape; its dtype and device are kept. A channel is an index of the first axis; a
            vector is one channel.
        scheme: a name such as ``"int4-g128"``, or a scheme.
        layout: which weights form a channel, where it is not the first axis (a transposed convolution).

    Returns:
        A tensor of the same shape and dtype: Q(w), computed in float32 (float64 where ``tensor`` is) and rounded once.
        Its derivative with respect to ``tensor`` is the identity.

    Raises:
        InputError: ``not_a_tensor``.
        SchemeError: an unknown scheme, or a tensor that is not floating point.
        NumericalError: ``non_finite_weights``. Under ``vmap``, where a value cannot be asked for, the channel or group
            of a non-finite weight becomes NaN instead.

    Example:
        >>> fake_quantize(torch.tensor([[0.1, -0.6, 1.0]]), "int3")
        tensor([[ 0.0000, -0.6667,  1.0000]])
    """
    parsed = parse_scheme(scheme)
    given: object = tensor
    if not isinstance(given, Tensor):
        raise InputError(
            f"a tensor is wanted, not a {type(given).__name__}", hint="give torch.tensor(values)", code="not_a_tensor"
        )
    if not tensor.is_floating_point():
        raise SchemeError(f"only floating-point tensors can be quantized, not {tensor.dtype}", code="not_floating")
    if _known_non_finite(tensor):
        raise NumericalError("the tensor holds NaN or infinite values", code="non_finite_weights")
    return straight_through(round_trip(tensor, parsed, layout), tensor)


def straight_through(rounded: Tensor, tensor: Tensor) -> Tensor:
    """The value of ``rounded`` with the derivative of ``tensor``."""
    return rounded.detach() + (tensor - tensor.detach())


class FakeQuantize(nn.Module):
    """:func:`fake_quantize` as a module, for ``torch.nn.utils.parametrize``: the layer computes with Q(weight).

    A weight is not rounded again while it does not change. torch counts changes in place, ``no_grad`` or not; it does
    not count what is written through ``weight.data``: who writes there calls :meth:`forget`.

    Example:
        >>> from torch.nn.utils import parametrize
        >>> layer = nn.Linear(4, 2)
        >>> _ = parametrize.register_parametrization(layer, "weight", FakeQuantize("int4"))
        >>> torch.equal(layer.weight, fake_quantize(layer.parametrizations.weight.original, "int4"))
        True
    """

    def __init__(self, scheme: str | QuantizationScheme, layout: FilterLayout = ROWS) -> None:
        super().__init__()
        self.scheme = parse_scheme(scheme)
        self.layout = layout
        self._seen: _Seen | None = None
        self._rounded = torch.empty(0)

    def forward(self, weight: Tensor) -> Tensor:
        """Q(weight), with the identity's derivative."""
        # Only a parameter is kept in mind: a result of other operations is new at every call.
        if not isinstance(weight, nn.Parameter):
            return fake_quantize(weight, self.scheme, self.layout)
        if self._seen is None or not self._seen.is_still(weight):
            self._rounded = fake_quantize(weight.detach(), self.scheme, self.layout)
            self._seen = _Seen(weight)
        if weight.requires_grad and torch.is_grad_enabled():
            return straight_through(self._rounded, weight)
        return self._rounded

    def forget(self) -> None:
        """Round again at the next call."""
        self._seen = None

    def extra_repr(self) -> str:
        """The scheme's name."""
        return self.scheme.name


class _Seen:
    """A parameter as it was."""

    def __init__(self, parameter: Tensor) -> None:
        self._parameter = weakref.ref(parameter)
        self._state = self._state_of(parameter)

    def is_still(self, parameter: Tensor) -> bool:
        """Whether it is the same one, unchanged."""
        return self._parameter() is parameter and self._state == self._state_of(parameter)

    @staticmethod
    def _state_of(parameter: Tensor) -> tuple[object, ...]:
        return parameter._version, parameter.data_ptr(), parameter.dtype, parameter.device

    def __reduce__(self) -> tuple[object, ...]:
        """A copy of the module has another parameter: it has seen nothing."""
        return (_nothing, ())


def _nothing() -> None:
    return None


def _known_non_finite(tensor: Tensor) -> bool:
    try:
        return not bool(torch.isfinite(tensor).all())
    except RuntimeError:  # vmap refuses a branch on data
        return False
