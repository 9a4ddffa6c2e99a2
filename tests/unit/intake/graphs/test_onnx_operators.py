"""Every ONNX operator that is read, against onnx's own reference of the specification."""

# ruff: noqa: E501  (tables of cases)

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quant_lens_engine.intake.formats import FORMATS
from quant_lens_engine.intake.formats.layout import read_tensors
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.graphs.onnx_operators import OPERATORS

RNG = np.random.default_rng(0)


def real(*shape, low=-2.0, high=2.0):
    return RNG.uniform(low, high, shape).astype(np.float32)


def whole(*values, kind=np.int64):
    return np.asarray(values, dtype=kind)


class Case:
    """One node on ``x`` with constants behind it; ``before`` are nodes that run first."""

    def __init__(
        self, operator, *constants, x=None, opset=18, outputs=1, before=(), first=False, name="", **attributes
    ):
        self.operator, self.constants, self.opset, self.outputs = operator, constants, opset, outputs
        self.x = real(3, 4) if x is None else x
        self.before, self.first, self.attributes = before, first, attributes
        self.name = name

    def __repr__(self):
        text = "-".join(f"{key}={value}" for key, value in self.attributes.items() if not hasattr(value, "dims"))
        return f"{self.operator}{self.name}-{self.opset}-{text}"[:80]

    def model(self, *, constants_are_initializers=True):
        names, nodes, initializers = [], list(self.before), []
        for place, value in enumerate(self.constants):
            name = "" if value is None else f"c{place}"
            names.append(name)
            if value is None:
                continue
            if isinstance(value, str):
                names[-1] = value
            elif constants_are_initializers:
                initializers.append(numpy_helper.from_array(value, name))
            else:
                nodes.insert(0, helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name)))
        inputs = [*names, "x"] if self.first else ["x", *names]
        outputs = ["logits", *(f"y{place}" for place in range(1, self.outputs))]
        nodes.append(helper.make_node(self.operator, inputs, outputs, name="the_node", **self.attributes))
        kind = helper.np_dtype_to_tensor_dtype(self.x.dtype)
        given = helper.make_tensor_value_info("x", kind, ["batch", *self.x.shape[1:]])
        answers = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs]
        graph = helper.make_graph(nodes, "g", [given], answers, initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


IMAGES = real(2, 3, 7, 6)
SHAPED = [helper.make_node("Shape", ["x"], ["s"])]

CASES = [
    *[Case(op) for op in ("Neg", "Abs", "Floor", "Ceil", "Exp", "Erf", "Sin", "Cos", "Atan", "Sinh", "Cosh", "Asinh",
                          "Sign", "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSwish", "Mish", "Identity",
                          "Tan", "IsNaN", "Round")],
    *[Case(op, x=real(3, 4, low=0.1, high=0.9)) for op in ("Sqrt", "Log", "Reciprocal", "Asin", "Acos", "Atanh")],
    Case("Acosh", x=real(3, 4, low=1.1, high=3)),
    Case("IsInf", x=np.asarray([[np.inf, 1.0], [-np.inf, 0.0]], dtype=np.float32)),
    *[Case(op, real(4)) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")],
    *[Case(op, real(3, 1)) for op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")],
    *[Case(op, real(3, 4) > 0, x=real(3, 4) > 0) for op in ("And", "Or", "Xor")],
    Case("Not", x=real(3, 4) > 0),
    Case("Max", real(4), real(3, 4), name="three"),
    Case("Div", whole(2, 3, 2, 5), x=RNG.integers(-9, 9, (3, 4)), name="whole"),
    Case("Mod", whole(3, 4, 2, 5), x=RNG.integers(-9, 9, (3, 4))),
    Case("Mod", real(4, low=0.5), fmod=1),
    Case("Pow", np.float32(2)), Case("Pow", np.float32(1.5), x=real(3, 4, low=0.1)), Case("Pow", real(4), x=real(3, 4, low=0.1)),
    Case("Where", real(3, 4), real(3, 1), x=real(3, 4) > 0),
    Case("LeakyRelu"), Case("LeakyRelu", alpha=0.3), Case("Elu", alpha=0.7), Case("Celu", alpha=1.3), Case("Selu"),
    Case("HardSigmoid"), Case("HardSigmoid", alpha=0.3, beta=0.4), Case("ThresholdedRelu", alpha=0.5),
    Case("PRelu", real(4)), Case("PRelu", real(3, 1, 1), x=IMAGES),
    Case("Clip", np.float32(-0.5), np.float32(0.7)), Case("Clip", None, np.float32(0.7)), Case("Clip"),
    Case("Gelu", opset=20), Case("Gelu", opset=20, approximate="tanh"),
    Case("Softmax"), Case("Softmax", axis=0), Case("LogSoftmax", axis=1), Case("Dropout"),
    # layers
    Case("Conv", real(5, 3, 3, 3), x=IMAGES), Case("Conv", real(5, 3, 3, 3), real(5), x=IMAGES, pads=[1, 1, 1, 1], strides=[2, 1]),
    Case("Conv", real(6, 1, 3, 2), real(6), x=IMAGES, group=3, dilations=[2, 1]),
    Case("Conv", real(5, 3, 3, 3), x=IMAGES, pads=[0, 1, 2, 1]),
    *[Case("Conv", real(5, 3, 2, 3), x=IMAGES, auto_pad=mode) for mode in ("VALID", "SAME_UPPER", "SAME_LOWER")],
    Case("Conv", real(5, 4, 3), x=real(2, 4, 9)), Case("Conv", real(2, 3, 2, 2, 2), real(2), x=real(2, 3, 4, 5, 4)),
    Case("ConvTranspose", real(3, 5, 3, 3), real(5), x=IMAGES, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    Case("ConvTranspose", real(3, 2, 3, 2), x=IMAGES),
    Case("MatMul", real(4, 5)), Case("MatMul", real(4, 5), x=real(2, 3, 4)), Case("MatMul", real(2, 4, 3), x=real(2, 5, 4)),
    Case("MatMul", real(5, 3), first=True, x=real(3, 4)),
    Case("Gemm", real(5, 4), real(5), transB=1), Case("Gemm", real(4, 5), real(5)), Case("Gemm", real(4, 5)),
    Case("Gemm", real(4, 5), real(3, 5), alpha=0.5, beta=2.0), Case("Gemm", real(3, 5), transA=1),
    Case("Einsum", real(4, 5), equation="bi,ij->bj"),
    Case("BatchNormalization", real(3), real(3), real(3), real(3, low=0.5), x=IMAGES, epsilon=1e-3),
    Case("BatchNormalization", real(4), real(4), real(4), real(4, low=0.5)),
    Case("LayerNormalization", real(6), real(6), x=IMAGES, opset=17), Case("LayerNormalization", real(6), x=IMAGES, epsilon=1e-2),
    Case("LayerNormalization", real(7, 6), real(7, 6), x=IMAGES, axis=-2), Case("LayerNormalization", real(7, 6), real(7, 6), x=IMAGES, axis=2),
    Case("InstanceNormalization", real(3), real(3), x=IMAGES),
    Case("GroupNormalization", real(2), real(2), x=real(2, 4, 5, 3), num_groups=2),
    Case("LpNormalization", axis=1, p=2), Case("LpNormalization", axis=1, p=1, x=real(3, 4, low=0.1)), 
    Case("MaxPool", x=IMAGES, kernel_shape=[2, 2]), Case("MaxPool", x=IMAGES, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    Case("MaxPool", x=IMAGES, kernel_shape=[2, 3], pads=[0, 1, 1, 1]), Case("MaxPool", x=IMAGES, kernel_shape=[3, 2], ceil_mode=1, strides=[2, 2]),
    Case("MaxPool", x=real(2, 3, 9), kernel_shape=[3], dilations=[2]),
    Case("AveragePool", x=IMAGES, kernel_shape=[2, 2], strides=[2, 2]), Case("AveragePool", x=IMAGES, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    Case("AveragePool", x=IMAGES, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    Case("GlobalAveragePool", x=IMAGES), Case("GlobalMaxPool", x=IMAGES),
    # shapes
    Case("Reshape", whole(0, -1), x=IMAGES), Case("Reshape", whole(-1, 7, 6), x=IMAGES), Case("Reshape", whole(2, 3, 42), x=IMAGES),
    Case("Flatten", x=IMAGES), Case("Flatten", x=IMAGES, axis=2), Case("Flatten", x=IMAGES, axis=0), Case("Flatten", x=IMAGES, axis=-1),
    Case("Transpose", x=IMAGES), Case("Transpose", x=IMAGES, perm=[0, 2, 3, 1]),
    Case("Squeeze", whole(1), x=real(3, 1, 4, 1)), Case("Squeeze", x=real(3, 1, 4, 1)), Case("Squeeze", whole(1, -1), x=real(3, 1, 4, 1)),
    Case("Unsqueeze", whole(1, 3)), Case("Unsqueeze", whole(-1)), Case("Unsqueeze", whole(0, -1)),
    Case("Expand", whole(2, 3, 4)), Case("Expand", whole(3, 5), x=real(3, 1)), Case("Expand", whole(1, 4), x=real(3, 1)),
    Case("Expand", whole(1)), Case("Tile", whole(2, 3)),
    Case("Concat", real(3, 2), axis=1), Case("Concat", real(2, 4), axis=0),
    Case("Split", whole(1, 3), outputs=2, axis=1), Case("Split", outputs=2, axis=1, num_outputs=2), Case("Split", outputs=2, axis=-1, opset=13),
    Case("Split", outputs=3, axis=3, num_outputs=3, x=real(2, 2, 2, 8)),
    Case("Slice", whole(1), whole(3), whole(1)), Case("Slice", whole(0, -3), whole(2, 1 << 62), whole(0, 1), whole(1, 2)),
    Case("Slice", whole(1, 0), whole(2, 3)), Case("Slice", whole(-1), whole(-(1 << 62)), whole(1), whole(-1)),
    Case("Pad", whole(0, 1, 0, 2)), Case("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5), x=IMAGES),
    Case("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1), x=IMAGES, mode="reflect"), Case("Pad", whole(0, 0, 1, 2, 0, 0, 0, 1), x=IMAGES, mode="edge"),
    Case("Pad", whole(1, 2), None, whole(1)),
    Case("DepthToSpace", x=real(2, 8, 3, 2), blocksize=2), Case("DepthToSpace", x=real(2, 8, 3, 2), blocksize=2, mode="CRD"),
    Case("SpaceToDepth", x=real(2, 3, 4, 6), blocksize=2),
    Case("Gather", whole(2, 0)), Case("Gather", whole(0, 2), axis=1), Case("Gather", np.int64(-1), axis=1), Case("Gather", whole([1, 0], [2, 3]), x=IMAGES, axis=2),
    Case("Gather", real(9, 5), x=RNG.integers(0, 9, (3, 4)), first=True, name="embedding"),
    Case("GatherND", RNG.integers(0, 3, (5, 1))), Case("GatherND", RNG.integers(-3, 3, (2, 4, 2))),
    Case("GatherElements", RNG.integers(0, 4, (3, 2)), axis=1), Case("Trilu", x=IMAGES), Case("Trilu", whole(1)[0], upper=0),
    Case("CumSum", whole(1)[0]), Case("TopK", whole(2), outputs=2),
    # reductions
    *[Case(f"Reduce{op}", axes=[1], opset=13) for op in ("Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp")],
    *[Case(f"Reduce{op}", whole(-1, 1), x=IMAGES, keepdims=0) for op in ("Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "Sum")],
    Case("ReduceProd", whole(1, 2), x=IMAGES, keepdims=0), Case("ReduceProd", whole(-1, -3), x=IMAGES, keepdims=0),
    Case("ReduceLogSum", whole(1), x=real(3, 4, low=0.1)), Case("ReduceMean", keepdims=0), Case("ReduceSum", noop_with_empty_axes=1),
    Case("ReduceSum", whole(1), opset=13), Case("ArgMax", axis=1), Case("ArgMin", axis=1, keepdims=0),
    # types and constants
    *[Case("Cast", to=kind) for kind in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.FLOAT)],
    Case("Cast", to=TensorProto.FLOAT, x=RNG.integers(0, 9, (3, 4)), name="whole"), Case("CastLike", whole(1), opset=19),
    Case("ConstantOfShape", before=SHAPED, name="zeros", x=real(3, 4)),
    Case("EyeLike", x=real(4, 4)),
    Case("Resize", None, real(4, low=1, high=1) * whole(1, 1, 2, 3).astype(np.float32), x=IMAGES, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    Case("Resize", None, np.asarray([1, 1, 2, 2], np.float32), x=IMAGES, mode="linear"),
    Case("Resize", None, None, whole(2, 3, 10, 9), x=IMAGES, mode="linear", coordinate_transformation_mode="align_corners"),
    Case("Resize", None, np.asarray([1, 1, 2, 2], np.float32), x=IMAGES, mode="cubic", coordinate_transformation_mode="half_pixel"),
]  # fmt: skip
NOT_ALONE = {"Constant", "LRN", "Range", "Shape", "Size"}


def answer(model, x, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    contents = FORMATS["onnx"].read(GivenFile.at(path))
    module = contents.network.build({name: stored.shape for name, stored in contents.tensors.items()})
    left = module.load_state_dict(read_tensors(path, contents.tensors))
    assert not left.missing_keys
    contents.network.check(module)
    with torch.no_grad():
        return module(torch.from_numpy(x)).detach()


@pytest.mark.parametrize("initializers", [True, False])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_an_operator_is_what_its_specification_says(case, tmp_path, initializers):
    if case.operator == "ConstantOfShape":
        model = Case("ConstantOfShape", before=SHAPED).model()
        model.graph.node[-1].input[:] = ["s"]
    else:
        model = case.model(constants_are_initializers=initializers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reference divides by zero where the specification does
        expected = ReferenceEvaluator(model).run(None, {"x": case.x})[0]
    found = answer(model, case.x, tmp_path)
    assert tuple(found.shape) == np.shape(expected)
    np.testing.assert_allclose(
        found.numpy().astype(np.float64), np.asarray(expected).astype(np.float64), rtol=2e-5, atol=2e-5
    )


def test_every_operator_is_tried():
    assert set(OPERATORS) - {case.operator for case in CASES} == NOT_ALONE


def test_a_transposed_convolution_in_groups(tmp_path):
    """onnx's reference fails here: each group is a convolution of its own."""
    weight, x = real(4, 2, 3), real(2, 4, 9)
    found = answer(Case("ConvTranspose", weight, x=x, group=2).model(), x, tmp_path)
    parts = [
        F.conv_transpose1d(torch.from_numpy(x[:, at : at + 2]), torch.from_numpy(weight[at : at + 2])) for at in (0, 2)
    ]
    torch.testing.assert_close(found, torch.cat(parts, 1))


def test_local_response_normalisation_by_its_formula(tmp_path):
    x = real(2, 6, 3, 2)
    found = answer(Case("LRN", x=x, size=3, alpha=0.3, beta=0.6, bias=1.5).model(), x, tmp_path).numpy()
    for channel in range(6):
        around = x[:, max(0, channel - 1) : channel + 2].astype(np.float64)
        expected = x[:, channel] / (1.5 + 0.3 / 3 * (around**2).sum(1)) ** 0.6
        np.testing.assert_allclose(found[:, channel], expected, rtol=1e-5)


def chained(nodes, x, initializers=(), opset=18, shape=None):
    given = helper.make_tensor_value_info(
        "x", helper.np_dtype_to_tensor_dtype(x.dtype), shape or ["batch", *x.shape[1:]]
    )
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.UNDEFINED, None)
    tensors = [numpy_helper.from_array(value, name) for name, value in initializers]
    graph = helper.make_graph(nodes, "g", [given], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs.split(), [output], **attributes)


CHAINS = {
    "view by sizes": (
        [node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Unsqueeze", "n first", "n1"),
         node("Concat", "n1 rest", "to", axis=0), node("Reshape", "x to", "y")],
        real(4, 2, 3), [("zero", np.int64(0)), ("first", whole(0)), ("rest", whole(-1))],
    ),
    "sizes multiplied and divided": (
        [node("Shape", "x", "s"), node("Slice", "s zero one", "n"), node("Mul", "n two", "m"),
         node("Div", "m two", "d"), node("Add", "d one", "a"), node("Sub", "a one", "b"), node("Cast", "b", "i", to=7),
         node("Concat", "i six", "to", axis=0), node("Reshape", "x to", "y")],
        real(4, 2, 3), [("zero", whole(0)), ("one", whole(1)), ("two", whole(2)), ("six", whole(6))],
    ),
    "expanding as torch writes it": (
        [node("Shape", "x", "s"), node("Slice", "s zero one", "n"), node("Concat", "n minus four", "to", axis=0),
         node("ConstantOfShape", "three", "ones", value=numpy_helper.from_array(whole(1), "v")),
         node("Mul", "ones minus1", "m"), node("Equal", "to m", "e"), node("Where", "e ones to", "w"),
         node("Expand", "token w", "y")],
        real(5, 4), [("zero", whole(0)), ("one", whole(1)), ("minus", whole(-1)), ("four", whole(4)), ("three", whole(3)),
                     ("minus1", whole(-1)), ("token", real(1, 2, 4))],
    ),
    "positions": (
        [node("Shape", "x", "s", start=1, end=2), node("Squeeze", "s zero", "n"), node("Range", "start n one", "r"),
         node("Gather", "table r", "p"), node("Gather", "embed x", "e"), node("Add", "e p", "y")],
        RNG.integers(0, 9, (3, 4)), [("zero", whole(0)), ("start", np.int64(0)), ("one", np.int64(1)),
                                     ("table", real(6, 5)), ("embed", real(9, 5))],
    ),
    "scaling by a width": (
        [node("Shape", "x", "s"), node("Gather", "s minus", "n"), node("Cast", "n", "f", to=1), node("Sqrt", "f", "q"),
         node("Div", "x q", "y")],
        real(4, 6), [("minus", np.int64(-1))],
    ),
    "a causal mask": (
        [node("Shape", "x", "s"), node("Gather", "s one", "n"), node("Unsqueeze", "n zero", "n1"),
         node("Concat", "n1 n1", "nn", axis=0),
         node("ConstantOfShape", "nn", "full", value=numpy_helper.from_array(np.full(1, -1e9, np.float32), "v")),
         node("Trilu", "full one", "mask"), node("Add", "x mask", "z"), node("Softmax", "z", "y", axis=-1)],
        real(2, 4, 4), [("one", np.int64(1)), ("zero", whole(0))],
    ),
    "the number of elements": (
        [node("Size", "x", "n"), node("Cast", "n", "f", to=1), node("ReduceSum", "x", "t", keepdims=0),
         node("Div", "t f", "m"), node("Sub", "x m", "y")],
        real(4, 6), [],
    ),
    "an attention": (
        [node("MatMul", "x wq", "q0"), node("Add", "q0 bq", "q"), node("MatMul", "x wk", "k"), node("MatMul", "x wv", "v"),
         node("Transpose", "k", "kt", perm=[0, 2, 1]), node("MatMul", "q kt", "scores"),
         node("Softmax", "scores", "p", axis=-1), node("MatMul", "p v", "y")],
        real(2, 3, 4), [("wq", real(4, 4)), ("bq", real(4)), ("wk", real(4, 4)), ("wv", real(4, 4))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("opset", [13, 20])
@pytest.mark.parametrize("name", CHAINS)
def test_chains_as_exporters_write_them(name, tmp_path, opset):
    nodes, x, initializers = CHAINS[name]
    if opset == 13 and any(attribute.name == "start" for found in nodes for attribute in found.attribute):
        pytest.skip("Shape takes start and end from opset 15 on")
    model = chained(nodes, x, initializers, opset)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(answer(model, x, tmp_path).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_other_numbers_of_rows_go_through(tmp_path):
    nodes, x, initializers = CHAINS["view by sizes"]
    model = chained(nodes, x, initializers)
    other = real(7, 2, 3)
    assert torch.equal(answer(model, other, tmp_path), torch.from_numpy(other.reshape(7, 6)))


def test_a_fixed_number_of_rows_is_opened(tmp_path):
    x = real(2, 3, 4)
    model = chained([node("Reshape", "x to", "r"), node("MatMul", "r w", "y")], x,
                    [("to", whole(2, 12)), ("w", real(12, 5))], shape=[2, 3, 4])  # fmt: skip
    other = real(6, 3, 4)
    assert tuple(answer(model, other, tmp_path).shape) == (6, 5)
