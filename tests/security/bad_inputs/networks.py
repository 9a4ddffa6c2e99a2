"""Models of other libraries that point outside of themselves or bring code."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save

from tests.security.bad_inputs import bad_file


def _external(location: str) -> bytes:
    import onnx
    from onnx import TensorProto, helper

    weight = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "48"}.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])], [weight],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


@bad_file(40, "ONNX with external data at ../", "external_data", filename="model.onnx")
def onnx_outside(path: Path, canary: Path) -> None:
    path.write_bytes(_external("../../../../etc/passwd"))


@bad_file(41, "ONNX whose external data is a symlink", "bad_zip", "external_data", filename="model.zip")
def onnx_symlink(path: Path, canary: Path) -> None:
    link = zipfile.ZipInfo("weights.bin")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model.onnx", _external("weights.bin"))
        file.writestr(link, "/etc/passwd")


@bad_file(42, "config with auto_map", "config_with_code", filename="model.zip")
def auto_map(path: Path, canary: Path) -> None:
    code = f"open({str(canary)!r}, 'w')\n"
    config = {"model_type": "bert", "architectures": ["Mine"], "auto_map": {"AutoModel": "modeling_mine.Mine"}}
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/config.json", json.dumps(config))
        file.writestr("m/modeling_mine.py", code)
        file.writestr("m/model.safetensors", io.BytesIO(save({"w": torch.zeros(2)})).getvalue())
