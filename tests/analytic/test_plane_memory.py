"""A piece of a plane, whole: directions, range, marks and rows, in copies of the parameters."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from quant_lens_engine.landscape_measurement import LandscapeMeasurement
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import QuantizedVariant, float_variant, quantize
from quant_lens_engine.schema import FLOAT_VARIANT, LineOptions, PlaneOptions, PlanePart, planned_planes
from quant_lens_engine.schema.landscape import Landscape
from tests.analytic.tensor_meter import TensorMeter

LAYERS, WIDE = 16, 64


def plain() -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDE, WIDE) for _ in range(LAYERS)))


def normalised() -> nn.Module:
    """Every layer is folded, and its weight laid out channels last."""
    layers = [(nn.Conv2d(WIDE // 2, WIDE // 2, 2, padding="same", bias=False), nn.BatchNorm2d(WIDE // 2))
              for _ in range(LAYERS)]  # fmt: skip
    return nn.Sequential(*(layer for pair in layers for layer in pair), nn.Flatten(), nn.Linear(2 * WIDE, 3))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (plain, (1, WIDE)), "normalised": (normalised, (2, WIDE // 2, 2, 2))
}  # fmt: skip


JOINED, DRAWN, STEEPEST = ("to:int8", "to:int4"), ("random:1", "random:2"), ("gradient", "random-layer:1")
AXES, PLACE, GRADIENT = 2.0, 1.0, 2.0
"""Copies. The gradient is in float64, and stands beside the axes while they are made, when there is no place yet."""


def measured(
    network: str, pair: tuple[str, str], variant: str, landscape: Landscape
) -> tuple[float, float, float]:  # fmt: skip
    """Beyond model and variant, in copies of the parameters: the peak of a first piece, what is held after it, and how
    much the largest tensor is in float64."""
    torch.manual_seed(0)
    make, shape = NETWORKS[network]
    objective = Objective(make().eval(), [(torch.randn(shape), torch.zeros(shape[0], dtype=torch.long))])
    objective.loss()

    def variant_of(name: str) -> QuantizedVariant:
        return float_variant(objective.model) if name == FLOAT_VARIANT else quantize(objective.model, name)

    distance = None if network == "plain" and pair == DRAWN else 0.2  # None: the range is looked for
    options = PlaneOptions(steps=5, distance=distance, pairs=(pair,), variants=(variant,), landscapes=(landscape,))
    measurement = LandscapeMeasurement(
        objective, LineOptions(), options, point_of=lambda name: variant_of(name).point
    )  # fmt: skip
    own = variant_of(variant)
    (plane,) = planned_planes(options, ["int8", "int4"])
    known = [*objective.point.values(), *objective.model.buffers(), *own.point.values()]
    with TensorMeter(known) as meter:
        payload = measurement.piece(own, plane, PlanePart(0, 0), [FLOAT_VARIANT, "int8", "int4"], "plane")
    assert len(payload.plane.points) == 3
    assert ("folded" in payload.plane.method) == (network == "normalised" and landscape == "smooth")
    copy = sum(tensor.nbytes for tensor in objective.point.values())
    largest = max(tensor.numel() for tensor in objective.point.values())
    return meter.peak / copy, meter.now / copy, 8 * largest / copy


@pytest.mark.parametrize(
    ("network", "pair", "variant", "landscape", "copies"),
    [
        ("plain", JOINED, FLOAT_VARIANT, "smooth", AXES + PLACE),
        ("plain", DRAWN, FLOAT_VARIANT, "smooth", AXES + PLACE),
        ("plain", DRAWN, "int8", "deployed", AXES + PLACE + PLACE),
        ("plain", STEEPEST, FLOAT_VARIANT, "smooth", AXES + GRADIENT),
        ("normalised", JOINED, FLOAT_VARIANT, "smooth", AXES + PLACE),
        ("normalised", DRAWN, "int8", "smooth", AXES + PLACE),
    ],
)
def test_a_piece_takes_its_axes_and_one_more_copy(
    network: str, pair: tuple[str, str], variant: str, landscape: Landscape, copies: float
) -> None:
    """And a handful of tensors in float64, of which the largest counts; the axes stay, and factors of folding."""
    peak, after, tensor = measured(network, pair, variant, landscape)
    assert copies <= peak < copies + 6 * tensor
    assert after == pytest.approx(AXES, abs=0.05)
