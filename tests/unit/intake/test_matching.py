"""Which architecture fits, and how it is said where none does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import ArchitectureError
from quant_lens_engine.intake import (
    ARCHITECTURES,
    EXAMPLE_MODELS,
    architecture,
    build_model,
    choose_architecture,
    example_path,
    match_architecture,
    open_checkpoint,
    rank_architectures,
)
from quant_lens_engine.intake.graphs.refusals import EXPORT_CALL


@pytest.fixture
def checkpoint(tmp_path):
    def make(tensors):
        torch.save(dict(tensors), tmp_path / "m.pt")
        return open_checkpoint(tmp_path / "m.pt")

    return make


@pytest.fixture
def registered():
    """Register families for one test."""
    names = []

    def register(name, build):
        architecture(name)(build)
        names.append(name)

    yield register
    for name in names:
        ARCHITECTURES.discard(name)


# torchvision and timm build nothing without the library: test_model_libraries.py
@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"torchvision", "timm"}))
def test_every_family_fits_what_it_builds_and_only_that(name):
    """Conformance: a family's own state dict is matched by it alone, meta device and CPU alike."""
    own = {"0.weight": (5, 3), "0.bias": (5,), "2.weight": (2, 5), "2.bias": (2,)} if name == "mlp" else {}
    model = ARCHITECTURES[name].build(own)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    fitting = [match.architecture for match in rank_architectures(shapes) if match.fits]
    assert fitting == [name]
    assert ARCHITECTURES[name].description


@pytest.mark.parametrize("name", EXAMPLE_MODELS)
def test_examples_are_matched_by_keys(name):
    assert choose_architecture(open_checkpoint(example_path(name)), "auto").name == name


def test_widths_are_read_from_the_shapes(checkpoint):
    wide = ARCHITECTURES["digits-cnn"].build(
        {"conv1.weight": (12, 3, 3, 3), "conv2.weight": (20, 12, 3, 3), "classifier.weight": (7, 320)}
    )
    found = checkpoint(wide.state_dict())
    built = build_model(found, choose_architecture(found, "auto"))
    assert built(torch.zeros(2, 3, 8, 8)).shape == (2, 7)


def test_the_built_model_computes_what_the_saved_one_did(checkpoint):
    torch.manual_seed(0)
    for name in EXAMPLE_MODELS:
        model = ARCHITECTURES[name].build({}).eval()
        found = checkpoint(model.state_dict())
        x = torch.randn(3, 1, 8, 8)
        with torch.no_grad():
            assert torch.equal(build_model(found, ARCHITECTURES[name])(x), model(x))


def test_building_leaves_the_callers_random_numbers_alone(checkpoint):
    found = checkpoint(ARCHITECTURES["digits-mlp"].build({}).state_dict())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_model(found, choose_architecture(found, "auto"))
    assert torch.equal(torch.rand(3), expected)


def test_half_precision_is_computed_in_float32(checkpoint):
    state = {key: value.half() for key, value in ARCHITECTURES["digits-mlp"].build({}).state_dict().items()}
    built = build_model(checkpoint(state), ARCHITECTURES["digits-mlp"])
    assert {parameter.dtype for parameter in built.parameters()} == {torch.float32}


