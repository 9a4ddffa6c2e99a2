"""A pickle read as data: the program that torch.save wrote, followed without importing or calling anything.

A pickle is a program for a small stack machine; what makes it dangerous are the names it may import and call. This
machine knows the handful of names of a state dict (tensor, storage, OrderedDict …), stands for each with a record of
ours, and refuses a file that asks for any other before its first instruction. Nothing is allocated from a claimed
size: a tensor becomes a note of storage, shape and stride, checked against the file by whoever reads it.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import NETWORK_HINT, SAVE_HINT, TRUST_HINT

MAX_INSTRUCTIONS = 1_000_000
"""A tensor takes about thirty."""

_STORAGE_DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip

_NETWORKS = ("torch.nn.", "torchvision.models", "timm.", "transformers.")
_TENSOR_BUILDERS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}
_PARAMETER_BUILDERS = {"_rebuild_parameter", "_rebuild_parameter_with_state"}
_INERT = {
    "collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict", "builtins.list",
    "builtins.int", "builtins.float", "builtins.set", "__builtin__.set", "torch.Size", "torch.device",
    "torch.serialization._get_layout", "_codecs.encode", "numpy.dtype", "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar", "argparse.Namespace", "types.SimpleNamespace", "pathlib.PosixPath",
}  # fmt: skip
"""Names that stand for plain data in training checkpoints; what they would build is noted as opaque, never built."""


@dataclass
class Opaque:
    """Something that is not a tensor and that nobody looks into."""

    name: str


@dataclass(frozen=True)
class StorageReference:
    """A storage by its key; ``elements`` is what the pickle claims."""

    key: str
    dtype: torch.dtype
    elements: int


@dataclass(frozen=True)
class TensorReference:
    """A tensor as the pickle describes it."""

    storage: StorageReference
    dtype: torch.dtype
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass
class PickledDict:
    """A dict as its pairs: nothing is hashed, since a key can be made to take for ever."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def named(self) -> Iterator[tuple[str, Any]]:
        """The pairs whose key is text."""
        return ((key, value) for key, value in self.pairs if isinstance(key, str))


@dataclass(frozen=True)
class Import:
    """A name that a pickle asks for."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}" if self.module else self.name


class _Mark:
    pass


def follow_pickle(stream: io.BytesIO) -> Any:
    """Follow one pickle from the stream's position to its end.

    Args:
        stream: positioned at a pickle; left behind its last byte.

    Returns:
        The value: numbers, text, lists and tuples as they are, a :class:`PickledDict` for a dict, a
        :class:`TensorReference` for a tensor, :class:`Opaque` for the rest.

    Raises:
        CheckpointError: ``pickle_with_code`` or ``pickled_module`` where it names anything but plain data;
            ``bad_pickle`` where it is not a sound pickle.
    """
    first = stream.tell()
    refuse_code(stream)
    stream.seek(first)
    return _Machine().run(stream)


def refuse_code(stream: io.BytesIO) -> None:
    """Look at every name the pickle would import, before any instruction of it is followed."""
    refused = sorted({str(name) for name in imports_of(stream) if not is_plain_data(str(name))})
    if refused:
        raise refusal(refused)


def imports_of(stream: io.BytesIO) -> list[Import]:
    """Every name that one pickle would import, in order, found without following it; left behind its last byte.

    Raises:
        CheckpointError: ``bad_pickle``.
    """
    names: list[Import] = []
    texts: list[str] = []
    memo: dict[int, str] = {}
    memoized = 0
    for opcode, argument in _instructions(stream):
        if opcode in ("GLOBAL", "INST"):
            names.append(Import(*str(argument).split(" ", 1)))
        elif opcode == "STACK_GLOBAL":
            names.append(Import(*(["", "", *texts][-2:])))
        elif opcode in ("OBJ", "EXT1", "EXT2", "EXT4"):
            names.append(Import("", f"an {opcode} instruction"))
        elif opcode in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[memoized if opcode == "MEMOIZE" else argument] = texts[-1] if texts else ""
            memoized += 1
        elif opcode in ("BINGET", "LONG_BINGET"):
            texts.append(memo.get(argument, ""))
        elif isinstance(argument, str):
            texts.append(argument)
    return names


def is_of_a_network(name: str) -> bool:
    """Whether an import belongs to a network's own class: what tells a whole model from other code."""
    return name.startswith(_NETWORKS)


def refusal(names: list[str]) -> CheckpointError:
    """Why a pickle that names ``names`` is not opened."""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    details = {"names": names[:50]}
    if any(map(is_of_a_network, names)):
        return CheckpointError(
            f"a whole pickled model, not a state dict: opening it would run its code ({shown})",
            hint=f"{NETWORK_HINT}. {TRUST_HINT}",
            code="pickled_module",
            details=details,
        )
    if any(name.startswith("torch._utils._rebuild") for name in names):
        return CheckpointError(
            f"it holds tensors that are not plain weights ({shown})",
            hint="upload the float model; quantized variants are made from it. " + SAVE_HINT,
            code="unsupported_tensor",
            details=details,
        )
    return CheckpointError(
        f"a pickle that would run code when opened ({shown}); it was not opened",
        hint=SAVE_HINT,
        code="pickle_with_code",
        details=details,
    )


def is_plain_data(name: str) -> bool:
    """Whether an import stands for a part of a state dict, or for plain data beside one."""
    module, _, attribute = name.rpartition(".")
    if module == "torch._utils":
        return attribute in _TENSOR_BUILDERS | _PARAMETER_BUILDERS
    if module in ("torch", "torch.storage", "torch.cuda") and (attribute in _STORAGE_DTYPES):
        return True
    if module == "torch" and isinstance(getattr(torch, attribute, None), torch.dtype):
        return True
    return name in _INERT


