"""TorchScript and pickled modules: refused and not run where they are not trusted; read whole where they are."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from quant_lens_engine import QuantDiagnostic
from quant_lens_engine.analysis import analyze
from quant_lens_engine.errors import CheckpointError, InputError
from quant_lens_engine.intake import build_model, choose_architecture, inspect_file, load_plugins, open_checkpoint
from quant_lens_engine.intake.formats import FORMATS
from quant_lens_engine.subject import file_sha256
from tests.security.bad_inputs import BAD_FILES

PLUGIN = """
import torch
from torch import nn


class Small(nn.Module):
    '''A network of the team's own; its forward is what the test looks at.'''

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.register_buffer("shift", torch.tensor(3.0), persistent=False)

    def forward(self, x):
        return self.fc(x.flatten(1)) * 2 + self.shift
"""


class Block(nn.Module):
    """Convolutions, a normalisation, a dropout, a size that is computed, a tied head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.first = nn.Linear(96, 16)
        self.again = nn.Linear(16, 16, bias=False)
        self.twice = nn.Linear(16, 16, bias=False)
        self.twice.weight = self.again.weight
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x.reshape(-1, 1, 8, 8))))
        x = nn.functional.max_pool2d(x, 2)
        x = self.drop(self.first(x.view(x.size(0), -1)))
        return self.head(torch.tanh(self.twice(torch.relu(self.again(x)))))


@pytest.fixture(autouse=True)
def no_plugins():
    yield
    load_plugins(None)


@pytest.fixture
def plugin(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "nets.py").write_text(PLUGIN)
    load_plugins(folder)
    return folder


def script_of(module: nn.Module, path):
    torch.jit.trace(module.eval(), torch.zeros(2, 64), check_trace=False).save(path)
    return path


def rebuilt(path, **options):
    checkpoint = open_checkpoint(path, trusted=True, **options)
    checkpoint.check_finite()
    return checkpoint, build_model(checkpoint, choose_architecture(checkpoint, "auto"))


@pytest.mark.parametrize("number", [4, 5, 6, 7, 8])
def test_untrusted_they_are_refused_and_nothing_is_run(tmp_path, number):
    path, canary = tmp_path / "theirs.pt", tmp_path / "canary"
    BAD_FILES[number].make(path, canary)
    for read in (open_checkpoint, inspect_file):
        with pytest.raises(CheckpointError) as refused:
            read(path)
        assert refused.value.code in BAD_FILES[number].codes
        assert "QUANT_LENS_TRUSTED_FORMATS" in refused.value.hint
        assert "--trust-checkpoint" in refused.value.hint
        assert "torch.save(model.state_dict()" in refused.value.hint
    assert not canary.exists()


@pytest.mark.parametrize("number", [1, 2, 3, 13, 14, 16, 17, 20, 22, 25, 35, 43, 45, 47, 48])
def test_trust_changes_nothing_for_files_of_other_formats(tmp_path, number):
    bad = BAD_FILES[number]
    path, canary = tmp_path / bad.filename, tmp_path / "canary"
    bad.make(path, canary)
    if "" in bad.codes:
        assert not open_checkpoint(path, trusted=True).ran
        return
    with pytest.raises(InputError) as refused:
        inspect_file(path, trusted=True)
    assert refused.value.code in bad.codes
    assert not canary.exists()


def test_only_these_two_formats_can_run_a_file():
    assert {name for name, known in FORMATS.items() if known.run is not None} == {"torchscript", "pickled-module"}


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_a_script_is_the_same_function_of_layers_with_its_names(tmp_path, how):
    torch.manual_seed(0)
    module = Block().eval()
    module.norm.running_mean.normal_()
    path = tmp_path / "m.pt"
    script = torch.jit.script(module) if how == "scripted" else torch.jit.trace(module, torch.zeros(2, 64))
    script.save(path)
    checkpoint, built = rebuilt(path)
    rows = torch.randn(5, 64)
    torch.testing.assert_close(built(rows), module(rows), rtol=0, atol=1e-6)
    assert set(checkpoint.tensors) == set(module.state_dict())
    assert {name for name, _ in built.named_parameters()} == {name for name, _ in module.named_parameters()}
    assert built.again.weight is built.twice.weight
    kinds = {name: type(found).__name__ for name, found in built.named_modules()}
    layers = [kinds[name] for name in ("stem", "norm", "first", "again")]
    assert layers == ["Conv2d", "BatchNorm2d", "Linear", "Linear"]
    assert how == "traced" or kinds["twice"] == "Linear"  # a trace knows one module of the two
    assert checkpoint.ran
    assert checkpoint.format == "torchscript"


