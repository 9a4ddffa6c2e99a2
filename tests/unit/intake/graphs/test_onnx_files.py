"""ONNX files as exporters and attackers write them."""

# ruff: noqa: E501  (graphs by hand)

from __future__ import annotations

import contextlib
import io
import math
import os
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import inspect_file, open_checkpoint
from quant_lens_engine.quantization.layer_chains import find_chains
from quant_lens_engine.quantization.layers import survey_weights
from tests.unit.intake.graphs.conftest import built, curved, example, refused

OPSETS = range(13, 21)


def exported(model, x, path, opset=18, *, dynamo=True, keep=True):
    """As torch writes it; ``keep``: batch normalisation is not folded into the layers before it."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(model, (x,), str(path), opset_version=opset, external_data=False, optimize=not keep,
                              dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)  # fmt: skip
        else:
            mode = torch.onnx.TrainingMode.PRESERVE if keep else torch.onnx.TrainingMode.EVAL
            torch.onnx.export(model, (x,), str(path), opset_version=opset, dynamo=False, input_names=["x"],
                              dynamic_axes={"x": {0: "batch"}}, training=mode, do_constant_folding=not keep)  # fmt: skip
    return path


class Residual(nn.Module):
    """A CNN that uses what ONNX has operators for."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.Hardswish(), nn.Conv2d(4, 4, 1))
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        x = nn.functional.max_pool2d(x + self.body(x), 2)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))


