"""``.pt2`` files of ordinary owners: the module that results computes, and looks, like the model they exported."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quant_lens_engine.errors import ArchitectureError, CheckpointError
from quant_lens_engine.intake import build_model, choose_architecture, inspect_file, open_checkpoint
from quant_lens_engine.intake.matching import FROM_FILE
from quant_lens_engine.quantization.layer_chains import find_chains
from quant_lens_engine.quantization.layers import survey_weights
from tests.unit.intake.graphs.conftest import built, curved, example, export

pytestmark = pytest.mark.slow

EXAMPLES = ("digits-mlp", "digits-cnn", "digits-transformer")


class Several(nn.Module):
    """Everything that is no Sequential: a tied head, a mask, a buffer, a write into a value, several answers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor([0.5]), persistent=False)
        self.register_buffer("places", torch.arange(5)[None])
        self.position = nn.Embedding(5, 8)

    def forward(self, tokens):
        values = self.embed(tokens) + self.position(self.places) * self.scale
        mask = torch.triu(torch.full((tokens.shape[1],) * 2, float("-inf")), 1)
        values = self.encoder(values, src_mask=mask)
        values += torch.tensor([0.25])
        first, second = values.chunk(2, -1)
        return {"logits": self.head(torch.cat([second, first], -1)).mean(1), "states": values}


