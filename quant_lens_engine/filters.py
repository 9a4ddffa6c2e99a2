"""The filters of a network: which slices of a parameter belong together.

One output unit's weights are one *filter*: quantization gives each filter its own scale (there it is called a
channel), and filter normalisation (Li et al. 2018) gives each filter's direction its own length. Both read the same
axes here, so a scale and a direction never mean different slices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Size, Tensor, nn

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_COLUMNS_LINEAR = {"transformers.pytorch_utils.Conv1D", "quant_lens_engine.intake.graphs.layers.ColumnsLinear"}
_EXPERTS = re.compile(r"Experts?$|MoE$|MOE$")


@dataclass(frozen=True)
class FilterLayout:
    """How to see a parameter as a matrix with one filter a row, and how to go back.

    A filter is a row of a Linear, attention projection, Embedding or free matrix and ``W[o]`` of a convolution. The
    weight of a transposed convolution has shape (in, out/groups, …): its filters are the pairs (group, output channel).
    A vector or a scalar has no filters; as a matrix it is a single row.

    Attributes:
        transposed_groups: groups of a transposed convolution; None for anything else.
        columns: inputs come first, as in Hugging Face's ``Conv1D`` (in, out).
        experts: the first axis counts experts, each with a matrix of its own (experts, out, in).

    Example:
        >>> import torch
        >>> weight = torch.arange(24.0).reshape(4, 3, 2)  # ConvTranspose1d(4, 6, 2, groups=2)
        >>> layout = FilterLayout(transposed_groups=2)
        >>> layout.rows(weight).shape, layout.rows(weight)[3].tolist()
        (torch.Size([6, 4]), [12.0, 13.0, 18.0, 19.0])
        >>> torch.equal(layout.restore(layout.rows(weight), weight.shape), weight)
        True
        >>> FilterLayout(experts=True, columns=True).rows(torch.zeros(2, 4, 3)).shape  # (experts, in, out)
        torch.Size([6, 4])
    """

    transposed_groups: int | None = None
    columns: bool = False
    experts: bool = False

    def rows(self, tensor: Tensor) -> Tensor:
        """``tensor`` as (filters, elements); a copy only where the axes must move."""
        if tensor.dim() < 2:
            return tensor.reshape(1, -1)
        if self.experts:
            return (tensor.transpose(1, 2) if self.columns else tensor).flatten(0, 1)
        if self.columns:
            return tensor.t()
        if self.transposed_groups is None:
            return tensor.flatten(1)
        groups = self.transposed_groups
        split = tensor.reshape(groups, tensor.shape[0] // groups, tensor.shape[1], -1)
        return split.transpose(1, 2).reshape(groups * tensor.shape[1], -1)

    def restore(self, rows: Tensor, shape: Size) -> Tensor:
        """The inverse of :meth:`rows` for a parameter of that ``shape``."""
        if len(shape) < 2:
            return rows.reshape(shape)
        if self.experts and self.columns:
            return rows.reshape(shape[0], shape[2], shape[1]).transpose(1, 2)
        if self.columns:
            return rows.t()
        if self.transposed_groups is None:
            return rows.reshape(shape)
        groups = self.transposed_groups
        split = rows.reshape(groups, shape[1], shape[0] // groups, -1)
        return split.transpose(1, 2).reshape(shape)


ROWS = FilterLayout()
"""A filter is an index of the first axis."""


def layout_of(module: nn.Module, parameter: str) -> FilterLayout:
    """The filters of ``module``'s own parameter of that name."""
    if isinstance(module, _TRANSPOSED) and parameter == "weight":
        return FilterLayout(transposed_groups=module.groups)
    if is_columns_linear(module) and parameter == "weight":
        return FilterLayout(columns=True)
    if is_expert_tensor(module, parameter):
        return FilterLayout(experts=True, columns=_experts_come_transposed(module))
    return ROWS


def is_columns_linear(module: nn.Module) -> bool:
    """Whether it is a linear layer whose weight is (in, out): Hugging Face's ``Conv1D``, or what stands for it here."""
    return any(f"{kind.__module__}.{kind.__name__}" in _COLUMNS_LINEAR for kind in type(module).__mro__)


def is_expert_tensor(module: nn.Module, parameter: str) -> bool:
    """Whether it holds the matrices of all experts of a mixture: three axes, in a module named for it."""
    weight = getattr(module, parameter, None)
    return isinstance(weight, Tensor) and weight.dim() == 3 and _EXPERTS.search(type(module).__name__) is not None


def _experts_come_transposed(module: nn.Module) -> bool:
    """(experts, in, out): the module says so (transformers), or its pair of projections only fits that way."""
    said = getattr(module, "is_transposed", None)
    if isinstance(said, bool):
        return said
    first, second = (getattr(module, name, None) for name in ("gate_up_proj", "down_proj"))
    if not isinstance(first, Tensor) or not isinstance(second, Tensor):
        return False
    return first.shape[1] == second.shape[-1] and first.shape[-1] != second.shape[1]


def filter_layouts(model: nn.Module) -> dict[str, FilterLayout]:
    """The layout of every parameter, by its name in ``model.named_parameters()`` (tied ones once, at the first).

    Example:
        >>> filter_layouts(nn.ConvTranspose1d(4, 6, 2, groups=2))["weight"].transposed_groups
        2
    """
    layouts: dict[str, FilterLayout] = {}
    seen: set[nn.Parameter] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter not in seen:
                seen.add(parameter)
                layouts[f"{prefix}.{name}" if prefix else name] = layout_of(module, name)
    return layouts
