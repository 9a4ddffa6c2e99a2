"""From a loaded TorchScript module to a network of torch's own layers, under the script's names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from quant_lens_engine.errors import CheckpointError, is_out_of_memory
from quant_lens_engine.intake.graphs.aten_linears import with_linears
from quant_lens_engine.intake.graphs.aten_names import names_of
from quant_lens_engine.intake.graphs.aten_network import network_of
from quant_lens_engine.intake.graphs.names import is_path
from quant_lens_engine.intake.graphs.network import Network
from quant_lens_engine.intake.graphs.refusals import EXPORT_HINT, MALFORMED, bad_graph
from quant_lens_engine.intake.graphs.script_program import ScriptReader


def script_network(module: Any) -> tuple[Network, dict[str, Tensor], tuple[str, ...]]:
    """A script's ``forward`` as a network.

    Args:
        module: a ``torch.jit.ScriptModule``, scripted or traced. It is put into ``eval()`` mode.

    Returns:
        the network, its tensors by their names in it (detached, not copied), and sentences on what was recognised.

    Raises:
        CheckpointError: ``unsupported_operator`` for what is no straight line of known operators; ``bad_graph``.

    Example:
        >>> script = torch.jit.trace(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), torch.zeros(1, 3))
        >>> network, tensors, _ = script_network(script)
        >>> built = network.build({name: tuple(tensor.shape) for name, tensor in tensors.items()})
        >>> type(built.get_submodule("0")).__name__, sorted(tensors)
        ('Linear', ['0.bias', '0.weight'])
    """
    state = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    parameters = frozenset(name for name, _ in module.named_parameters(remove_duplicate=False))
    frozen, graph, defaults = _frozen(module)
    reader = ScriptReader(graph, frozen)
    try:
        program = reader.program(defaults, parameters)
    except MALFORMED as error:
        raise bad_graph(f"it is malformed ({error.__class__.__name__}: {str(error)[:80]})") from None
    state |= {name: tensor.detach() for name, tensor in reader.tensors.items() if name not in state}
    wrong = next((name for name in state if not is_path(name)), None)
    if wrong is not None:
        raise bad_graph(f"a tensor cannot be called {wrong[:80]!r}")
    program = with_linears(program, {name: tensor.shape for name, tensor in state.items()})
    names = names_of(program, state)
    ties = {names[name]: names[first] for name, first in _ties(state).items()}
    network = network_of(program, names, ties, {names[name]: tensor.dtype for name, tensor in state.items()})
    said = (program.said,) if program.said else ()
    return (
        replace(network, origin="a TorchScript graph"),
        {names[name]: tensor for name, tensor in state.items()},
        said,
    )


def module_of_script(module: Any) -> nn.Module:
    """A script as a module of torch's own layers, in ``eval()`` mode, on the script's device and in its dtype.

    Raises:
        CheckpointError: see :func:`script_network`.
    """
    network, tensors, _ = script_network(module)
    built = network.build({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    first = next((tensor for tensor in tensors.values() if tensor.is_floating_point()), None)
    built = built if first is None else built.to(device=first.device, dtype=first.dtype)
    built.load_state_dict(tensors, strict=False)
    return built


def _frozen(module: Any) -> tuple[Any, Any, list[Any]]:
    """The module in one graph, its parameters still its members; and the defaults of inputs behind the first."""
    module.eval()
    try:
        frozen = torch._C._freeze_module(module._c, [], True, True)
        forward = frozen._get_method("forward")
        _, *inputs = forward.schema.arguments
    except Exception as error:  # torch's own passes raise what they like
        if is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200]
        raise CheckpointError(
            f"its script cannot be frozen into one graph ({error.__class__.__name__}: {reason})",
            hint=EXPORT_HINT,
            code="bad_graph",
        ) from None
    if not inputs:
        raise bad_graph("it takes no input")
    needed = [argument.name for argument in inputs[1:] if not argument.has_default_value()]
    if needed:
        raise bad_graph(f"it takes more than one input ({', '.join(needed)[:80]})")
    return frozen, forward.graph, [argument.default_value for argument in inputs[1:]]


def _ties(state: dict[str, Tensor]) -> dict[str, str]:
    """Names that are one tensor with an earlier one."""
    first: dict[Any, str] = {}
    found = {}
    for name, tensor in state.items():
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        known = first.setdefault(place, name)
        if known != name and tensor.numel():
            found[name] = known
    return found
