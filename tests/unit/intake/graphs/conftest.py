"""Files that bring their own network, and the models that they were made from."""

from __future__ import annotations

import json
import zipfile

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import build_model, choose_architecture, example_path, open_checkpoint


def built(path):
    """The model of a file, by the way a run takes."""
    checkpoint = open_checkpoint(path)
    return build_model(checkpoint, choose_architecture(checkpoint, "auto"))


def refused(path, code):
    """The file is refused with ``code``, with a hint, and without a path of this machine."""
    with pytest.raises(CheckpointError) as caught:
        built(path)
    assert caught.value.code == code, caught.value.message
    assert caught.value.hint
    assert str(path.parent) not in caught.value.message + caught.value.hint
    return caught.value


def example(name):
    return built(example_path(name))


def export(model, inputs, path, *, dynamic=True, decompose=False):
    """``model.pt2`` as its owner would write it."""
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    program = torch.export.export(model, inputs, dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if decompose else program, path)
    return path


def rewritten(path, change):
    """The archive with each member's bytes given through ``change(name, bytes)``; None leaves it out."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            new = change(name, content)
            if new is not None:
                archive.writestr(zipfile.ZipInfo(name), new)
    return path


def with_graph(path, change):
    """The archive with its graph's JSON changed in place."""

    def edit(name, content):
        if not name.endswith("models/model.json"):
            return content
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph).encode()

    return rewritten(path, edit)


def added(path, name, content):
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return path


def curved(model, x):
    """Output, gradient and Hessian times gradient of a scalar of the output, over all parameters in their order."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with sdpa_kernel(SDPBackend.MATH):
        output = model(x)
    loss = torch.nn.functional.softplus(output.flatten(1)).pow(2).mean()
    gradient = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    used = [(found, parameter) for found, parameter in zip(gradient, parameters, strict=True) if found is not None]
    product = sum((found * found.detach()).sum() for found, _ in used)
    curvature = torch.autograd.grad(product, [parameter for _, parameter in used], allow_unused=True)
    return output.detach(), sum(float(found.detach().pow(2).sum()) for found, _ in used), sum(
        float(found.detach().pow(2).sum()) for found in curvature if found is not None
    )  # fmt: skip


@pytest.fixture
def images():
    return torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
