"""What a layer's weight matrix is multiplied with on the calibration rows: its inputs as matrices, and their
moments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.quantization.activation import Activation
from quant_lens_engine.quantization.blocks import working
from quant_lens_engine.quantization.instrumented_forward import InstrumentedForward
from quant_lens_engine.quantization.layers import CONVOLUTIONS, EMBEDDINGS, TRANSPOSED_CONVOLUTIONS, WeightSite
from quant_lens_engine.quantization.quantized_forward import QuantizedForward

_ELEMENTS = 2**25
"""Elements of the input matrices that are laid out at a time."""

_MOMENT_BYTES = 2**30
"""What second moments of several layers may take in one pass."""


def why_no_inputs(model: nn.Module, site: WeightSite, *, by_function: bool = False) -> str | None:
    """Why a weight's inputs are no matrix; None where they are.

    Args:
        model: the network.
        site: the weight.
        by_function: a function multiplies with it, though its module may not (a head that reads an embedding).
    """
    module = model.get_submodule(site.module)
    if isinstance(module, EMBEDDINGS):
        if by_function:
            return None
        return "an embedding looks rows up: it multiplies nothing"
    if isinstance(module, TRANSPOSED_CONVOLUTIONS):
        return "the inputs of a transposed convolution overlap"
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return "a recurrent layer's hidden states are not seen from outside"
    if site.layout.experts:
        return "what each expert of a mixture gets is not seen from outside"
    return None


class Inputs(NamedTuple):
    """Inputs of a layer as matrices: ``values`` ``(parts, positions, elements)``, and how many positions each part has
    (where one has fewer, zeros fill it up, which add nothing to any moment)."""

    values: Tensor
    counts: Tensor


@dataclass
class Moments:
    """Moments of a layer's input features over all positions of the calibration rows.

    A layer whose channels see different inputs (a grouped convolution, attention with a query of its own) has a part
    for each: the first channels belong to the first part, and so on.

    Attributes:
        gram: Σ x xᵀ, ``(parts, elements, elements)``; None where it was not asked for.
        cross: Σ y xᵀ with the float model's inputs y at the same positions; None where it was not asked for.
        total: Σ x, ``(parts, elements)``.
        magnitude: Σ |x|.
        largest: max |x|.
        count: positions of each part.
    """

    gram: Tensor | None = None
    cross: Tensor | None = None
    total: Tensor | None = None
    magnitude: Tensor | None = None
    largest: Tensor | None = None
    count: Tensor | None = None

    def add(self, piece: Inputs, reference: Inputs | None, *, second: bool) -> None:
        """Some positions more."""
        inputs = working(piece.values)
        if not inputs.shape[1]:
            return
        wide = inputs.double()
        self.count = _sum(self.count, piece.counts.double())
        self.total = _sum(self.total, wide.sum(1))
        self.magnitude = _sum(self.magnitude, wide.abs().sum(1))
        largest = inputs.abs().amax(1)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)
        if second:
            self.gram = _sum(self.gram, (inputs.transpose(1, 2) @ inputs).double())
        if reference is not None:
            self.cross = _sum(self.cross, (working(reference.values).transpose(1, 2) @ inputs).double())

    @property
    def seen(self) -> bool:
        """Whether the layer was given anything."""
        return self.count is not None

    @property
    def mean(self) -> Tensor:
        """E x, ``(parts, elements)``."""
        assert self.total is not None
        assert self.count is not None
        return self.total / self.count[:, None]


def by_feature(values: Tensor, module: nn.Module) -> Tensor:
    """A moment of each input feature ``(features,)``, from that of each column ``(parts, elements)``.

    A convolution meets a feature at each place of its kernel: the largest moment counts.
    """
    if isinstance(module, CONVOLUTIONS):
        kernel = module.weight[0, 0].numel()
        return values.reshape(-1, kernel).amax(1)
    return values.amax(0)


def by_column(factors: Tensor, module: nn.Module) -> Tensor:
    """Factors of the columns ``(parts, elements)``, from those of the features; the inverse of :func:`by_feature`."""
    if isinstance(module, CONVOLUTIONS):
        return factors.repeat_interleave(module.weight[0, 0].numel()).reshape(module.groups, -1)
    return factors[None]


def measure_moments(
    objective: Objective,
    sites: Sequence[WeightSite],
    *,
    second: bool = True,
    point: Point | None = None,
    through: QuantizedForward | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> dict[str, Moments]:
    """Moments of the inputs of some layers, by the weight's name, over the rows of ``objective``.

    Args:
        objective: at the float point.
        sites: layers that have inputs (:func:`why_no_inputs`).
        second: also second moments, in as many passes as memory asks for.
        point: parameters; None for the objective's own.
        through: activations rounded on the way, the layer's input included; None for float ones.
        check_cancelled: called before each micro-batch.
    """
    found: dict[str, Moments] = {}
    for part in _parts(objective, sites, second):
        moments = {site.parameter: Moments() for site in part}
        watch = InputWatch(objective, part, through)
        for batch in range(len(objective.sample.batches)):
            check_cancelled()
            for parameter, inputs in watch.run(batch, point).items():
                for piece in inputs:
                    moments[parameter].add(piece, None, second=second)
        found |= moments
    return found


def measure_against_float(
    objective: Objective, site: WeightSite, point: Point, through: QuantizedForward | None = None,
    check_cancelled: Callable[[], None] = lambda: None,
) -> Moments:  # fmt: skip
    """Second moments of one layer's inputs at ``point``, and crosswise with its inputs in the float model."""
    moments = Moments()
    here, float_model = InputWatch(objective, [site], through), InputWatch(objective, [site], None)
    for batch in range(len(objective.sample.batches)):
        check_cancelled()
        reference = float_model.run(batch, None)[site.parameter]
        for inputs in here.run(batch, point)[site.parameter]:
            target = next(reference, None)
            # an expert may be given other rows than in the float model: then its own inputs are what there is
            alike = target is not None and target.values.shape == inputs.values.shape
            moments.add(inputs, target if alike else inputs, second=True)
    return moments