def _instructions(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_INSTRUCTIONS:
                raise _unsound("it has too many instructions for a state dict")
            yield opcode.name, argument
    except CheckpointError:
        raise
    except Exception as error:  # pickletools raises whatever its decoders do
        raise _unsound(f"it cannot be followed ({error.__class__.__name__})") from None


class _Machine:
    """The stack machine."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO) -> Any:
        """Follow the program; its value is what lies on the stack at the end."""
        try:
            for opcode, argument in _instructions(stream):
                self._step(opcode, argument)
            (value,) = self.stack
        except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise _unsound(f"an instruction does not fit its stack ({error.__class__.__name__})") from None
        return value

    def _step(self, opcode: str, argument: Any) -> None:
        if opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode]())
        elif opcode in _IGNORED:
            return
        elif opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[int(argument)])
        elif opcode == "GLOBAL":
            self.stack.append(Import(*str(argument).split(" ", 1)))
        else:
            step = _STEPS.get(opcode)
            if step is None:
                raise _unsound(f"the instruction {opcode} has no place in a state dict")
            step(self)

    def stack_global(self) -> None:
        """Module and name from the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        found = Import(str(module), str(name))
        if not is_plain_data(str(found)):  # texts from the memo escape the look ahead
            raise refusal([str(found)])
        self.stack.append(found)

    def tuple_of(self, count: int | None) -> None:
        """The last ``count`` values, or those since the mark, as a tuple."""
        self.stack.append(tuple(self.since_mark() if count is None else self.take(count)))

    def take(self, count: int) -> list[Any]:
        """The last ``count`` values, off the stack."""
        if len(self.stack) < count:
            raise IndexError(count)
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def since_mark(self) -> list[Any]:
        """Everything above the last mark, off the stack together with it."""
        place = len(self.stack) - 1
        while not isinstance(self.stack[place], _Mark):
            place -= 1
            if place < 0:
                raise IndexError("mark")
        taken = self.stack[place + 1 :]
        del self.stack[place:]
        return taken

    def set_items(self, items: list[Any]) -> None:
        """Pairs into the dict on top."""
        if isinstance(self.stack[-1], PickledDict):
            self.stack[-1].pairs.extend(zip(items[::2], items[1::2], strict=True))

    def append(self, items: list[Any]) -> None:
        """Values into the list on top."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def persistent(self) -> None:
        """A storage: ``("storage", class, key, location, elements[, view])``."""
        kind, storage, key, _, elements, *view = self.stack.pop()
        if kind != "storage" or any(part is not None for part in view):
            raise refusal([f"a persistent {str(kind)[:40]}"])
        dtype = _STORAGE_DTYPES[storage.name]
        self.stack.append(StorageReference(str(key), dtype, int(elements)))

    def reduce(self) -> None:
        """What a call would have made: a tensor's description, an empty container, or something opaque."""
        called, arguments = self.stack[-2], self.stack[-1]
        del self.stack[-2:]
        if not isinstance(called, Import):
            raise TypeError("call of a value")
        if called.module == "torch._utils":
            self.stack.append(_rebuilt(called.name, arguments))
        elif called.name in ("OrderedDict", "defaultdict", "Counter", "dict"):
            pairs = arguments[0] if called.name == "OrderedDict" and arguments else []
            self.stack.append(PickledDict([(key, value) for key, value in pairs]))
        else:
            self.stack.append(Opaque(str(called)))


def _rebuilt(builder: str, arguments: tuple[Any, ...]) -> Any:
    if builder in _PARAMETER_BUILDERS:
        return arguments[0]
    storage, start, shape, stride = arguments[:4]
    if not isinstance(storage, StorageReference):
        raise TypeError("a tensor without storage")
    dtype = storage.dtype
    if builder == "_rebuild_tensor_v3":
        dtype = getattr(torch, arguments[6].name)
        storage = StorageReference(storage.key, storage.dtype, storage.elements)
    sizes = tuple(int(size) for size in _plain(shape))
    return TensorReference(storage, dtype, int(start), sizes, tuple(int(step) for step in _plain(stride)))


def _plain(sizes: Any) -> tuple[Any, ...]:
    if not isinstance(sizes, tuple) or len(sizes) > 64:
        raise TypeError("sizes")
    return sizes


def _unsound(reason: str) -> CheckpointError:
    return CheckpointError(f"its pickle is not sound: {reason}", hint=SAVE_HINT, code="bad_pickle")


_IGNORED = {"PROTO", "FRAME", "STOP"}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING", "STRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": PickledDict, "MARK": _Mark, "EMPTY_SET": lambda: Opaque("set"),
}  # fmt: skip


def _new_dict(machine: _Machine) -> None:
    items = machine.since_mark()
    machine.stack.append(PickledDict(list(zip(items[::2], items[1::2], strict=True))))


_STEPS: dict[str, Callable[[_Machine], Any]] = {
    "STACK_GLOBAL": _Machine.stack_global,
    "TUPLE": lambda machine: machine.tuple_of(None),
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
    "LIST": lambda machine: machine.stack.append(machine.since_mark()),
    "DICT": _new_dict,
    "SETITEM": lambda machine: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine: machine.append(machine.take(1)),
    "APPENDS": lambda machine: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine: machine.since_mark(),
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "BUILD": lambda machine: machine.take(1),  # an attribute such as _metadata: not needed
    "POP": lambda machine: machine.take(1),
}
