"""A ``torch.export`` graph as a network: each operator is looked up in our list, layers become torch's own modules."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import fx

from quant_lens_engine.intake.graphs.assembly import Assembly
from quant_lens_engine.intake.graphs.aten_layers import LAYER_CALLS
from quant_lens_engine.intake.graphs.aten_operators import (
    ASSERTIONS,
    DROPOUTS,
    FACTORIES,
    NUMBERS,
    PUBLIC,
    VIEWS,
    find_overload,
    split_target,
)
from quant_lens_engine.intake.graphs.aten_records import Device, Operation, Program, Reference, names_made, names_read
from quant_lens_engine.intake.graphs.network import Network, Shapes
from quant_lens_engine.intake.graphs.refusals import MALFORMED, bad_graph, unsupported_operator

_SWITCHES = ("training", "train")
_LEFT_OUT = {"pin_memory", "layout", "memory_format", "cudnn_enable", "cudnn_enabled", "non_blocking"}


def network_of(
    program: Program, names: Mapping[str, str], ties: Mapping[str, str], dtypes: Mapping[str, torch.dtype]
) -> Network:
    """The network of an exported graph.

    Args:
        program: the graph.
        names: what each tensor of the file is called in the module.
        ties: names that are one tensor with another name.
        dtypes: of every tensor, by its name in the module.

    Raises:
        CheckpointError: ``unsupported_operator``; ``bad_graph``.
    """
    for found in program.operations:
        _check_target(found)
    if not program.inputs:
        raise bad_graph("it takes no input")
    is_parameter = {names[name] for graph, name in program.tensors.items() if graph in program.parameters}
    buffers = {
        name: torch.float32 if dtype.is_floating_point else dtype
        for name, dtype in dtypes.items()
        if (name not in is_parameter and ties.get(name, name) not in is_parameter) or not dtype.is_floating_point
    }
    shape = program.shapes.get(program.inputs[0], (None,))
    dtype = program.dtypes.get(program.inputs[0], torch.float32)

    def assemble(shapes: Shapes) -> fx.GraphModule:
        return AtenBuilder(program, Assembly(shapes, buffers, ties), names, ties).module()

    return Network(
        origin="a torch.export graph",
        assemble=assemble,
        buffers=buffers,
        row=tuple(shape[1:]),
        whole_numbers=not dtype.is_floating_point,
        fixed_batch=shape[0] if shape else None,
        operators=len(program.operations),
    )


def _check_target(found: Operation) -> None:
    if found.target in NUMBERS:
        return
    parts = split_target(found.target)
    if parts is None:
        raise unsupported_operator(found.target, found.name)
    name, overload = parts
    if name in ASSERTIONS or name.removesuffix("_") in DROPOUTS:
        return
    if find_overload(name, overload) is None:
        raise unsupported_operator(found.target, found.name)


class AtenBuilder:
    """Puts one program together.

    Attributes:
        program: the graph.
        assembly: what it becomes.
    """

    def __init__(
        self, program: Program, assembly: Assembly, names: Mapping[str, str], ties: Mapping[str, str]
    ) -> None:  # fmt: skip
        self.program, self.assembly = program, assembly
        self._names = names
        self._same = _groups(ties)
        self._values: dict[str, Any] = dict(program.constants)
        self._aliased: set[str] = set()
        self._one: dict[str, set[str]] = {}
        self._read = {name for found in program.operations for name in names_read(list(found.arguments.values()))}
        self._read |= set(names_read(list(program.outputs)))

    def module(self) -> fx.GraphModule:
        """The module."""
        for name in self.program.inputs:
            self._values[name] = self.assembly.input(name)
        for found in self.program.operations:
            try:
                self._run(found)
            except MALFORMED as error:
                raise bad_graph(f"{found.target} cannot be made ({error.__class__.__name__})", found.name) from None
        outputs = [self.value(output) for output in self.program.outputs if isinstance(output, Reference)]
        if not outputs:
            raise bad_graph("it answers nothing")
        self.assembly.output(outputs[0])
        try:
            return self.assembly.finished()
        except (RuntimeError, SyntaxError, AttributeError) as error:
            raise bad_graph(str(error).partition("\n")[0][:200]) from None

    def value(self, argument: Any) -> Any:
        """What an argument is in the module."""
        if isinstance(argument, list):
            return [self.value(item) for item in argument]
        if isinstance(argument, Reference):
            if argument.name in self._values:
                return self._values[argument.name]
            if argument.name in self.program.tensors:
                return self.assembly.tensor(self._names[self.program.tensors[argument.name]])
            raise bad_graph(f"nothing is called {argument.name[:80]!r}")
        if isinstance(argument, Device):
            return self.assembly.device()
        if isinstance(argument, torch.dtype) and argument.is_floating_point:
            return self.assembly.dtype()
        return argument

    def stored(self, argument: Any) -> list[str]:
        """Names of a tensor of the checkpoint, where an argument is one: several where it is tied."""
        name = self.program.tensors.get(argument.name) if isinstance(argument, Reference) else None
        return [] if name is None else self._same.get(self._names[name], [self._names[name]])

    def rank(self, argument: Any) -> int:
        """How many axes a value has; 0 where the file does not say."""
        return len(self.program.shapes.get(argument.name, ())) if isinstance(argument, Reference) else 0

    def _run(self, found: Operation) -> None:
        if found.target in NUMBERS:
            arguments = [self.value(argument) for argument in found.arguments.values()]
            self._keep(found, self.assembly.call(NUMBERS[found.target], *arguments))
            return
        name, overload = split_target(found.target) or ("", "")
        if name in ASSERTIONS:
            return
        if name.removesuffix("_") in DROPOUTS:
            given = next(iter(found.arguments.values()), None)
            self._keep(found, self.value(given), whole=True)
            self._join(given, found)
            return
        layer = LAYER_CALLS.get(name)
        answer = None if layer is None else layer(self, found)
        if answer is not None:
            self._keep(found, answer, whole=True)
            return
        if name.endswith("_") and not name.startswith("__"):
            self._run_in_place(found, name, overload)
            return
        self._keep(found, self._called(found, name, overload))
        if name in VIEWS:
            for seen in (*names_read(list(found.arguments.values())), *names_made(found.results)):
                self._aliased |= self._one.get(seen, {seen})

    def _run_in_place(self, found: Operation, name: str, overload: str) -> None:
        """Written into a value that nothing else looks into, it is the same as a new value in its place.

        Into a tensor of the file only where nothing reads that, as with counters of batches: it is left out. Otherwise
        the answer would not be that of the file, or another one at each call.
        """
        target = next(iter(found.arguments.values()), None)
        if not isinstance(target, Reference):
            raise bad_graph("it writes into something that is no tensor", found.name)
        if target.name in self.program.tensors:
            if not self._own_read & set(self.stored(target)):
                return
            raise bad_graph(
                f"it writes into its own tensor {self.program.tensors[target.name][:80]!r} and reads it", found.name
            )
        together = self._one.get(target.name, {target.name})
        if not together & self._aliased and find_overload(name[:-1], overload) is not None:
            answer = self._called(found, name[:-1], overload)
            for same in together:
                self._values[same] = answer
        else:
            answer = self._called(found, name, overload)
        self._keep(found, answer)
        self._join(target, found)

    def _join(self, given: Any, found: Operation) -> None:
        """What the operation answers is the very value that it was given, and changes when that is written into."""
        if isinstance(given, Reference):
            together = self._one.setdefault(given.name, {given.name})
            for name in names_made(found.results)[:1]:
                together.add(name)
                self._one[name] = together
                if given.name in self._aliased:
                    self._aliased.add(name)

    @cached_property
    def _own_read(self) -> frozenset[str]:
        """The file's tensors that the graph reads, but for writing into them where none reads the answer."""
        read: list[Any] = list(self.program.outputs)
        for found in self.program.operations:
            target, *others = list(found.arguments.values()) or [None]
            name, _ = split_target(found.target) or ("", "")
            writes = name.endswith("_") and not name.startswith("__")
            read += others if writes and not self._read & set(names_made(found.results)) else [target, *others]
        return frozenset(name for one in names_read(read) for name in self.stored(Reference(one)))

    def _called(self, found: Operation, name: str, overload: str) -> fx.Node:
        called = find_overload(name, overload)
        if called is None:
            raise unsupported_operator(found.target, found.name)
        given = dict(found.arguments)
        unknown = given.keys() - {argument.name for argument in called._schema.arguments}
        if unknown:
            raise bad_graph(f"{found.target} has no argument {min(unknown)[:40]!r}", found.name)
        positional, named = [], {}
        for argument in called._schema.arguments:
            if argument.name in _LEFT_OUT and argument.kwarg_only:
                continue
            if argument.name in given:
                value = self.value(given[argument.name])
            elif argument.name == "dtype" and name in FACTORIES:
                value = self.assembly.dtype()
            elif argument.kwarg_only:
                continue
            elif argument.has_default_value():
                value = argument.default_value
            else:
                raise bad_graph(f"{found.target} lacks its argument {argument.name!r}", found.name)
            if argument.name in _SWITCHES or (argument.name == "dropout_p"):
                value = type(value)(0)
            if argument.kwarg_only:
                named[argument.name] = value
            else:
                positional.append(value)
        public = PUBLIC.get(f"{name}.{overload}")
        if public is None:
            return self.assembly.call(called, *positional, **named)
        if "pool" in name and len(positional) > 2 and positional[2] == []:
            positional[2] = None
        return self.assembly.call(public, *positional, **named)

    def _keep(self, found: Operation, answer: Any, *, whole: bool = False) -> None:
        """Give the answer its names; ``whole``: only the first of several is there."""
        results: Sequence[str | tuple[str, ...] | None] = found.results
        if len(results) == 1 and isinstance(results[0], tuple):
            results = results[0]
        elif len(results) <= 1 or whole:
            for name in names_made(results[:1]):
                self._values[name] = answer
            return
        for place, result in enumerate(results):
            if isinstance(result, str) and result in self._read:
                self._values[result] = self.assembly.call(operator.getitem, answer, place)


def _groups(ties: Mapping[str, str]) -> dict[str, list[str]]:
    """All names of each tied tensor, by each of them."""
    together: dict[str, list[str]] = {}
    for name, first in ties.items():
        together.setdefault(first, [first]).append(name)
    return {name: names for names in together.values() for name in names}