class _Enough(Exception):  # noqa: N818  (not an error: the rest of the pass is not needed)
    """All that was to be seen has been seen."""


class _Seen(NamedTuple):
    """An input as it came by: the tensor with its version, and its values then (itself, while nobody writes there)."""

    place: Activation
    tensor: Tensor
    version: int
    content: Tensor


class InputWatch:
    """Runs a network on micro-batches and hands out what some of its layers take.

    Args:
        objective: of the network.
        sites: the layers.
        through: activations rounded on the way; None for float ones.
    """

    def __init__(self, objective: Objective, sites: Sequence[WeightSite], through: QuantizedForward | None) -> None:
        self._sites, self._through = sites, through
        self._modules = {site.module for site in sites}
        rounded = set() if through is None else set(through.modules)
        forward = InstrumentedForward(
            objective.model, rounded | self._modules, self._visit,
            products=through is not None and through.rounds_products,
            written_out=through is not None and through.scheme.attention,
        )  # fmt: skip
        self._watched = objective.through(forward)
        self._batches = objective.sample.batches
        self._seen: list[_Seen] = []
        self._calls: int | None = None
        self._writes_in_place = False

    def run(self, batch: int, point: Point | None) -> dict[str, Iterator[Inputs]]:
        """The inputs of each layer, by its weight's name, for one micro-batch.

        They come some positions at a time. The pass ends once the last of them has been seen.
        """
        self._pass(batch, point)
        if any(seen.tensor._version != seen.version for seen in self._seen) and not self._writes_in_place:
            self._writes_in_place = True  # the network has written into what a layer took: copies are kept
            self._pass(batch, point)
        return {site.parameter: self._matrices(site) for site in self._sites}

    def shared_inputs(self) -> list[list[WeightSite]]:
        """The layers in groups that read the very same tensor."""
        self.run(0, None)
        groups: dict[tuple[int, int], list[WeightSite]] = {}
        for site in self._sites:
            key = next(((id(seen.tensor), seen.version) for seen in self._seen if _reads(site, seen.place)), None)
            groups.setdefault(key or (id(site), -1), []).append(site)
        return list(groups.values())

    def _pass(self, batch: int, point: Point | None) -> None:
        self._seen = []
        moved = self._batches[batch].to(self._watched.device, self._watched.dtype)
        watched = self._watched if point is None else self._watched.at(point)
        with contextlib.suppress(_Enough):
            watched.scores(moved)
        self._calls = len(self._seen)

    def _visit(self, activation: Activation, values: Tensor) -> Tensor:
        through = self._through
        if through is not None:
            values = through.rounded(activation, values)
        if activation.is_layer_input and activation.module in self._modules:
            content = values.clone() if self._writes_in_place else values
            self._seen.append(_Seen(activation, values, values._version, content))
            if self._calls is not None and len(self._seen) == self._calls:
                raise _Enough
        return values

    def _matrices(self, site: WeightSite) -> Iterator[Inputs]:
        module = self._watched.model.get_submodule(site.module)
        calls = [seen for seen in self._seen if _reads(site, seen.place)]
        if role_of(site) is None and any(seen.place.role != "input" for seen in calls):
            for first in range(0, len(calls), 3):
                yield _side_by_side([seen.content for seen in calls[first : first + 3]])
            return
        for seen in calls:
            for matrix in _as_matrices(module, seen.content):
                yield Inputs(matrix, matrix.new_full((len(matrix),), matrix.shape[1]))


