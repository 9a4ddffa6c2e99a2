"""Drift of running statistics against known shifts and scales; re-estimation against training mode."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.diagnosis.batchnorm_drift import ChannelMoments, measure_batchnorm
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import Progress
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema import BatchNormDrift, BatchNormOptions

ROWS = 45


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 2, 6, 6, generator=generator).double()
    return x, (x[:, 0].mean((1, 2)) > 0).long()


def batches(size: int = 20) -> list[tuple[Tensor, Tensor]]:
    x, y = images()
    return list(zip(x.split(size), y.split(size), strict=True))


def network(*, eps: float = 1e-5) -> nn.Sequential:
    """Two normalisations whose running statistics are those of the data, as training with a single batch leaves them
    (biased)."""
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4, eps=eps), nn.ReLU(), nn.Conv2d(4, 3, 3),
        nn.BatchNorm2d(3, eps=eps), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(48, 2),
    ).double()  # fmt: skip
    fill_statistics(model, images()[0])
    return model


def fill_statistics(model: nn.Sequential, x: Tensor) -> None:
    """Statistics of all rows, layer by layer."""
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                axes = [axis for axis in range(x.dim()) if axis != 1]
                layer.running_mean.copy_(x.mean(axes))
                layer.running_var.copy_(x.var(axes, correction=0))
            x = layer.eval()(x)


def drift_of(model: nn.Module, size: int = 20, **options) -> BatchNormDrift:
    return measure_batchnorm(Objective(model, batches(size)), options=BatchNormOptions(**options))


def test_statistics_of_pieces_are_those_of_the_whole() -> None:
    values = 100 + torch.randn(50, 3, 7, dtype=torch.float64)
    pieces = ChannelMoments()
    for piece in values.split([1, 30, 19]):
        pieces.add(piece)
    torch.testing.assert_close(pieces.mean, values.mean((0, 2)), rtol=1e-14, atol=0)
    torch.testing.assert_close(pieces.variance, values.var((0, 2), correction=0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [45, 20, 1])
def test_where_running_statistics_are_the_datas_there_is_no_drift_and_no_effect(size: int) -> None:
    found = drift_of(network(), size)
    assert [layer.name for layer in found.layers] == ["1", "4"]
    for layer in found.layers:
        assert layer.mean_shift_worst == pytest.approx(0, abs=1e-12)
        assert (layer.variance_ratio, layer.variance_ratio_max) == pytest.approx((1, 1), abs=1e-12)
    assert found.reestimation is not None
    assert found.reestimation.delta_loss == pytest.approx(0, abs=1e-12)
    assert found.reestimation.delta_accuracy == 0
    assert (found.reestimation.layers, found.reestimation.rows, found.reestimation.overlap) == (2, ROWS, True)


def test_a_known_shift_and_scale_are_found_exactly() -> None:
    model = network(eps=0.0)
    norm = model[1]
    true_std = norm.running_var.sqrt()
    norm.running_var.mul_(torch.tensor([4.0, 0.25, 1.0, 1.0]).double())
    shifts = torch.tensor([0.0, 0.5, -3.0, 0.0]).double()
    norm.running_mean.sub_(shifts * norm.running_var.sqrt())
    found = drift_of(model).layers[0]
    assert found.mean_shift_rms == pytest.approx(math.sqrt((0.25 + 9) / 4), rel=1e-12)
    assert (found.mean_shift_worst, found.worst_channel) == (pytest.approx(3.0, rel=1e-12), 2)
    assert found.variance_ratio_min == pytest.approx(0.25, rel=1e-12)
    assert found.variance_ratio_max == pytest.approx(4.0, rel=1e-12)
    assert found.variance_ratio == pytest.approx(1.0, rel=1e-12), "4 and 1/4 are as far from 1"
    assert true_std.min() > 0


@pytest.mark.parametrize("size", [45, 11])
def test_re_estimation_recovers_the_loss_of_the_true_statistics(size: int) -> None:
    right, wrong = network(), network()
    for layer in (wrong[1], wrong[4]):
        layer.running_mean.add_(2.0)
        layer.running_var.mul_(9.0)
    found = drift_of(wrong, size).reestimation
    true_loss = Objective(right, batches()).loss()
    assert found is not None
    assert found.loss_after == pytest.approx(true_loss, rel=1e-10)
    assert found.loss_before == pytest.approx(Objective(wrong, batches()).loss(), rel=1e-12)
    assert found.delta_loss == pytest.approx(found.loss_after - found.loss_before)  # type: ignore[operator]
    assert found.delta_loss_standard_error is not None
    assert found.delta_loss_standard_error > 0


@pytest.mark.parametrize("scheme", ["int3", "w4a8-dynamic"])
def test_re_estimation_is_training_mode_with_all_rows_in_one_batch(scheme: str) -> None:
    objective = Objective(network(), batches(7))
    variant = quantize(objective.model, scheme, objective)
    found = measure_batchnorm(variant.live(objective)).reestimation
    assert found is not None
    whole = variant.live(objective.regrouped(ROWS))
    trained = copy.deepcopy(whole)
    for layer in trained.model:
        layer.train(isinstance(layer, nn.BatchNorm2d))
    assert found.loss_after == pytest.approx(trained.loss(), rel=1e-9)
    assert found.loss_after != pytest.approx(found.loss_before, rel=1e-5)


def test_rows_of_their_own_and_how_many() -> None:
    model = network()
    model[1].running_mean.add_(1.0)
    objective = Objective(model, batches())
    other = objective.over([(images()[0].flip(0)[:30], images()[1][:30])])
    found = measure_batchnorm(objective, other, overlap=False, options=BatchNormOptions(rows=12)).reestimation
    assert found is not None
    assert (found.rows, found.overlap) == (12, False)
    again = measure_batchnorm(objective, other, overlap=False, options=BatchNormOptions(rows=30)).reestimation
    assert again is not None
    assert again.loss_after != found.loss_after
    assert measure_batchnorm(objective, options=BatchNormOptions(reestimate=False)).reestimation is None


def test_batches_do_not_matter() -> None:
    model = network().float()
    model[4].running_var.mul_(3.0)
    model[1].running_mean[2], model[4].running_mean[1] = 1.0, -1.0
    x, y = images()
    whole, parts = (
        measure_batchnorm(Objective(model, [(x.float(), y)], micro_batch=size)).model_dump() for size in (None, 4)
    )
    pairs = [(whole["reestimation"], parts["reestimation"]), *zip(whole["layers"], parts["layers"], strict=True)]
    for one, other in pairs:
        assert one.keys() == other.keys()
        for key in one.keys() - {"reason", "name", "kind"}:
            assert other[key] == pytest.approx(one[key], rel=1e-5, abs=1e-6), key


@pytest.mark.parametrize(
    ("model", "shape", "kind"),
    [
        (nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), (5,), "BatchNorm1d"),
        (nn.Sequential(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(16, 2)), (1, 3, 3, 3),
         "BatchNorm3d"),
        (nn.Sequential(nn.Conv2d(1, 2, 2), nn.SyncBatchNorm(2), nn.Flatten(), nn.Linear(8, 2)), (1, 3, 3),
         "SyncBatchNorm"),
        (nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.Flatten(), nn.Linear(12, 2)), (4, 3), "BatchNorm1d"),
    ],
)  # fmt: skip
def test_every_kind_of_batch_normalisation(model: nn.Module, shape: tuple[int, ...], kind: str) -> None:
    rows = torch.randn(6, *shape, generator=torch.Generator().manual_seed(1))
    found = measure_batchnorm(Objective(model, [(rows, torch.arange(6) % 2)]))
    (layer,) = found.layers
    assert layer.kind == kind
    assert layer.mean_shift_rms is not None
    assert found.reestimation is not None
    assert found.reestimation.loss_after is not None


class Twice(nn.Module):
    """A normalisation that runs twice, one that never does, one without running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.unused = nn.BatchNorm1d(4)
        self.own = nn.BatchNorm1d(4, track_running_stats=False)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.own(self.norm(self.norm(x) + 5)))