def test_a_script_of_an_attention_and_tokens(tmp_path):
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    module = nn.Sequential(nn.Embedding(20, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)).eval()
    tokens = torch.randint(0, 20, (2, 5))
    path = tmp_path / "m.pt"
    torch.jit.trace(module, tokens, check_trace=False).save(path)
    _, built = rebuilt(path)
    torch.testing.assert_close(built(tokens), module(tokens), rtol=0, atol=1e-5)
    assert type(built.get_submodule("1.layers.0.self_attn.in_proj")).__name__ == "Linear"


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        if bool(x.sum() > 0):
            return self.fc(x)
        return x[:, :2]


class Loops(Branches):
    def forward(self, x):
        while bool(x.sum() > 1):
            x = x / 2
        return self.fc(x)


class Draws(Branches):
    def forward(self, x):
        return self.fc(x + torch.rand_like(x))


class TwoInputs(Branches):
    def forward(self, x, y):
        return self.fc(x + y)


class Named(Branches):
    def forward(self, x):
        return {"aux": x, "logits": self.fc(x)}


class Unnamed(Branches):
    def forward(self, x):
        return {"one": x, "two": self.fc(x)}


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        (Branches, "unsupported_operator", "prim::If"),
        (Loops, "unsupported_operator", "prim::Loop"),
        (Draws, "unsupported_operator", "rand_like"),
        (TwoInputs, "bad_graph", "more than one input (y)"),
    ],
)
def test_what_is_no_straight_line_is_named(tmp_path, module, code, said):
    path = tmp_path / "m.pt"
    torch.jit.script(module()).save(path)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path, trusted=True)
    assert refused.value.code == code
    assert said in refused.value.message
    assert ("plug-in" if module is Draws else "torch.export") in refused.value.hint
    assert str(tmp_path) not in str(refused.value.as_dict())


def test_an_answer_without_scores_is_told_by_its_names(tmp_path):
    path = tmp_path / "m.pt"
    torch.jit.script(Unnamed()).save(path)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path, trusted=True)
    assert refused.value.code == "bad_output"
    assert "'one', 'two'" in refused.value.message
    assert "logits" in refused.value.hint


def test_the_scores_of_a_named_answer_are_measured(tmp_path):
    path = tmp_path / "m.pt"
    module = Named().eval()
    torch.jit.script(module).save(path)
    _, built = rebuilt(path)
    rows = torch.randn(3, 4)
    torch.testing.assert_close(built(rows), module.fc(rows))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", ["plain", "checkpoint", "parallel"])
def test_a_pickled_module_of_torchs_own_classes(tmp_path, legacy, wrapped):
    torch.manual_seed(2)
    module = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).eval()
    value = {
        "plain": module,
        "checkpoint": {"epoch": 3, "optimizer": {"state": {}}, "ema": module, "model": nn.Linear(64, 10)},
        "parallel": nn.DataParallel(module),
    }[wrapped]
    if wrapped == "checkpoint":
        value["model"], value["ema"] = module, nn.Linear(64, 10)
    path = tmp_path / "m.pt"
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    checkpoint, built = rebuilt(path)
    rows = torch.randn(5, 64)
    assert torch.equal(built(rows), module(rows))
    assert checkpoint.container == ("model" if wrapped == "checkpoint" else None)
    again = build_model(checkpoint, choose_architecture(checkpoint, "auto"))
    assert again[0].weight.data_ptr() != built[0].weight.data_ptr(), "two builds share their weights"
    found = inspect_file(path, trusted=True)
    assert (found.format, found.trusted_code, found.architectures[0].fits) == ("pickled-module", True, True)
    assert found.parameters == 64 * 8 + 8 + 8 * 10 + 10


