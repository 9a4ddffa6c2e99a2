"""``.pt2`` files of attackers: refused by directory or graph, before anything is deserialised."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import ArchitectureError, CheckpointError
from quant_lens_engine.intake import build_model, choose_architecture, open_checkpoint
from tests.unit.intake.graphs.conftest import added, built, export, refused, rewritten, with_graph


class Planted:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def canary(tmp_path):
    """A file that appears when something of an upload has run."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def planted(canary):
    return pickle.dumps(Planted(os.system, f"touch {canary}"))


@pytest.fixture(scope="session")
def harmless(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    return export(model, (torch.zeros(2, 4),), tmp_path_factory.mktemp("exported") / "m.pt2")


@pytest.fixture
def path(harmless, tmp_path):
    return shutil.copy(harmless, tmp_path / "m.pt2")


def with_config(path, change):
    def edit(name, content):
        if not name.endswith("model_weights_config.json"):
            return content
        config = json.loads(content)
        change(config["config"])
        return json.dumps(config).encode()

    return rewritten(path, edit)


def nodes(graph):
    return graph["graph_module"]["graph"]["nodes"]


# ---- members that would be unpickled or loaded (9 to 12)


@pytest.mark.parametrize("wrapped", [False, True])
def test_sample_inputs_that_unpickle(path, planted, wrapped):
    if wrapped:
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as archive:
            archive.writestr("model/data.pkl", planted)
        planted = inner.getvalue()
    rewritten(path, lambda name, content: planted if "/sample_inputs/" in name else content)
    error = refused(path, "archive_with_pickle")
    assert "sample inputs" in error.message
    assert "posix.system" in error.message
    assert "example_inputs = None" in error.hint


def test_no_sample_inputs_at_all(path):
    rewritten(path, lambda name, content: None if "/sample_inputs/" in name else content)
    assert len(open_checkpoint(path).tensors) == 4


def test_a_pickled_weight(path, planted):
    with_config(path, lambda config: config["0.weight"].update(use_pickle=True))
    rewritten(path, lambda name, content: planted if name.endswith("weight_0") else content)
    assert "'0.weight' is pickled" in refused(path, "archive_with_pickle").message


def test_weights_in_one_pickle(path, planted):
    refused(added(path, "m/data/weights/model.pt", planted), "archive_with_pickle")


@pytest.mark.parametrize("name", ["opaque_obj_0", "custom_obj_0"])
def test_objects(path, planted, name):
    assert name in refused(added(path, f"m/data/constants/{name}", planted), "archive_with_objects").message


@pytest.mark.parametrize("name", ["data/aotinductor/model/m.wrapper.so", "extra/helper.so"])
def test_a_compiled_library(path, name):
    refused(added(path, f"m/{name}", b"\x7fELF"), "archive_with_library")


def test_extra_files_are_left_where_they_are(path, planted):
    assert len(open_checkpoint(added(path, "m/extra/notes.pkl", planted)).tensors) == 4


def test_an_archive_of_the_old_form(tmp_path, planted):
    old = tmp_path / "m.pt2"
    with zipfile.ZipFile(old, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_state_dict.pt", planted)
    refused(old, "exported_archive")


def test_compressed_members(path):
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    refused(path, "compressed_member")


# ---- what stands in the graph


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default", "torch.ops.aten.empty.memory_format", "torch.ops.aten.rand.default",
        "torch.ops.aten.relu.out", "torch.ops.aten.relu.no_such", "torch.ops.aten.no_such.default",
        "torch.ops.mine.steal.default", "torch.ops.higher_order.cond", "torch.load", "os.system",
        "_operator.methodcaller", "torch.ops.aten.relu.__class__", "torch.ops.aten.__init__.default",
        "torch.ops.prims.device_put.default", "builtins.eval", "",
    ],
)  # fmt: skip
def test_operators_that_are_not_on_the_list(path, target):
    with_graph(path, lambda graph: nodes(graph)[1].update(target=target))
    error = refused(path, "unsupported_operator")
    assert error.details["operator"] == target
    assert error.details["node"] == "relu"