def test_a_missing_counter_is_tolerated_and_another_missing_buffer_is_not(checkpoint):
    state = ARCHITECTURES["digits-cnn"].build({}).state_dict()
    old = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    assert choose_architecture(checkpoint(old), "auto").name == "digits-cnn"
    assert build_model(checkpoint(old), ARCHITECTURES["digits-cnn"])(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    del old["norm1.running_var"]
    with pytest.raises(ArchitectureError):
        choose_architecture(checkpoint(old), "digits-cnn")


def test_a_wrong_architecture_is_told_key_by_key(checkpoint):
    state = ARCHITECTURES["digits-mlp"].build({}).state_dict()
    state["hidden2.weight"] = torch.zeros(32, 31)
    state["extra"] = torch.zeros(2)
    del state["classifier.bias"]
    with pytest.raises(ArchitectureError) as caught:
        choose_architecture(checkpoint(state), "digits-mlp")
    error = caught.value
    assert error.code == "architecture_mismatch"
    assert "hidden2.weight is [32, 31], wanted [32, 32]" in error.message
    listed = {(item["key"], item["kind"]) for item in error.details["match"]["differences"]}
    assert listed == {("hidden2.weight", "shape"), ("classifier.bias", "missing"), ("extra", "unexpected")}


def test_the_one_that_would_fit_is_named(checkpoint):
    state = ARCHITECTURES["digits-mlp"].build({}).state_dict()
    with pytest.raises(ArchitectureError) as caught:
        choose_architecture(checkpoint(state), "digits-cnn")
    assert caught.value.hint == "these keys fit digits-mlp"


def test_none_fits(checkpoint):
    state = ARCHITECTURES["digits-cnn"].build({}).state_dict() | {"head.weight": torch.zeros(3)}
    with pytest.raises(ArchitectureError, match="nearest is digits-cnn: 14 of 14 keys match, 1 unexpected") as caught:
        choose_architecture(checkpoint(state), "auto")
    assert caught.value.code == "no_architecture"
    assert EXPORT_CALL in caught.value.hint
    assert caught.value.details["candidates"][0]["architecture"] == "digits-cnn"
    assert "plug-in" in caught.value.hint


def test_an_unknown_name():
    with pytest.raises(ArchitectureError, match="unknown architecture 'vgg'") as caught:
        choose_architecture(open_checkpoint(example_path("digits-mlp")), "vgg")
    assert caught.value.code == "unknown_architecture"
    assert "digits-mlp" in caught.value.hint


def test_two_that_fit_are_not_chosen_between(checkpoint, registered):
    for name in ("twin-a", "twin-b"):
        registered(name, lambda tensors: nn.Bilinear(2, 3, 4))
    with pytest.raises(ArchitectureError, match="twin-a, twin-b") as caught:
        choose_architecture(checkpoint(nn.Bilinear(2, 3, 4).state_dict()), "auto")
    assert caught.value.code == "ambiguous_architecture"
    assert choose_architecture(checkpoint(nn.Bilinear(2, 3, 4).state_dict()), "twin-b").name == "twin-b"


def test_a_family_that_breaks_is_no_match_and_no_crash(registered):
    def build(tensors):
        raise ZeroDivisionError("oh")

    registered("broken", build)
    match = next(match for match in rank_architectures({"a": (1,)}) if match.architecture == "broken")
    assert not match.fits
    assert match.problem == "ZeroDivisionError: oh"


def test_options_reach_the_family(checkpoint):
    found = checkpoint(ARCHITECTURES["digits-transformer"].build({}).state_dict())
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        two = build_model(found, ARCHITECTURES["digits-transformer"], {"heads": 2})(x)
        four = build_model(found, ARCHITECTURES["digits-transformer"])(x)
    assert not torch.allclose(two, four)
    assert not match_architecture(ARCHITECTURES["digits-transformer"], found.shapes, {"hands": 2}).fits


@pytest.mark.parametrize("prefix", ["", "net.", "model.layers."])
def test_the_mlp_family(checkpoint, prefix):
    torch.manual_seed(0)
    stack = nn.Sequential(
        nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 5, bias=False), nn.Tanh(), nn.Dropout(), nn.Linear(5, 3)
    )
    found = checkpoint({prefix + key: value for key, value in stack.state_dict().items()})
    chosen = choose_architecture(found, "auto")
    assert chosen.name == "mlp"
    x = torch.randn(4, 12)
    with torch.no_grad():
        built = build_model(found, chosen, {"activation": "tanh"})
        assert torch.allclose(built(x), stack.eval()(x))
        assert torch.allclose(built(x.view(4, 1, 3, 4)), stack(x))


