"""Calls of an exported graph that a layer of torch's stands for, where the weights are the layer's own.

Each answers with the layer's output, or with None: then the operator is called as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import fx

from quant_lens_engine.intake.graphs import layers
from quant_lens_engine.intake.graphs.aten_records import Operation

if TYPE_CHECKING:
    from quant_lens_engine.intake.graphs.aten_network import AtenBuilder


def owner_of(builder: AtenBuilder, found: Operation, roles: Mapping[str, str]) -> str | None:
    """The path of the layer that the call's tensors belong to: ``path.weight``, ``path.bias`` and so on, all in place.

    Args:
        builder: the network in the making.
        found: the call.
        roles: the layer's name of a tensor, by the operator's; a tensor may be absent where the call gives None.
            Of tied tensors any name will do; the layer that made the call is preferred.
    """
    owners: list[str] | None = None
    for argument, role in roles.items():
        given = found.arguments.get(argument)
        if given is None:
            continue
        names = builder.stored(given)
        mine = [name.removesuffix(f".{role}") for name in names if name.endswith(f".{role}")]
        owners = mine if owners is None else [path for path in owners if path in mine]
    if not owners:
        return None
    return found.scope if found.scope in owners else owners[0]


def _given(builder: AtenBuilder, found: Operation, name: str, default: Any) -> Any:
    value = builder.value(found.arguments.get(name))
    return default if value is None else value


def _settings(*values: Any) -> tuple[Any, ...] | None:
    """Settings as something to compare; None where one of them is computed."""
    flat = tuple(tuple(value) if isinstance(value, list) else value for value in values)
    parts = [part for value in flat for part in (value if isinstance(value, tuple) else (value,))]
    return None if any(isinstance(part, fx.Node) for part in parts) else flat


def _weight_shape(builder: AtenBuilder, path: str) -> tuple[int, ...]:
    return builder.assembly.shapes[f"{path}.weight"]


_WEIGHT_AND_BIAS = {"weight": "weight", "bias": "bias"}


def _convolution(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    path = owner_of(builder, found, _WEIGHT_AND_BIAS)
    transposed = "conv_transpose" in found.target or found.arguments.get("transposed") is True
    usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}
    values = _settings(*(_given(builder, found, name, default) for name, default in usual.items()))
    if path is None or values is None or builder.rank(found.arguments["input"]) != len(_weight_shape(builder, path)):
        return None
    stride, padding, dilation, groups, output_padding = (_one_or_all(value) for value in values)
    bias = found.arguments.get("bias") is not None
    shape = _weight_shape(builder, path)
    if shape[0] % groups:
        return None
    return builder.assembly.layer(
        path,
        ("convolution", bias, transposed, *values),
        lambda: layers.convolution(
            shape, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups, transposed=transposed,
            output_padding=output_padding,
        ),
        builder.value(found.arguments["input"]),
    )  # fmt: skip


def _one_or_all(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def _linear(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    path = owner_of(builder, found, _WEIGHT_AND_BIAS)
    if path is None or len(_weight_shape(builder, path)) != 2:
        return None
    bias = found.arguments.get("bias") is not None
    return builder.assembly.layer(
        path, ("linear", bias), lambda: layers.linear(_weight_shape(builder, path), bias=bias),
        builder.value(found.arguments["input"]),
    )  # fmt: skip


def _columns_linear(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    """b + x W, with W as it lies in the file, as Hugging Face's ``Conv1D`` has it."""
    path = owner_of(builder, found, {"self": "bias", "mat2": "weight"})
    if path is None or found.arguments.keys() != {"self", "mat1", "mat2"}:
        return None
    shape = _weight_shape(builder, path)
    if len(shape) != 2 or builder.assembly.shapes[f"{path}.bias"] != shape[1:]:
        return None
    given = builder.value(found.arguments["mat1"])
    return builder.assembly.layer(path, ("columns linear",), lambda: layers.columns_linear(shape), given)


def _batch_norm(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    roles = {**_WEIGHT_AND_BIAS, "running_mean": "running_mean", "running_var": "running_var"}
    path = owner_of(builder, found, roles)
    given = {role: found.arguments.get(role) is not None for role in roles}
    rank = builder.rank(found.arguments["input"])
    if path is None or not given["running_mean"] or not given["running_var"] or rank not in (2, 3, 4, 5):
        return None
    if given["weight"] != given["bias"]:
        return None
    features = builder.assembly.shapes[f"{path}.running_mean"][0]
    eps, momentum = found.arguments["eps"], found.arguments["momentum"]
    return builder.assembly.layer(
        path, ("batch norm", rank, given["weight"], eps),
        lambda: layers.batch_norm(features, rank, affine=given["weight"], eps=eps, momentum=momentum),
        builder.value(found.arguments["input"]),
    )  # fmt: skip


def _layer_norm(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    path = owner_of(builder, found, _WEIGHT_AND_BIAS)
    shape = found.arguments.get("normalized_shape")
    if path is None or found.arguments.get("weight") is None or not isinstance(shape, list):
        return None
    if not all(type(size) is int for size in shape):
        return None
    bias, eps = found.arguments.get("bias") is not None, found.arguments.get("eps", 1e-5)
    return builder.assembly.layer(
        path, ("layer norm", bias, eps, *shape), lambda: layers.layer_norm(shape, bias=bias, eps=eps),
        builder.value(found.arguments["input"]),
    )  # fmt: skip


def _rms_norm(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    path = owner_of(builder, found, {"weight": "weight"})
    shape = found.arguments.get("normalized_shape")
    if path is None or not isinstance(shape, list) or not all(type(size) is int for size in shape):
        return None
    eps = found.arguments.get("eps")
    return builder.assembly.layer(
        path, ("rms norm", eps, *shape), lambda: layers.rms_norm(shape, eps=eps),
        builder.value(found.arguments["input"]),
    )  # fmt: skip


def _group_norm(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    path = owner_of(builder, found, _WEIGHT_AND_BIAS)
    if path is None or found.arguments.get("weight") is None or found.arguments.get("bias") is None:
        return None
    groups, eps = found.arguments["num_groups"], found.arguments.get("eps", 1e-5)
    channels = _weight_shape(builder, path)[0]
    return builder.assembly.layer(
        path, ("group norm", groups, eps), lambda: layers.group_norm(channels, groups, eps=eps),
        builder.value(found.arguments["input"]),
    )  # fmt: skip


def _embedding(builder: AtenBuilder, found: Operation) -> fx.Node | None:
    path = owner_of(builder, found, {"weight": "weight"})
    if path is None or len(_weight_shape(builder, path)) != 2:
        return None
    return builder.assembly.layer(
        path, ("embedding",), lambda: layers.embedding(_weight_shape(builder, path)),
        builder.value(found.arguments["indices"]),
    )  # fmt: skip


LayerCall = Callable[["AtenBuilder", Operation], "fx.Node | None"]

LAYER_CALLS: dict[str, LayerCall] = {
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution"),
        _convolution,
    ),
    "linear": _linear,
    "addmm": _columns_linear,
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    **dict.fromkeys(("layer_norm", "native_layer_norm"), _layer_norm),
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
}
"""By the operator's name."""