def test_text_that_sympy_would_evaluate_is_never_evaluated(path, canary):
    call = f"__import__('os').system('touch {canary}')"

    def plant(graph):
        inner = graph["graph_module"]["graph"]
        for name in inner["sym_int_values"]:
            inner["sym_int_values"][name] = {"as_expr": {"expr_str": call, "hint": {"as_int": 2}}}
        for value in inner["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = call
        graph["guards_code"] = [call]
        graph["range_constraints"] = {call: {"min_val": 0, "max_val": 4}}
        graph["verifiers"] = [call]
        graph["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = call
        for node in inner["nodes"]:
            node["metadata"]["nn_module_stack"] = f"L,{call},{call}"
            node["metadata"]["stack_trace"] = f'"""\n{call}\n"""'

    with_graph(path, plant)
    checkpoint = open_checkpoint(path)
    model = build_model(checkpoint, choose_architecture(checkpoint, "auto"))
    assert model(torch.zeros(5, 4)).shape == (5, 2)


@pytest.mark.parametrize(
    "name", ['0"+__import__("os").getcwd()+".weight', "0.we ight", "a..b", "", "for.weight", "x" * 400]
)
def test_names_that_would_be_code(path, name):
    with_config(path, lambda config: config.update({name: config.pop("0.weight")}))

    def rename(graph):
        for spec in graph["graph_module"]["signature"]["input_specs"]:
            if spec.get("parameter", {}).get("parameter_name") == "0.weight":
                spec["parameter"]["parameter_name"] = name

    refused(with_graph(path, rename), "bad_graph")


def test_the_names_of_inputs_are_cleaned(path):
    def rename(graph):
        text = json.dumps(graph["graph_module"]["graph"]["inputs"])
        assert "input" in text
        for node in nodes(graph):
            for entry in node["inputs"]:
                if entry["arg"].get("as_tensor", {}).get("name") == "input":
                    entry["arg"]["as_tensor"]["name"] = "x): import os; ("
        for spec in graph["graph_module"]["signature"]["input_specs"]:
            if "user_input" in spec:
                spec["user_input"]["arg"]["as_tensor"]["name"] = "x): import os; ("

    with_graph(path, rename)
    checkpoint = open_checkpoint(path)
    assert build_model(checkpoint, choose_architecture(checkpoint, "auto"))(torch.zeros(3, 4)).shape == (3, 2)


def test_text_as_an_argument_stays_text(path, canary):
    call = f"none', __import__('os').system('touch {canary}'), '"

    def plant(graph):
        argument = {"name": "approximate", "arg": {"as_string": call}, "kind": 1}
        nodes(graph)[1].update(target="torch.ops.aten.gelu.default")
        nodes(graph)[1]["inputs"].append(argument)

    with_graph(path, plant)
    checkpoint = open_checkpoint(path)
    model = build_model(checkpoint, choose_architecture(checkpoint, "auto"))
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 4))


def a_graph_argument(graph):
    nodes(graph)[1]["inputs"].append({"name": "g", "arg": {"as_graph": {"name": "g", "graph": {}}}, "kind": 1})


def an_object(graph):
    graph["graph_module"]["signature"]["input_specs"].append(
        {"custom_obj": {"arg": {"name": "o", "class_fqn": "C"}, "custom_obj_name": "o"}}
    )


@pytest.mark.parametrize("change", [a_graph_argument, an_object])
def test_graphs_and_objects_as_values(path, change):
    refused(with_graph(path, change), "unsupported_operator")


def test_another_schema(path):
    refused(with_graph(path, lambda graph: graph["schema_version"].update(major=9)), "unsupported_version")


MALFORMED = [
    lambda graph: graph.pop("graph_module"),
    lambda graph: graph.update(graph_module=[]),
    lambda graph: graph.pop("schema_version"),
    lambda graph: nodes(graph)[0].pop("inputs"),
    lambda graph: nodes(graph)[0].update(target=7),
    lambda graph: nodes(graph)[1]["inputs"][0].update(arg={}),
    lambda graph: nodes(graph)[1]["inputs"][0].update(arg={"as_int": 1, "as_float": 2.0}),
    lambda graph: nodes(graph)[1]["inputs"][0].update(arg={"as_int": "1"}),
    lambda graph: nodes(graph)[1]["inputs"][0].update(arg={"as_tensor": {"name": "nobody"}}),
    lambda graph: nodes(graph)[1]["inputs"].append(nodes(graph)[1]["inputs"][0]),
    lambda graph: nodes(graph)[1]["inputs"].append({"name": "what", "arg": {"as_int": 1}, "kind": 1}),
    lambda graph: nodes(graph)[1]["inputs"].clear(),
    lambda graph: graph["graph_module"]["signature"]["output_specs"].clear(),
    lambda graph: graph["graph_module"]["signature"]["input_specs"].pop(),
    lambda graph: graph["graph_module"]["signature"]["input_specs"][0]["parameter"].update(parameter_name="gone"),
]