class Inverted(nn.Module):
    """A residual block with a squeeze-and-excitation, and what else CNNs do."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(inplace=True))
        self.depthwise = nn.Conv2d(8, 8, 5, padding="same", groups=8)
        self.norm = nn.GroupNorm(2, 8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)
        self.prelu = nn.PReLU(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.depthwise(x))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))).sigmoid()
        x = F.silu(x + y * gate)
        x = self.prelu(self.up(x))
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 2)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("decompose", [False, True])
def test_an_example_computes_the_same(tmp_path, name, images, decompose):
    model = example(name)
    found = built(export(model, (images[:2],), tmp_path / "m.pt2", decompose=decompose))
    for one, other in zip(curved(found, images), curved(model, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("decompose", [False, True])
def test_layers_are_torchs_own_under_the_names_that_their_owner_gave(tmp_path, name, images, decompose):
    model = example(name)
    found = built(export(model, (images[:2],), tmp_path / "m.pt2", decompose=decompose))
    assert {key: value.shape for key, value in found.named_parameters()} == {
        key: value.shape for key, value in model.named_parameters()
    }
    wanted, survey = survey_weights(model), survey_weights(found)
    assert {(site.layer, site.kind) for site in survey.sites} == {(site.layer, site.kind) for site in wanted.sites}
    norms = {key: type(module) for key, module in model.named_modules() if "Norm" in type(module).__name__}
    assert norms == {key: type(found.get_submodule(key)) for key in norms}


def test_batch_normalisation_is_found_behind_its_layer(tmp_path, images):
    model = example("digits-cnn")
    found = built(export(model, (images[:2],), tmp_path / "m.pt2"))
    layers = {"conv1", "conv2", "classifier"}
    assert find_chains(found, layers, "fold") == find_chains(model, layers, "fold")
    assert find_chains(found, layers, "fold")[0].normalization == "norm1"


def test_a_network_of_many_parts(tmp_path):
    torch.manual_seed(1)
    model = Inverted().eval()
    x = torch.randn(4, 3, 12, 12)
    found = built(export(model, (x[:2],), tmp_path / "m.pt2"))
    for one, other in zip(curved(found, x), curved(model, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    kinds = {name: type(module).__name__ for name, module in found.named_modules() if name}
    assert kinds["depthwise"] == "Conv2d"
    assert (kinds["up"], kinds["norm"], kinds["stem.1"]) == ("ConvTranspose2d", "GroupNorm", "BatchNorm2d")


class Scaled(nn.Linear):
    """Its bias is used, but not as a linear layer uses it."""

    def forward(self, x):
        return F.linear(x, self.weight) + 2 * self.bias


class Later(nn.Linear):
    """Its bias is added to what something else reads, too."""

    def forward(self, x):
        product = F.linear(x.transpose(-1, -2).contiguous().transpose(-1, -2), self.weight)
        return (product + self.bias) * product.mean()


@pytest.mark.parametrize("kind", [Scaled, Later])
@pytest.mark.parametrize("decompose", [False, True])
def test_a_bias_that_is_no_linear_layers(tmp_path, kind, decompose):
    torch.manual_seed(4)
    model, x = nn.Sequential(kind(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval(), torch.randn(5, 6, 4)
    found = built(export(model, (x[:2],), tmp_path / "m.pt2", decompose=decompose))
    assert torch.allclose(found(x), model(x), atol=1e-6)
    assert {name for name, _ in found.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert {site.layer for site in survey_weights(found).sites} == {"2"}


@pytest.mark.parametrize("decompose", [False, True])
def test_tokens_tied_weights_masks_and_several_answers(tmp_path, decompose):
    torch.manual_seed(2)
    model = Several().eval()
    tokens = torch.randint(0, 11, (7, 5))
    path = export(model, (tokens[:3],), tmp_path / "m.pt2", decompose=decompose)
    found = built(path)
    assert torch.allclose(found(tokens), model(tokens)["logits"], atol=1e-6)
    assert found.head.weight is found.embed.weight
    assert (type(found.embed).__name__, type(found.head).__name__) == ("Embedding", "Linear")
    assert found.places.dtype == torch.int64
    # rounded as in nn.MultiheadAttention, under the same name
    assert "encoder.self_attn.in_proj" in {site.layer for site in survey_weights(found).sites}
    assert {site.layer for site in survey_weights(found).sites} == {site.layer for site in survey_weights(model).sites}
    assert "It answers with 2 values (logits, states): 'logits' is measured." in open_checkpoint(path).notes
    assert sum(p.numel() for p in found.parameters()) == sum(p.numel() for p in model.parameters())


def test_what_was_exported_in_training_mode_is_measured_in_evaluation_mode(tmp_path, images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(),
                          nn.Linear(108, 4)).train()  # fmt: skip
    model(images)  # running statistics that are not the usual ones
    found = built(export(model, (images[:2],), tmp_path / "m.pt2"))
    mean = found.get_submodule("1").running_mean.clone()
    assert torch.allclose(found(images), model.eval()(images), atol=1e-6)
    assert torch.equal(found.get_submodule("1").running_mean, mean)


def test_a_copy_and_another_precision(tmp_path):
    torch.manual_seed(3)
    model = Several().eval()
    tokens = torch.randint(0, 11, (4, 5))
    found = copy.deepcopy(built(export(model, (tokens[:2],), tmp_path / "m.pt2")))
    assert found.head.weight is found.embed.weight
    answer = found.double()(tokens)
    assert answer.dtype == torch.float64
    assert torch.allclose(answer, model.double()(tokens)["logits"].double(), atol=1e-6)


def test_half_precision_is_measured_in_float32(tmp_path, images):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 3)).half()
    found = built(export(model, (images[:2].half(),), tmp_path / "m.pt2"))
    assert {parameter.dtype for parameter in found.parameters()} == {torch.float32}
    assert torch.allclose(found(images), model.float()(images), atol=1e-6)


def test_a_single_layer_has_a_name(tmp_path):
    model = nn.Linear(4, 2)
    x = torch.randn(3, 4)
    found = built(export(model, (x[:2],), tmp_path / "m.pt2"))
    assert torch.equal(found(x), model(x))
    assert [site.layer for site in survey_weights(found).sites] == ["model"]


def test_a_layer_that_is_called_twice_with_other_settings(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            return F.conv2d(self.conv(self.conv(x)), self.conv.weight, self.conv.bias, stride=2)

    model = Twice()
    x = torch.randn(3, 2, 9, 9)
    found = built(export(model, (x[:2],), tmp_path / "m.pt2"))
    assert torch.allclose(found(x), model(x), atol=1e-6)
    assert [name for name, _ in found.named_parameters()] == ["conv.weight", "conv.bias"]


def test_the_inspection_says_that_no_architecture_is_needed(tmp_path, images):
    path = export(example("digits-cnn"), (images[:2],), tmp_path / "m.pt2")
    found = inspect_file(path)
    assert found.format == "torch-export"
    assert [(match.architecture, match.fits) for match in found.architectures] == [(FROM_FILE, True)]
    assert any("brings its own network" in note for note in found.notes)
    assert any("sample inputs were not opened" in note for note in found.notes)
    assert found.parameters == sum(parameter.numel() for parameter in example("digits-cnn").parameters())


def test_its_tensors_can_be_given_to_an_architecture(tmp_path, images):
    checkpoint = open_checkpoint(export(example("digits-cnn"), (images[:2],), tmp_path / "m.pt2"))
    model = build_model(checkpoint, choose_architecture(checkpoint, "digits-cnn"))
    assert torch.equal(model(images), example("digits-cnn")(images))
    with pytest.raises(ArchitectureError):
        choose_architecture(checkpoint, "digits-mlp")


def test_only_a_file_with_a_network_is_its_own_architecture(state, tmp_path):
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(ArchitectureError) as caught:
        choose_architecture(open_checkpoint(tmp_path / "m.pt"), FROM_FILE)
    assert "brings no network" in caught.value.message


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_fixed_number_of_rows_is_opened(tmp_path, name, images, rows):
    model = example(name)
    path = export(model, (images[:rows],), tmp_path / "m.pt2", dynamic=False)
    found = built(path)
    assert torch.allclose(found(images), model(images), atol=1e-5)
    assert any(f"exported for a batch of {rows}" in note for note in open_checkpoint(path).notes)


@pytest.mark.parametrize("rows", [1, 2])
def test_attention_with_its_axes_turned_is_opened(tmp_path, rows):
    torch.manual_seed(5)
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Flatten(), nn.Linear(40, 3)).eval()
    x = torch.randn(5, 5, 8)
    found = built(export(model, (x[:rows],), tmp_path / "m.pt2", dynamic=False))
    assert torch.allclose(found(x), model(x), atol=1e-5)


def test_rows_that_are_mixed_are_refused(tmp_path):
    class Mixes(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(x - x.mean(0))

    path = export(Mixes(), (torch.randn(2, 4),), tmp_path / "m.pt2", dynamic=False)
    with pytest.raises(CheckpointError) as caught:
        built(path)
    assert caught.value.code == "fixed_batch"
    assert "depends on the rows beside it" in caught.value.message


def test_a_fixed_number_that_cannot_be_opened_names_its_node(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(torch.cat([x, torch.ones(3, 4)], 1).view(3, 2, 4).sum(1))

    path = export(Fixed(), (torch.randn(3, 4),), tmp_path / "m.pt2", dynamic=False)
    with pytest.raises(CheckpointError) as caught:
        built(path)
    assert caught.value.code == "fixed_batch"
    assert "cat" in caught.value.details["node"]
    assert "dynamic_shapes" in caught.value.hint


@pytest.mark.parametrize("file", ["state_dict.pt", "model.safetensors", "model.pt2"])
def test_mnist_lenet_in_its_files(assets, file):
    folder = assets / "models" / "mnist_lenet_bn"
    first = built(folder / "state_dict.pt")
    rows = torch.rand(8, 1, 28, 28)
    assert torch.allclose(built(folder / file)(rows), first(rows), atol=1e-6)


def test_mnist_lenet_as_torchscript_is_refused(assets):
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(assets / "models" / "mnist_lenet_bn" / "model_torchscript.pt")
    assert caught.value.code == "torchscript"


def test_torchs_own_warnings_are_none_of_the_users(tmp_path, images):
    path = export(example("digits-mlp"), (images[:2],), tmp_path / "m.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built(path)(images)