@pytest.mark.parametrize("opset", OPSETS)
def test_a_cnn_of_every_opset(tmp_path, opset):
    torch.manual_seed(0)
    model = Residual().eval()
    x = torch.randn(5, 1, 8, 8)
    found = built(exported(model, x[:2], tmp_path / "m.onnx", opset, dynamo=False))
    for one, other in zip(curved(found, x), curved(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert {name for name, _ in found.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert {site.layer for site in survey_weights(found).sites} == {"stem.0", "body.0", "body.2", "head"}
    assert type(found.get_submodule("stem.1")).__name__ == "BatchNorm2d"


@pytest.mark.parametrize("opset", range(14, 21))
def test_a_transformer_of_every_opset(tmp_path, opset, images):
    model = example("digits-transformer")
    found = built(exported(model, images[:2], tmp_path / "m.onnx", opset, dynamo=False))
    for one, other in zip(curved(found, images), curved(model, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert {name for name, _ in found.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert {site.layer for site in survey_weights(found).sites} == {site.layer for site in survey_weights(model).sites}


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "digits-transformer"])
def test_examples_as_todays_exporter_writes_them(tmp_path, name, images):
    model = example(name)
    found = built(exported(model, images[:2], tmp_path / "m.onnx"))
    for one, other in zip(curved(found, images), curved(model, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert {name: value.shape for name, value in found.named_parameters()} == {
        name: value.shape for name, value in model.named_parameters()
    }
    if name == "digits-cnn":
        layers = {"conv1", "conv2", "classifier"}
        assert find_chains(found, layers, "fold")[0].normalization == "norm1"


def test_a_folded_normalisation_is_gone(tmp_path, images):
    model = example("digits-cnn")
    found = built(exported(model, images[:2], tmp_path / "m.onnx", dynamo=False, keep=False))
    assert torch.allclose(found(images), model(images), atol=1e-4)
    assert {name for name, _ in found.named_parameters()} == {
        "conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_the_inspection(tmp_path, images):
    path = exported(example("digits-mlp"), images[:2], tmp_path / "m.onnx", dynamo=False)
    found = inspect_file(path)
    assert found.format == "onnx"
    assert [(match.architecture, match.fits) for match in found.architectures] == [("from-file", True)]
    assert found.parameters == sum(parameter.numel() for parameter in example("digits-mlp").parameters())


# ---- hand-made


WEIGHT = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


def model_of(nodes=None, initializers=None, opset=18, domain="", **more):
    nodes = nodes or [helper.make_node("Gemm", ["x", "w"], ["y"], transB=1, name="fc")]
    initializers = [numpy_helper.from_array(WEIGHT, "w")] if initializers is None else initializers
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "g", [given], [answer], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=8, **more)


def saved(model, path):
    path.write_bytes(model.SerializeToString())
    return path


def test_a_layer_without_a_name_has_its_nodes(tmp_path):
    found = built(saved(model_of(), tmp_path / "m.onnx"))
    assert [site.layer for site in survey_weights(found).sites] == ["fc"]
    assert torch.equal(found.fc.weight, torch.from_numpy(WEIGHT))


@pytest.mark.parametrize("kind", ["float_data", "double", "half", "bfloat16"])
def test_numbers_packed_in_other_ways(tmp_path, kind):
    if kind == "float_data":
        tensor = helper.make_tensor("w", TensorProto.FLOAT, WEIGHT.shape, WEIGHT.reshape(-1))
        assert not tensor.raw_data
    else:
        number = {"double": TensorProto.DOUBLE, "half": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}[kind]
        dtype = {"double": torch.float64, "half": torch.float16, "bfloat16": torch.bfloat16}[kind]
        raw = torch.from_numpy(WEIGHT).to(dtype).view(torch.uint8).numpy().tobytes()
        tensor = TensorProto(name="w", data_type=number, dims=WEIGHT.shape, raw_data=raw)
    found = built(saved(model_of(initializers=[tensor]), tmp_path / "m.onnx"))
    assert found.fc.weight.dtype == torch.float32
    assert torch.allclose(found.fc.weight, torch.from_numpy(WEIGHT), rtol=1e-2 if kind == "bfloat16" else 1e-3)


@pytest.mark.parametrize("where", ["../secret", "/etc/passwd", "link"])
def test_tensors_in_other_files(tmp_path, where):
    """40 and 41: a path that leads out, and a link beside the file."""
    (tmp_path.parent / "secret").write_bytes(WEIGHT.tobytes())
    os.symlink(tmp_path.parent / "secret", tmp_path / "link")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=WEIGHT.shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=where)
    error = refused(saved(model_of(initializers=[tensor]), tmp_path / "m.onnx"), "external_data")
    assert "save_as_external_data=False" in error.hint


def test_an_attribute_in_another_file(tmp_path):
    tensor = TensorProto(name="v", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Add", ["x", "c"], ["y"])]
    refused(saved(model_of(nodes), tmp_path / "m.onnx"), "external_data")


@pytest.mark.parametrize("dims", [[1 << 40, 4], [1 << 62, 1 << 62], [-3, -4], [3, 5], []])
def test_a_shape_that_the_bytes_do_not_have(tmp_path, dims):
    tensor = numpy_helper.from_array(WEIGHT, "w")
    tensor.dims[:] = dims
    refused(saved(model_of(initializers=[tensor]), tmp_path / "m.onnx"), "bad_graph")


def test_a_constant_that_claims_more_than_it_has(tmp_path):
    tensor = TensorProto(name="v", data_type=TensorProto.INT64, dims=[1 << 40])
    nodes = [helper.make_node("Constant", [], ["c"], value=tensor), helper.make_node("Reshape", ["x", "c"], ["y"])]
    refused(saved(model_of(nodes), tmp_path / "m.onnx"), "bad_graph")


BOMBS = {
    "constant of shape": [
        helper.make_node("Constant", [], ["s"], value_ints=[1 << 20, 1 << 20]),
        helper.make_node("ConstantOfShape", ["s"], ["c"], value=numpy_helper.from_array(np.ones(1, np.int64))),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ],
    "range": [
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Constant", [], ["many"], value_int=1 << 40),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Range", ["zero", "many", "one"], ["r"]),
        helper.make_node("Reshape", ["x", "r"], ["y"]),
    ],
    "expand": [
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Constant", [], ["many"], value_ints=[1 << 40]),
        helper.make_node("Expand", ["one", "many"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Reshape", ["x", "f"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", BOMBS)
def test_constants_without_end(tmp_path, name):
    refused(saved(model_of(BOMBS[name]), tmp_path / "m.onnx"), "bad_graph")


@pytest.mark.parametrize(
    ("node", "shown"),
    [
        (helper.make_node("If", ["x"], ["y"], name="branch"), "If"),
        (helper.make_node("Loop", ["x"], ["y"], name="branch"), "Loop"),
        (helper.make_node("RandomNormalLike", ["x"], ["y"], name="branch"), "RandomNormalLike"),
        (helper.make_node("PyOp", ["x"], ["y"], name="branch", domain="ai.onnx.contrib"), "ai.onnx.contrib::PyOp"),
    ],
)
def test_an_operator_that_is_not_read_is_named(tmp_path, node, shown):
    error = refused(saved(model_of([node]), tmp_path / "m.onnx"), "unsupported_operator")
    assert error.details == {"operator": shown, "node": "branch"}
    assert "torch.export" in error.hint


@pytest.mark.parametrize("opset", [8, 12, 21])
def test_other_opsets(tmp_path, opset):
    error = refused(saved(model_of(opset=opset), tmp_path / "m.onnx"), "unsupported_version")
    assert "13 to 20" in error.message


def test_functions_of_the_files_own(tmp_path):
    function = helper.make_function("mine", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                                    [helper.make_opsetid("", 18)])  # fmt: skip
    refused(saved(model_of(functions=[function]), tmp_path / "m.onnx"), "unsupported_operator")


def test_the_same_name_twice(tmp_path):
    tensor = numpy_helper.from_array(WEIGHT, "w")
    refused(saved(model_of(initializers=[tensor, tensor]), tmp_path / "m.onnx"), "bad_graph")


@pytest.mark.parametrize("end", [1, 10, 60, -1])
def test_a_file_that_is_cut_off(tmp_path, end):
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of().SerializeToString()[:end])
    with pytest.raises(CheckpointError) as caught:
        built(path)
    assert caught.value.code in ("bad_graph", "unsupported_version", "not_a_checkpoint")


def test_any_change_of_a_byte_is_answered(tmp_path):
    """Each byte of a small file in turn, set to something else: a module, or a typed error, and never another."""
    content = bytearray(model_of().SerializeToString())
    path = tmp_path / "m.onnx"
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0xA5
        path.write_bytes(changed)
        with contextlib.suppress(CheckpointError):
            open_checkpoint(path)


def test_names_that_would_be_code(tmp_path):
    call = '__import__("os").getcwd()'
    nodes = [helper.make_node("Gemm", ["x", f'{call}.weight"'], [f"y{call}"], transB=1, name=f'/{call}/"/for/Gemm'),
             helper.make_node("Identity", [f"y{call}"], ["y"])]  # fmt: skip
    found = built(saved(model_of(nodes, [numpy_helper.from_array(WEIGHT, f'{call}.weight"')]), tmp_path / "m.onnx"))
    assert call not in found.code
    x = torch.ones(2, 4)
    assert torch.allclose(found(x), x @ torch.from_numpy(WEIGHT).t(), atol=1e-6)


def test_a_matrix_of_two_layers_is_one_parameter(tmp_path):
    """An embedding whose matrix is the head's too."""
    table = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["embed.weight", "t"], ["e"]), helper.make_node("Transpose", ["embed.weight"], ["h"]),
             helper.make_node("MatMul", ["e", "h"], ["y"], name="/head/MatMul")]  # fmt: skip
    given = helper.make_tensor_value_info("t", TensorProto.INT64, ["n", 3])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 9])
    graph = helper.make_graph(nodes, "g", [given], [answer], [numpy_helper.from_array(table, "embed.weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found = built(saved(model, tmp_path / "m.onnx"))
    assert sum(parameter.numel() for parameter in found.parameters()) == 36
    tokens = torch.randint(0, 9, (5, 3))
    weight = torch.from_numpy(table)
    assert torch.allclose(found(tokens), weight[tokens] @ weight.t(), atol=1e-5)


def test_a_mask_of_infinities_is_no_damaged_weight(tmp_path):
    mask = np.triu(np.full((4, 4), -math.inf, np.float32), 1)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"], name="fc"), helper.make_node("Unsqueeze", ["z", "one"], ["u"]),
             helper.make_node("Add", ["u", "onnx::mask"], ["v"]), helper.make_node("Softmax", ["v"], ["p"]),
             helper.make_node("ReduceSum", ["p", "one"], ["y"], keepdims=0)]  # fmt: skip
    tensors = [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"), numpy_helper.from_array(mask, "onnx::mask"),
               numpy_helper.from_array(np.asarray([1]), "one")]  # fmt: skip
    path = saved(model_of(nodes, tensors), tmp_path / "m.onnx")
    checkpoint = open_checkpoint(path)
    assert checkpoint.non_finite() == []
    assert set(checkpoint.tensors) == {"fc.weight"}
    x = torch.randn(3, 4)
    expected = torch.softmax(x[:, None] + torch.from_numpy(mask), -1).sum(1)
    assert torch.allclose(built(path)(x), expected, atol=1e-6)


def test_onnx_is_imported_for_its_own_files_only(tmp_path, state):
    import subprocess
    import sys
    from pathlib import Path

    torch.save(state, tmp_path / "m.pt")
    script = (
        "import sys\nfrom pathlib import Path\nfrom quant_lens_engine.intake import inspect_file\n"
        "inspect_file(Path(sys.argv[1]))\nprint('onnx' in sys.modules)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "m.pt")], capture_output=True, text=True, timeout=120, check=True,
        cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert answer.stdout.strip() == "False"


def test_the_file_is_onnx_by_its_bytes(tmp_path):
    assert open_checkpoint(saved(model_of(), tmp_path / "weights.bin")).format == "onnx"
    assert onnx.__version__