@pytest.mark.parametrize("change", MALFORMED)
def test_graphs_that_do_not_go_together(path, change):
    with_graph(path, change)
    with pytest.raises((CheckpointError, ArchitectureError)) as caught:
        built(path)
    assert caught.value.code in ("bad_graph", "architecture_mismatch")
    assert caught.value.hint


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 100_000, b'{"a": 1, "a": 2}', b"\xff\xfe"])
def test_what_is_no_json(path, text):
    rewritten(path, lambda name, content: text if name.endswith("models/model.json") else content)
    refused(path, "bad_graph")


# ---- tensors


def meta(**changes):
    return lambda config: config["0.weight"]["tensor_meta"].update(changes)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (meta(sizes=[{"as_int": 1 << 40}, {"as_int": 4}]), "tensor_out_of_bounds"),
        (meta(strides=[{"as_int": 0}, {"as_int": 0}], sizes=[{"as_int": 1 << 20}] * 2), "tensor_out_of_bounds"),
        (meta(strides=[{"as_int": -4}, {"as_int": 1}]), "tensor_out_of_bounds"),
        (meta(storage_offset={"as_int": 9}), "tensor_out_of_bounds"),
        (meta(storage_offset={"as_int": -1}), "tensor_out_of_bounds"),
        (meta(sizes=[{"as_expr": {"expr_str": "1"}}, {"as_int": 4}]), "bad_graph"),
        (meta(sizes=[{"as_int": True}, {"as_int": 4}]), "bad_graph"),
        (meta(dtype=99), "bad_graph"),
        (meta(dtype=5), "bad_graph"),  # 48 bytes are no 12 numbers of 8 bytes: the shape reaches beyond
        (lambda config: config["0.weight"].update(path_name="../weight_0"), "bad_graph"),
        (lambda config: config["0.weight"].update(path_name="nowhere"), "bad_graph"),
        (lambda config: config["0.weight"].update(use_pickle=0), "archive_with_pickle"),
        (lambda config: config["0.weight"].pop("tensor_meta"), "bad_graph"),
        (lambda config: config.pop("0.weight"), "bad_graph"),
    ],
)
def test_tensors_that_are_not_where_they_are_said_to_be(path, change, code):
    if change.__code__ is meta().__code__ and code == "bad_graph":
        code = ("bad_graph", "tensor_out_of_bounds")
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(with_config(path, change))
    assert caught.value.code in code


def test_a_weight_of_another_shape_than_its_bias(path):
    checkpoint = open_checkpoint(
        with_config(path, meta(sizes=[{"as_int": 4}, {"as_int": 3}], strides=[{"as_int": 3}, {"as_int": 1}]))
    )
    chosen = choose_architecture(checkpoint, "auto")
    with pytest.raises(ArchitectureError):
        build_model(checkpoint, chosen)


def test_nothing_of_torchs_loaders_is_imported(path):
    """In a process of its own: neither torch.export's reader nor sympy is in memory, nor is torch.load called."""
    script = (
        "import sys, torch\n"
        "torch.load = torch.jit.load = None\n"
        "before = set(sys.modules)\n"
        "from pathlib import Path\n"
        "from quant_lens_engine.intake import build_model, choose_architecture, open_checkpoint\n"
        "checkpoint = open_checkpoint(Path(sys.argv[1]))\n"
        "model = build_model(checkpoint, choose_architecture(checkpoint, 'auto'))\n"
        "print(sorted(name for name in sys.modules if name.startswith(('torch._export.serde', 'torch.export.pt2'))))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=120, check=True,
        cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert answer.stdout.strip() == "[]"
