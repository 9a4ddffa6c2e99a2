"""Which weights share a scale: every layout against the layer's own arithmetic."""

import pytest
import torch
from torch import nn

from quant_lens_engine.filters import ROWS, FilterLayout, filter_layouts, layout_of
from quant_lens_engine.landscape import filter_normalized
from quant_lens_engine.quantization import quantize


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(5, 7),
        nn.Conv1d(4, 6, 3, groups=2),
        nn.Conv2d(3, 5, (2, 3)),
        nn.Conv3d(2, 3, 2),
        nn.ConvTranspose1d(4, 6, 3),
        nn.ConvTranspose1d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(6, 3, 2, groups=3),
        nn.ConvTranspose3d(2, 4, 2, groups=2),
    ],
    ids=repr,
)
def test_a_filter_is_what_makes_one_output_channel(layer: nn.Module) -> None:
    """Zeroing filter o silences output channel o and no other."""
    layout = layout_of(layer, "weight")
    layer.bias = None
    weight = layer.weight.detach().clone()
    rows = layout.rows(weight)
    size = {nn.Linear: (5,)}.get(type(layer), (getattr(layer, "in_channels", 0),) + (6,) * (weight.dim() - 2))
    x = torch.randn(3, *size)
    reference = layer(x)
    assert len(rows) == reference.shape[1]
    for channel in range(len(rows)):
        silenced = rows.clone()
        silenced[channel] = 0
        with torch.no_grad():
            layer.weight.copy_(layout.restore(silenced, weight.shape))
        changed = layer(x) != reference
        assert layer(x)[:, channel].abs().max() == 0
        others = [other for other in range(len(rows)) if other != channel]
        assert not changed[:, others].any()
    with torch.no_grad():
        layer.weight.copy_(weight)


@pytest.mark.parametrize("layout", [ROWS, FilterLayout(1), FilterLayout(2), FilterLayout(4)])
@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 5), (4, 3, 2, 2), (8, 1, 2, 3, 2)])
def test_restore_is_the_inverse_of_rows(layout: FilterLayout, shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape)
    rows = layout.rows(tensor)
    assert torch.equal(layout.restore(rows, tensor.shape), tensor)
    assert rows.dim() == 2


def test_tied_parameters_are_named_once() -> None:
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    model[1].weight = model[0].weight
    assert list(filter_layouts(model)) == [name for name, _ in model.named_parameters()] == ["0.weight"]


def test_a_scale_and_a_direction_mean_the_same_slices() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Linear(5, 2))
    point = {name: parameter.detach() for name, parameter in model.named_parameters()}
    scaled = filter_normalized({name: torch.randn_like(value) for name, value in point.items()}, point, model)
    for item in quantize(model, "int8").layers:
        layout = filter_layouts(model)[item.parameter]
        lengths = layout.rows(point[item.parameter]).norm(dim=1)
        torch.testing.assert_close(layout.rows(scaled[item.parameter]).norm(dim=1).float(), lengths)
    assert all(not scaled[name].any() for name, value in point.items() if value.dim() < 2)