def role_of(site: WeightSite) -> str | None:
    """What a projection of attention reads, where it has a weight of its own; None for any other layer."""
    roles = {"q_proj_weight": "query", "k_proj_weight": "key", "v_proj_weight": "value"}
    return roles.get(site.parameter.rpartition(".")[2])


def _reads(site: WeightSite, place: Activation) -> bool:
    return place.module == site.module and (role_of(site) is None or place.role in (role_of(site), "input"))


def _as_matrices(module: nn.Module, inputs: Tensor) -> Iterator[Tensor]:
    """``(groups, positions, elements)``: what each row of the weight matrix is multiplied with."""
    if not isinstance(module, CONVOLUTIONS):
        yield inputs.reshape(1, -1, inputs.shape[-1])
        return
    per_row = inputs[:1].numel() * module.weight[0, 0].numel()
    for part in torch.split(inputs, max(1, _ELEMENTS // max(1, per_row))):
        yield _patches(module, part)


def _patches(module: nn.Module, inputs: Tensor) -> Tensor:
    """What a convolution's kernel meets at each position."""
    assert isinstance(module, CONVOLUTIONS)
    if module.padding_mode != "zeros":
        padded = F.pad(inputs, module._reversed_padding_repeated_twice, mode=module.padding_mode)
    elif isinstance(module.padding, str):
        padded = F.pad(inputs, module._reversed_padding_repeated_twice)
    else:
        padded = F.pad(inputs, [size for pad in reversed(module.padding) for size in (pad, pad)])
    windows = padded
    for axis, (kernel, stride, dilation) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        windows = windows.unfold(axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]
    spatial = len(module.kernel_size)
    # rows, groups, channels, positions…, kernel…
    windows = windows.reshape(len(windows), module.groups, -1, *windows.shape[2:])
    order = (1, 0, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial))
    moved = windows.permute(order)
    matrices: Tensor = moved.reshape(module.groups, -1, moved.shape[2 + spatial :].numel())
    return matrices


def _side_by_side(inputs: list[Tensor]) -> Inputs:
    """Query, key and value as three parts."""
    flat = [x.reshape(-1, x.shape[-1]) for x in inputs]
    longest = max(len(x) for x in flat)
    values = torch.stack([F.pad(x, (0, 0, 0, longest - len(x))) for x in flat])
    return Inputs(values, values.new_tensor([len(x) for x in flat]))


def _parts(objective: Objective, sites: Sequence[WeightSite], second: bool) -> Iterator[list[WeightSite]]:
    """The layers in portions whose second moments fit in memory."""
    portion: list[WeightSite] = []
    taken = 0
    for site in sites:
        cost = 8 * site.layout.rows(objective.point[site.parameter]).shape[1] ** 2 if second else 0
        if portion and taken + cost > _MOMENT_BYTES:
            yield portion
            portion, taken = [], 0
        portion.append(site)
        taken += cost
    if portion:
        yield portion


def _sum(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total.add_(more)