@pytest.mark.slow
def test_public_checkpoints_reach_their_published_accuracy(assets):
    from pathlib import Path

    from quant_lens_engine.intake import load_plugins, read_arrays, select_rows
    from quant_lens_engine.schema import Transform

    load_plugins(Path(__file__).parents[3] / "examples" / "plugins")
    cases = [
        ("models/cifar10_resnet20/resnet20-12fca82f.th", "data/cifar10_test1k/data.npz", 0.915,
         {"layout": "NHWC", "scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
        ("models/mnist_lenet_bn/model.safetensors", "data/mnist_test10k/data.npz", 0.9922,
         {"layout": "NHW", "scale": 1 / 255, "mean": (0.1307,), "std": (0.3081,)}),
    ]  # fmt: skip
    for model, data, accuracy, transform in cases:
        found = open_checkpoint(assets / model)
        built = build_model(found, choose_architecture(found, "auto"))
        _, arrays = read_arrays(assets / data, "data.npz")
        rows = select_rows(arrays, Transform(**transform), limit=None, seed=0, task="classification")
        with torch.no_grad():
            right = sum(
                int((built(torch.from_numpy(x)).argmax(1).numpy() == y).sum())
                for x, y in zip(np_split(rows.x), np_split(rows.y), strict=True)
            )
        assert right / len(rows.y) == pytest.approx(accuracy, abs=1e-9)


def np_split(array):
    return [array[first : first + 500] for first in range(0, len(array), 500)]


class Tied(nn.Module):
    """A tiny language model whose head is its embedding; with a buffer of positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.lm_head = nn.Linear(3, 7, bias=False)
        self.lm_head.weight = self.embed.weight
        self.register_buffer("position_ids", torch.arange(5))

    def forward(self, x):
        return self.lm_head(self.embed(x))


def test_of_tied_weights_one_name_is_enough(checkpoint, registered):
    registered("tied", lambda tensors: Tied())
    model = Tied().eval()
    state = dict(model.state_dict())
    for left_out in ("embed.weight", "lm_head.weight"):
        found = checkpoint({key: value for key, value in state.items() if key != left_out})
        (match,) = [match for match in rank_architectures(found.shapes, found.integers) if match.fits]
        assert match.notes == ["embed.weight and lm_head.weight are one tensor."]
        built = build_model(found, choose_architecture(found, "auto"))
        assert built.embed.weight is built.lm_head.weight
        assert torch.equal(built.embed.weight, model.embed.weight)
    found = checkpoint(state | {"lm_head.weight": state["lm_head.weight"] + 1})
    with pytest.raises(ArchitectureError, match=r"embed\.weight and lm_head\.weight differ") as caught:
        build_model(found, choose_architecture(found, "auto"))
    assert caught.value.code == "tied_weights_differ"
    assert build_model(checkpoint(state), ARCHITECTURES["tied"]) is not None


def test_buffers_of_whole_numbers_may_be_on_one_side_only(checkpoint, registered):
    registered("tied", lambda tensors: Tied())
    state = dict(Tied().state_dict())
    without = checkpoint({key: value for key, value in state.items() if key != "position_ids"})
    match = match_architecture(ARCHITECTURES["tied"], without.shapes, None, without.integers)
    assert match.fits
    assert match.notes == ["position_ids: not in the file: the architecture's own are used."]
    assert build_model(without, ARCHITECTURES["tied"]).position_ids.tolist() == [0, 1, 2, 3, 4]
    more = checkpoint(state | {"encoder.token_type_ids": torch.zeros(9, dtype=torch.int64)})
    match = match_architecture(ARCHITECTURES["tied"], more.shapes, None, more.integers)
    assert match.fits
    assert match.notes == ["encoder.token_type_ids: whole numbers that the architecture does not read."]
    floating = checkpoint(state | {"encoder.scale": torch.zeros(9)})
    assert not match_architecture(ARCHITECTURES["tied"], floating.shapes, None, floating.integers).fits