def test_layers_that_run_twice_or_never_or_keep_nothing() -> None:
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    found = measure_batchnorm(Objective(Twice(), [(rows, torch.arange(10) % 2)]))
    reasons = {layer.name: layer.reason for layer in found.layers}
    assert reasons["norm"] is None
    assert "not called" in str(reasons["unused"])
    assert "no running statistics" in str(reasons["own"])
    assert found.layers[0].mean_shift_worst == pytest.approx(2.5, abs=0.7), "both calls count: means near 0 and 5"
    assert found.reestimation is not None
    assert found.reestimation.layers == 1


def test_a_model_without_batch_normalisation_says_so() -> None:
    x, y = images()
    found = measure_batchnorm(Objective(nn.Sequential(nn.Flatten(), nn.Linear(72, 2)).double(), [(x, y)]))
    assert (found.layers, found.reestimation) == ([], None)
    assert found.reason == "the model has no batch normalisation"


def test_the_model_comes_back_untouched_even_from_the_middle() -> None:
    model = network()
    model[1].running_mean.add_(1.0)
    objective = Objective(model, batches())
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}

    class Stops(Progress):
        def report(self, stage: str, done: int, total: int, note: str = "") -> None:
            if "re-estimating 4" in note:
                raise KeyboardInterrupt

        def check_cancelled(self) -> None:
            pass

    with pytest.raises(KeyboardInterrupt):
        measure_batchnorm(objective, progress=Stops())
    measure_batchnorm(objective)
    after = objective.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_pre_hooks for module in objective.model.modules())
    assert not any(module.training for module in objective.model.modules())