def test_a_class_of_a_plugin_is_found_by_its_name(tmp_path, plugin):
    namespace = {"__name__": "__main__"}
    exec(PLUGIN, namespace)
    Small = namespace["Small"]
    import __main__

    __main__.Small = Small
    torch.manual_seed(3)
    module = Small().eval()
    path = tmp_path / "m.pt"
    try:
        torch.save(module, path)
    finally:
        del __main__.Small
    checkpoint, built = rebuilt(path)
    rows = torch.randn(4, 64)
    assert torch.equal(built(rows), module(rows))
    chosen = choose_architecture(checkpoint, "auto")
    assert chosen.source.name == "nets.py"
    assert chosen.source.sha256 == file_sha256(plugin / "nets.py")
    load_plugins(None)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path, trusted=True)
    assert (refused.value.code, refused.value.details["classes"]) == ("missing_class", ["__main__.Small"])
    assert "QUANT_LENS_PLUGINS" in refused.value.hint


class Planted:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_a_name_outside_of_torch_and_plugins_is_missing_before_anything_is_run(tmp_path):
    canary = tmp_path / "canary"
    module = nn.Linear(2, 2)
    module.more = [Planted(os.system, f"touch {canary}")]
    path = tmp_path / "m.pt"
    torch.save(module, path)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path, trusted=True)
    assert (refused.value.code, refused.value.details["classes"]) == ("missing_class", ["posix.system"])
    assert not canary.exists()


def test_a_part_that_is_not_there_is_said(tmp_path):
    path = tmp_path / "m.pt"
    torch.save({"model": nn.Linear(2, 2)}, path)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path, part="ema", trusted=True)
    assert refused.value.code == "no_such_part"
    assert open_checkpoint(path, part="model", trusted=True).container == "model"


def test_weights_that_are_not_finite_are_named(tmp_path):
    module = nn.Linear(2, 2)
    module.weight.data[0, 0] = float("nan")
    path = tmp_path / "m.pt"
    torch.save(module, path)
    with pytest.raises(CheckpointError) as refused:
        open_checkpoint(path, trusted=True).check_finite()
    assert refused.value.details["tensors"] == ["weight"]


@pytest.mark.parametrize("kind", ["torchscript", "pickled-module"])
def test_a_trusted_file_goes_the_whole_way_with_the_numbers_of_its_state_dict(tmp_path, kind):
    torch.manual_seed(4)
    module = nn.Sequential(nn.Flatten())
    for name, layer in (("hidden1", nn.Linear(64, 8)), ("a", nn.ReLU()), ("hidden2", nn.Linear(8, 6)),
                        ("b", nn.ReLU()), ("classifier", nn.Linear(6, 10))):  # fmt: skip
        module.add_module(name, layer)
    trusted, plain = tmp_path / "trusted.pt", tmp_path / "plain.pt"
    torch.save(module.state_dict(), plain)
    if kind == "torchscript":
        script_of(module, trusted)
    else:
        torch.save(module, trusted)
    results = []
    for path, architecture in ((trusted, "auto"), (plain, "digits-mlp")):
        sha256 = file_sha256(path)
        spec = {
            "model": {"file": sha256, "architecture": architecture}, "data": {"example": "digits", "limit": 64},
            "schemes": ["int4"], "analyses": {"preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0}},
        }  # fmt: skip
        if architecture == "auto":
            with pytest.raises(CheckpointError):
                analyze(spec, files={sha256: path})
        results.append(analyze(spec, files={sha256: path}, trust_checkpoint=True))
    ours, theirs = results
    assert (ours.model.format, ours.model.trusted_code, ours.model.architecture) == (kind, True, "from-file")
    assert not theirs.model.trusted_code
    for name in ("FP32", "int4"):
        one, other = ours.variant(name), theirs.variant(name)
        assert one.evaluation.loss == pytest.approx(other.evaluation.loss, rel=1e-6)
        assert one.curvature.lambda_max.value == pytest.approx(other.curvature.lambda_max.value, rel=1e-4)
        assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]


def test_a_script_in_a_notebook_is_measured_as_its_layers():
    torch.manual_seed(5)
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double().eval()
    loader = [(torch.randn(8, 6).double(), torch.randint(3, (8,)))]
    values = []
    for model in (module, torch.jit.script(module)):
        diagnostic = QuantDiagnostic(model, loader)
        diagnostic.add_variant("int4")
        result = diagnostic.run_analysis(landscape_steps=3, directions=1)
        found = result.variant("int4")
        values.append((found.evaluation.loss, found.curvature.lambda_max.value, found.quantized_layers))
    assert values[1] == pytest.approx(values[0], rel=1e-6)
    assert values[1][2] == 2
