"""The JSON of a ``torch.export`` archive as records: read strictly, nothing looked up, no expression evaluated.

Schema 8 of ``torch._export.serde.schema``. Sizes that vary stand there as text in sympy's notation, which torch's own
reader hands to ``sympify``, and that to ``eval``. They are not needed: each is the answer of an operator of the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.graphs.answers import measured_answer
from quant_lens_engine.intake.graphs.aten_records import Device, Operation, Program, Reference, names_made, names_read
from quant_lens_engine.intake.graphs.aten_regions import REGION, Region
from quant_lens_engine.intake.graphs.refusals import EXPORT_HINT, bad_graph, unsupported_operator
from quant_lens_engine.intake.json_object import json_object

SCHEMA = 8
MAX_OPERATIONS = 200_000
_DEEPEST = 4

DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_FLOATS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


def read_json(text: bytes, what: str) -> dict[str, Any]:
    """A JSON object, refused where it names a key twice.

    Raises:
        CheckpointError: ``bad_graph``.
    """
    return json_object(text, what, bad_graph)


def read_program(text: bytes) -> Program:
    """The graph that ``models/*.json`` of an archive describes.

    Raises:
        CheckpointError: ``bad_graph``; ``unsupported_version``; ``unsupported_operator`` for graphs within graphs and
            objects of classes.
    """
    whole = read_json(text, "the graph")
    try:
        version = whole["schema_version"]["major"]
        if version != SCHEMA:
            raise CheckpointError(
                f"its graph has the schema {version!r}; schema {SCHEMA} is read", hint=EXPORT_HINT,
                code="unsupported_version",
            )  # fmt: skip
        program = _program(whole["graph_module"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise bad_graph(f"an entry is missing or malformed ({error.__class__.__name__}: {str(error)[:80]})") from None
    _check_names(program)
    return program


def _check_names(program: Program) -> None:
    """Each name stands for one value, and is read after it was made: else what it means would be ours to choose.

    Raises:
        CheckpointError: ``bad_graph``.
    """
    known: set[str] = set()
    begins = (*program.tensors, *program.inputs, *program.constants)
    for name in begins:
        _add(name, known, name)
    for found in program.operations:
        unknown = set(names_read(list(found.arguments.values()))) - known
        if unknown:
            raise bad_graph(f"{min(unknown)[:80]!r} is read before it is made", found.name)
        for name in names_made(found.results):
            _add(name, known, found.name)
    if unknown := set(names_read(list(program.outputs))) - known:
        raise bad_graph(f"it answers {min(unknown)[:80]!r}, which nothing makes")


def _add(name: str, known: set[str], node: str) -> None:
    if name in known:
        raise bad_graph(f"two values are called {name[:80]!r}", node)
    known.add(name)


def _program(module: dict[str, Any]) -> Program:
    graph, signature = module["graph"], module["signature"]
    if len(graph["nodes"]) > MAX_OPERATIONS:
        raise bad_graph(f"it has {len(graph['nodes'])} operators; at most {MAX_OPERATIONS} are read")
    tensors: dict[str, str] = {}
    parameters: set[str] = set()
    inputs: list[str] = []
    constants: dict[str, Any] = {}
    for entry in signature["input_specs"]:
        kind, spec = _only(entry)
        if kind == "user_input":
            _, value = _only(spec["arg"])
            if isinstance(value, dict):
                inputs.append(_text(value.get("name", value.get("as_name"))))
        elif kind == "constant_input":
            constants[_text(spec["name"])] = _constant(spec["value"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            name = _text(spec["arg"]["name"])
            tensors[name] = _text(spec[f"{kind}_name"])
            if kind == "parameter":
                parameters.add(name)
        elif kind != "token":
            raise unsupported_operator(f"an input of the kind {kind}", str(kind))
    operations = tuple(_operations(graph))
    if len(operations) > MAX_OPERATIONS:
        raise bad_graph(f"it has {len(operations)} operators; at most {MAX_OPERATIONS} are read")
    outputs = tuple(
        _argument(spec["arg"], "output")
        for kind, spec in map(_only, signature["output_specs"])
        if kind in ("user_output", "loss_output")
    )
    measured = measured_answer(_structure(module), [isinstance(output, Reference) for output in outputs])
    values = dict(_values(graph))
    shapes = {name: tuple(_size(size) for size in meta["sizes"]) for name, meta in values.items()}
    dtypes = {name: DTYPES[meta["dtype"]] for name, meta in values.items() if meta["dtype"] in DTYPES}
    return Program(
        operations, tensors, frozenset(parameters), tuple(inputs), constants,
        (outputs[measured.place],), shapes, dtypes, measured.note,
    )  # fmt: skip


def _structure(module: dict[str, Any]) -> Any:
    """Of the answer, as pytree has written it down; None in a graph that has none."""
    calls = [entry for entry in module.get("module_call_graph") or [] if not entry["fqn"]]
    signature = calls[0].get("signature") if calls else None
    return signature["out_spec"] if signature else None


def _operations(graph: dict[str, Any], depth: int = 0) -> Iterator[Operation]:
    for index, node in enumerate(graph["nodes"]):
        if node["target"] != REGION:
            yield _operation(node, index)
            continue
        if depth >= _DEEPEST:
            raise bad_graph(f"parts of it lie deeper than {_DEEPEST} in each other")
        given = [_argument(entry["arg"], REGION) for entry in node["inputs"][2:]]
        names = [name for result in map(_result, node["outputs"]) for name in names_made((result,))]
        enabled = _typed(node["inputs"][0]["arg"]["as_bool"], bool)
        part = node["inputs"][1]["arg"]["as_graph"]["graph"]
        inside = [_text(entry["as_tensor"]["name"]) for entry in part["inputs"]]
        answers = [_text(entry["as_tensor"]["name"]) for entry in part["outputs"]]
        within = tuple(_operations(part, depth + 1))
        region = Region(_text(node["name"]), enabled, tuple(inside), within, tuple(answers))
        yield from region.in_place_of_its_call(given, names)


def _values(graph: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """What is known of each tensor, by its name in the program."""
    for name, meta in (graph.get("tensor_values") or {}).items():
        yield path + name, meta
    for node in graph["nodes"]:
        if node["target"] == REGION:
            yield from _values(node["inputs"][1]["arg"]["as_graph"]["graph"], f"{path}{node['name']}/")


def _operation(node: dict[str, Any], index: int) -> Operation:
    name = node.get("name") or f"node {index}"
    target = _text(node["target"])
    arguments = {_text(entry["name"]): _argument(entry["arg"], target) for entry in node["inputs"]}
    if len(arguments) != len(node["inputs"]):
        raise bad_graph("an argument is given twice", str(name))
    return Operation(str(name), target, arguments, tuple(map(_result, node["outputs"])), _scope(node))


def _scope(node: dict[str, Any]) -> str:
    """``L__self__,,Net;L__self__fc,fc,torch.nn.modules.linear.Linear`` says ``fc``."""
    stack = (node.get("metadata") or {}).get("nn_module_stack")
    parts = str(stack).rpartition(";")[2].split(",") if stack else []
    return parts[1].partition("@")[0] if len(parts) >= 3 else ""


def _argument(entry: Any, operator: str) -> Any:
    kind, value = _only(entry)
    if kind in ("as_none",):
        return None
    if kind in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor"):
        return _value(value)
    if kind in ("as_tensors", "as_sym_ints", "as_sym_floats", "as_sym_bools", "as_optional_tensors"):
        return [_value(item) for item in value]
    if kind == "as_float":
        return _float(value)
    if kind == "as_floats":
        return [_float(item) for item in value]
    if kind in ("as_int", "as_bool", "as_string"):
        return _typed(value, {"as_int": int, "as_bool": bool, "as_string": str}[kind])
    if kind in ("as_ints", "as_bools"):
        return [_typed(item, int if kind == "as_ints" else bool) for item in value]
    if kind == "as_scalar_type":
        return DTYPES[value]
    if kind == "as_device":
        return Device()
    if kind in ("as_layout", "as_memory_format"):
        return None
    raise unsupported_operator(operator, f"an argument of the kind {kind}")


def _value(entry: Any) -> Any:
    if "name" in entry:
        return Reference(_text(entry["name"]))
    kind, value = _only(entry)
    if kind == "as_name":
        return Reference(_text(value))
    if kind == "as_tensor":
        return Reference(_text(value["name"]))
    if kind == "as_none":
        return None
    return _float(value) if kind == "as_float" else _typed(value, bool if kind == "as_bool" else int)


def _result(entry: Any) -> str | tuple[str, ...] | None:
    kind, value = _only(entry)
    if kind == "as_tensors":
        return tuple(_text(item["name"]) for item in value)
    if kind == "as_none":
        return None
    return _text(value.get("name", value.get("as_name")))


def _constant(entry: Any) -> Any:
    kind, value = _only(entry)
    return None if kind == "as_none" else _float(value) if kind == "as_float" else value


def _size(entry: Any) -> int | None:
    kind, value = _only(entry)
    return _typed(value, int) if kind == "as_int" else None


def _only(entry: Any) -> tuple[str, Any]:
    """The one filled field of a union."""
    filled = [(key, value) for key, value in entry.items() if value is not None]
    if len(filled) != 1:
        raise ValueError(f"a union with {len(filled)} fields")
    return filled[0]


def _text(value: Any) -> str:
    return str(_typed(value, str))


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{str(value)[:40]!r} is no {kind.__name__}")
    return value


def _float(value: Any) -> float:
    return _FLOATS[value] if isinstance(value, str) else float(_typed(value, type(value)))
