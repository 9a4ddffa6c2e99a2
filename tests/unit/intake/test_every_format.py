"""One network in every file that it can come in: the same loss, the same largest eigenvalue, the same layers."""

from __future__ import annotations

import json
import zipfile

import pytest
import safetensors.torch
import torch

from quant_lens_engine.curvature import top_eigenvalues
from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import (
    ARCHITECTURES,
    EXAMPLE_MODELS,
    build_model,
    choose_architecture,
    open_checkpoint,
    read_arrays,
    select_rows,
)
from quant_lens_engine.intake.datasets.digits import digits_split
from quant_lens_engine.quantization.layers import survey_weights
from quant_lens_engine.schema import Transform
from tests.unit.intake.graphs.conftest import built, example, export
from tests.unit.intake.graphs.test_onnx_files import exported

pytestmark = pytest.mark.slow

LOSS_TOLERANCE, EIGENVALUE_TOLERANCE = 1e-6, 1e-4


# ---- the files


def as_safetensors(model, x, folder):
    safetensors.torch.save_file(model.state_dict(), folder / "m.safetensors")
    return folder / "m.safetensors"


def as_shards(model, x, folder):
    """Two files and an index, as save_pretrained writes large models."""
    state = model.state_dict()
    names = list(state)
    index = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        safetensors.torch.save_file({name: state[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return folder


def as_zipped_shards(model, x, folder):
    inner = folder / "shards"
    inner.mkdir()
    as_shards(model, x, inner)
    with zipfile.ZipFile(folder / "m.zip", "w") as archive:
        for file in sorted(inner.iterdir()):
            archive.write(file, file.name)
    return folder / "m.zip"


def as_state_dict(model, x, folder):
    torch.save(model.state_dict(), folder / "m.pt")
    return folder / "m.pt"


def as_legacy_state_dict(model, x, folder):
    torch.save(model.state_dict(), folder / "m.pth", _use_new_zipfile_serialization=False)
    return folder / "m.pth"


def as_training_checkpoint(model, x, folder):
    """A compiled DataParallel with its optimizer, and an average with other weights."""
    optimizer = torch.optim.AdamW(model.parameters())
    state = {f"module._orig_mod.{name}": tensor for name, tensor in model.state_dict().items()}
    average = {name: tensor * 0.9 for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "model": state, "ema": average, "optimizer": optimizer.state_dict()}, folder / "m.ckpt")
    return folder / "m.ckpt"


def as_export(model, x, folder):
    return export(model, (x[:2],), folder / "m.pt2")


def as_onnx(model, x, folder):
    """By the exporter that takes a second; today's, which takes ten, is compared in graphs/test_onnx_files.py."""
    return exported(model, x[:2], folder / "m.onnx", 17, dynamo=False)


STATE_FORMS = (
    as_safetensors,
    as_shards,
    as_zipped_shards,
    as_state_dict,
    as_legacy_state_dict,
    as_training_checkpoint,
)
GRAPH_FORMS = as_export, as_onnx


# ---- what is measured


def measured(model, rows):
    """Loss on the rows, and λmax of its Hessian."""
    images, labels = rows
    criterion = torch.nn.CrossEntropyLoss()
    with torch.no_grad():
        loss = float(criterion(model(images), labels))
    return loss, float(top_eigenvalues(model, [rows], criterion, k=1, tol=1e-5, seed=0).values[0])


def assert_the_same(path, architecture, model, rows, wanted):
    """Loss, λmax, and the layers that can be quantized under the names that their owner gave."""
    checkpoint = open_checkpoint(path)
    graph = checkpoint.network is not None
    found = build_model(checkpoint, choose_architecture(checkpoint, "auto" if graph else architecture))
    loss, largest = measured(found, rows)
    assert loss == pytest.approx(wanted[0], abs=LOSS_TOLERANCE), path.name
    assert largest == pytest.approx(wanted[1], rel=EIGENVALUE_TOLERANCE), path.name
    layers, others = ({(site.layer, site.kind) for site in survey_weights(one).sites} for one in (found, model))
    assert layers == others, path.name


def trained_a_little(model, rows):
    """Batch statistics and weights that are not those of a fresh network, whose curvature means little."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(rows[0]), rows[1]).backward()
        optimizer.step()
    return model.eval()


def digits(count=64):
    held_out = digits_split()[1]
    return torch.from_numpy(held_out.x[:count]), torch.from_numpy(held_out.y[:count])


@pytest.fixture(scope="module", params=[*EXAMPLE_MODELS, "mlp", "lenet-bn", "resnet"])
def case(request):
    """Architecture, model, rows, and what is measured of them: the examples, and one of each built-in family."""
    name = request.param
    rows = digits()
    if name in EXAMPLE_MODELS:
        model = example(name)
    else:
        torch.manual_seed(0)
        model = trained_a_little(ARCHITECTURES[name].build(SHAPES[name]), rows)
    return name, model, rows, measured(model, rows)


def _convolution(name, out, into, size=3):
    keys = ("weight", "bias", "running_mean", "running_var")
    norm = {f"{name.replace('conv', 'bn')}.{key}": (out,) for key in keys}
    return {f"{name}.weight": (out, into, size, size)} | norm


SHAPES = {
    "mlp": {"0.weight": (16, 64), "0.bias": (16,), "2.weight": (10, 16), "2.bias": (10,)},
    "lenet-bn": {
        "features.0.weight": (4, 1, 3, 3), "features.4.weight": (6, 4, 3, 3), "classifier.1.weight": (12, 6),
        "classifier.3.weight": (12, 12), "classifier.5.weight": (10, 12),
    },
    # a CIFAR ResNet-8: three stages of one block
    "resnet": _convolution("conv1", 4, 1) | _convolution("layer1.0.conv1", 4, 4) | _convolution("layer1.0.conv2", 4, 4)
    | _convolution("layer2.0.conv1", 8, 4) | _convolution("layer2.0.conv2", 8, 8)
    | _convolution("layer3.0.conv1", 16, 8) | _convolution("layer3.0.conv2", 16, 16)
    | {"linear.weight": (10, 16), "linear.bias": (10,)},
}  # fmt: skip


@pytest.mark.parametrize("write", STATE_FORMS + GRAPH_FORMS, ids=lambda write: write.__name__)
def test_every_file_of_a_network_measures_the_same(case, tmp_path, write):
    name, model, rows, wanted = case
    assert_the_same(write(model, rows[0], tmp_path), name, model, rows, wanted)


def test_another_part_of_the_training_checkpoint_is_another_network(tmp_path):
    """The comparison above would not see a reader that always takes the same tensors."""
    rows = digits()
    model = example("digits-mlp")
    path = as_training_checkpoint(model, rows[0], tmp_path)
    checkpoint = open_checkpoint(path, part="ema")
    loss, _ = measured(build_model(checkpoint, choose_architecture(checkpoint, "digits-mlp")), rows)
    assert abs(loss - measured(model, rows)[0]) > 1e-3


# ---- public checkpoints


def public_rows(assets, data, layout, mean, std, count=32):
    _, arrays = read_arrays(assets / "data" / data / "data.npz", "data.npz")
    transform = Transform(layout=layout, scale=1 / 255, mean=mean, std=std)
    rows = select_rows(arrays, transform, limit=count, seed=0, task="classification")
    return torch.from_numpy(rows.x), torch.from_numpy(rows.y)


def test_mnist_lenet_in_its_four_files(assets):
    folder = assets / "models" / "mnist_lenet_bn"
    rows = public_rows(assets, "mnist_test10k", "NHW", (0.1307,), (0.3081,))
    model = built(folder / "state_dict.pt")
    wanted = measured(model, rows)
    for file in ("state_dict.pt", "model.safetensors", "model.pt2"):
        assert_the_same(folder / file, "auto", model, rows, wanted)
    with pytest.raises(CheckpointError) as caught:  # a program: refused with the way to bring the same network
        open_checkpoint(folder / "model_torchscript.pt")
    assert caught.value.code == "torchscript"
    assert "torch.export" in caught.value.hint


@pytest.mark.slow
def test_cifar_resnet20_in_every_file(assets, tmp_path):
    path = assets / "models" / "cifar10_resnet20" / "resnet20-12fca82f.th"
    rows = public_rows(assets, "cifar10_test1k", "NHWC", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 4)
    model = built(path)
    wanted = measured(model, rows)
    for write in (as_state_dict, as_safetensors, as_export, as_onnx):
        folder = tmp_path / write.__name__
        folder.mkdir()
        assert_the_same(write(model, rows[0], folder), "auto", model, rows, wanted)
