"""Graphs that files of strangers may hold: nothing is put together whose meaning is not plain, and it ends."""

import pytest

from quant_lens_engine.intake.graphs.aten_linears import with_linears
from quant_lens_engine.intake.graphs.aten_records import Operation, Program, Reference

SHAPES = {"fc.weight": (2, 3), "fc.bias": (2,), "other.weight": (2, 3)}
X, W, OTHER = Reference("x"), Reference("w"), Reference("v")


def op(name, target, result, **arguments):
    return Operation(name, f"torch.ops.aten.{target}", arguments, (result,))


def program(*operations):
    tensors = {"w": "fc.weight", "b": "fc.bias", "v": "other.weight"}
    return Program(tuple(operations), tensors, frozenset(tensors), ("x",), {}, (Reference("y"),))


TURN = op("turn", "permute.default", "t", self=W, dims=[1, 0])
PRODUCT = op("product", "mm.default", "y", self=X, mat2=Reference("t"))


def targets(given):
    return [found.target.split(".")[3] for found in with_linears(given, SHAPES).operations]


def test_a_product_with_a_transpose_is_a_linear_layer():
    assert targets(program(TURN, PRODUCT)) == ["linear"]


LEFT = {
    "a circle of views": [
        op("a", "view.default", "t", self=Reference("t"), size=[3, 2]), PRODUCT,
    ],
    "a long chain": [
        TURN,
        op("v0", "view.default", "t0", self=Reference("t"), size=[3, 2]),
        *(op(f"v{i}", "view.default", f"t{i}", self=Reference(f"t{i - 1}"), size=[3, 2]) for i in range(1, 9)),
        op("product", "mm.default", "y", self=X, mat2=Reference("t8")),
    ],
    "a name for two values": [TURN, PRODUCT, op("again", "permute.default", "t", self=OTHER, dims=[1, 0])],
    "a name of a tensor": [op("n", "relu.default", "w", self=X), TURN, PRODUCT],
    "two nodes of a name": [TURN, PRODUCT, op("product", "relu.default", "r", self=Reference("y"))],
    "a write in place": [TURN, op("m", "mul_.Tensor", "r", self=Reference("t"), other=2), PRODUCT],
    "another overload": [TURN, op("product", "mm.out", "y", self=X, mat2=Reference("t"), out=X)],
    "one argument more": [TURN, op("product", "mm.default", "y", self=X, mat2=Reference("t"), more=1)],
    "no first factor": [TURN, op("product", "mm.default", "y", mat2=Reference("t"))],
    "axes that are lists": [
        op("turn", "transpose.int", "t", self=W, dim0=[0], dim1=1), PRODUCT,
    ],
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT)
def test_what_is_not_plain_stays_as_it_is(what):
    given = program(*LEFT[what])
    assert with_linears(given, SHAPES).operations == given.operations
