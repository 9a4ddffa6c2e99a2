"""The objective: one function of the parameters, exact over ragged batches, that leaves the caller's model alone."""

import copy
import math
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.errors import CheckpointError, DataError, DeviceError, InputError, SpecError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.sample import Sample


def rows(count: int = 23, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=source), torch.randint(0, 3, (count,), generator=source)


def ragged(x: Any, y: Any, size: int = 8) -> list[tuple[Any, Any]]:
    return [(x[start : start + size], y[start : start + size]) for start in range(0, len(x), size)]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=torch.tensor([0.1, 2.0, 7.0])),
        nn.CrossEntropyLoss(weight=torch.tensor([0.1, 2.0, 7.0]), label_smoothing=0.1),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.MultiMarginLoss(),
        F.cross_entropy,
        lambda output, target: F.cross_entropy(output, target),
        lambda output, target: F.cross_entropy(output, target, reduction="none"),
    ],
)
@pytest.mark.parametrize("micro_batch", [None, 5, 100])
def test_the_loss_is_that_of_all_rows_at_once(criterion: Any, micro_batch: int | None) -> None:
    x, y = rows()
    model = network().eval()
    objective = Objective(model, ragged(x, y), criterion, micro_batch=micro_batch)
    whole = float(criterion(model(x), y).mean().detach())
    assert objective.loss() == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(
    "criterion", [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss(), nn.HuberLoss(), nn.MSELoss(reduction="sum")]
)
def test_regression_losses(criterion: nn.Module) -> None:
    x, _ = rows()
    y = torch.randn(23, 3, generator=torch.Generator().manual_seed(1))
    model = network().eval()
    objective = Objective(model, ragged(x, y), criterion, task="regression")
    assert objective.loss() == pytest.approx(float(criterion(model(x), y).detach()), rel=1e-6)
    assert objective.measure().accuracy is None


def test_the_callers_model_is_untouched() -> None:
    model = network().train()
    model[0].eval()
    model[4].weight.requires_grad_(False)
    model(rows()[0]).sum().backward()
    before = copy.deepcopy(model.state_dict())
    gradient = model[0].weight.grad.clone()
    objective = Objective(model, ragged(*rows()))
    objective.at({"0.weight": torch.zeros(6, 4)}).loss()
    objective.measure(rowwise=True)
    assert [module.training for module in model.modules()] == [True, False, True, True, True, True]
    assert torch.equal(model[0].weight.grad, gradient)
    assert not model[4].weight.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    objective.model[0].weight.data.zero_()
    assert model[0].weight.any(), "the objective's copy shares no memory with it"


def test_an_exception_leaves_the_model_and_the_switches_as_they_were() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("broken")

    model = Broken().train()
    before = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(DataError, match="broken"):
        Objective(model, ragged(*rows())).loss()
    with pytest.raises(DataError, match="broken"):
        Objective(network(), ragged(*rows())).measure(own_model=model)
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert torch.is_grad_enabled()


def test_a_shuffling_loader_is_read_once() -> None:
    x, y = rows(40)

    class Shuffling:
        reads = 0

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            self.reads += 1
            yield from ragged(x[order := torch.randperm(40)], y[order])

    loader = Shuffling()
    objective = Objective(network(), loader)
    assert objective.loss() == objective.loss()
    assert loader.reads == 1


def test_equal_points_are_equal_functions() -> None:
    objective = Objective(network(), ragged(*rows()))
    moved = objective.at({"0.weight": objective.point["0.weight"] * 2})
    assert moved.loss() == objective.loss(moved.point)
    assert moved.loss() != objective.loss()
    assert moved.at(objective.point).loss() == objective.loss()


@pytest.mark.parametrize("point", [{"0.weight": torch.zeros(1)}, {"nothing": torch.zeros(1)}])
def test_a_point_must_fit(point: dict[str, Tensor]) -> None:
    with pytest.raises(InputError) as caught:
        Objective(network(), ragged(*rows())).at(point)
    assert caught.value.code == "wrong_point"


def test_free_parameters() -> None:
    model = network()
    model[0].requires_grad_(False)
    assert Objective(model, ragged(*rows())).free == ("1.weight", "1.bias", "4.weight", "4.bias")
    model.requires_grad_(False)
    assert len(Objective(model, ragged(*rows())).free) == 6, "a frozen model is measured whole"


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, features: Tensor, scale: Tensor | None = None) -> Any:
        logits = self.linear(features)
        return UserDict(logits=logits if scale is None else logits * scale[:, None])


def test_batches_in_every_shape() -> None:
    x, y = rows()
    model = Named()
    expected = Objective(model, [(x, y)]).loss()
    ones = torch.ones(len(x))
    forms: dict[str, list[Any]] = {
        "dict": [{"features": x[:9], "labels": y[:9]}, {"features": x[9:], "labels": y[9:]}],
        "mapping": [UserDict(features=x, labels=y)],
        "other name": [{"image": x, "y": y}],
        "two inputs": [(x, ones, y)],
        "two named inputs": [{"features": x, "scale": ones, "label": y}],
        "list": [[x, y]],
        "numpy": [(x.numpy(), y.numpy())],
        "inputs as a dict": [({"features": x}, y)],
    }
    for name, batches in forms.items():
        assert Objective(model, batches, micro_batch=7).loss() == pytest.approx(expected, rel=1e-6), name


def test_a_forward_of_ones_own() -> None:
    x, y = rows()
    model = nn.Linear(4, 3)
    batches = [{"pixels": x, "extra": torch.zeros(len(x), 2), "labels": y}]
    objective = Objective(model, batches, forward=lambda module, batch: module(batch["pixels"]))
    assert objective.loss() == Objective(model, [(x, y)]).loss()


def test_padded_batches_of_unequal_length() -> None:
    """Sequences of other lengths cannot be joined; their rows still can be regrouped and divided."""
    model = nn.Linear(4, 3)
    lengths = [(5, 7), (3, 4), (8, 2)]
    batches = [(torch.randn(count, steps, 4), torch.randint(0, 3, (count, steps))) for count, steps in lengths]

    def scores(module: nn.Module, batch: Any) -> Tensor:
        return module(batch[0]).transpose(1, 2)

    whole = sum(float(F.cross_entropy(scores(model, b), b[1], reduction="sum").detach()) for b in batches) / (
        35 + 12 + 16
    )
    objective = Objective(model, batches, forward=scores, micro_batch=2)
    assert objective.loss() == pytest.approx(whole, rel=1e-6)
    halves = torch.arange(16).split(8)
    parts = [objective.select(half).measure() for half in halves]
    total = sum(float(part.losses.sum()) for part in parts) / sum(float(part.weights.sum()) for part in parts)
    assert total == pytest.approx(whole, rel=1e-6)


def test_selected_rows_are_those_rows() -> None:
    x, y = rows()
    model = network().eval()
    chosen = torch.tensor([2, 3, 11, 17, 22])
    part = Objective(model, ragged(x, y)).select(chosen)
    assert part.samples == 5
    assert part.loss() == pytest.approx(float(F.cross_entropy(model(x[chosen]), y[chosen]).detach()), rel=1e-6)


def test_double_precision_on_request() -> None:
    x, y = rows()
    model = network().eval()
    objective = Objective(model, ragged(x, y), nn.CrossEntropyLoss(weight=torch.ones(3)), dtype="float64")
    assert objective.loss() == pytest.approx(
        float(F.cross_entropy(copy.deepcopy(model).double()(x.double()), y)), rel=1e-12
    )
    assert next(model.parameters()).dtype == torch.float32


def test_a_half_precision_model_keeps_its_dtype() -> None:
    x, y = rows()
    model = network().eval().bfloat16()
    objective = Objective(model, ragged(x.bfloat16(), y))
    assert objective.point["0.weight"].dtype == torch.bfloat16
    assert math.isfinite(objective.loss())


def test_old_style_weight_norm_can_be_copied() -> None:
    with pytest.warns(FutureWarning):
        layer = nn.utils.weight_norm(nn.Linear(4, 3))
    layer(rows()[0]).sum().backward()
    objective = Objective(layer, ragged(*rows()))
    assert set(objective.point) == {"bias", "weight_g", "weight_v"}
    assert objective.at({"weight_g": objective.point["weight_g"] * 0}).loss() != objective.loss()


def test_language_tasks_count_tokens() -> None:
    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(11, 6), nn.Linear(6, 11)

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.head(self.embedding(input_ids))

    model, ids = Language(), torch.randint(0, 11, (6, 9), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :4], labels[0] = -100, -100
    batches = [{"input_ids": ids[:4], "labels": labels[:4]}, {"input_ids": ids[4:], "labels": labels[4:]}]
    logits = model(ids).detach()
    causal, masked = (Objective(model, batches, task=task) for task in ("causal-lm", "masked-lm"))
    assert causal.loss() == pytest.approx(float(F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())))
    assert masked.loss() == pytest.approx(float(F.cross_entropy(logits.flatten(0, 1), labels.flatten())))
    rights = (logits.argmax(-1) == labels).sum() / (labels != -100).sum()
    assert masked.measure().accuracy.value == pytest.approx(float(rights))


@pytest.mark.parametrize(
    ("batches", "code"),
    [
        ([], "empty_data"),
        ([(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))], "empty_data"),
        ([("text", "more")], "bad_batch"),
        ([(torch.full((2, 4), math.nan), torch.tensor([0, 1]))], "non_finite_data"),
        ([(torch.zeros(2, 4), torch.tensor([0, 3]))], "label_out_of_range"),
        ([(torch.zeros(2, 4), torch.tensor([0, -1]))], "label_out_of_range"),
        ([(torch.zeros(2, 4), torch.tensor([[0], [1]]))], "wrong_shape"),
        ([(torch.zeros(2, 5), torch.tensor([0, 1]))], "wrong_shape"),
        ([(torch.zeros(2, 4), torch.tensor([0.5, 1.5]))], "wrong_target"),
        ([torch.zeros(2, 4)], "bad_data"),
    ],
)
def test_bad_data_is_named(batches: list[Any], code: str) -> None:
    with pytest.raises(DataError) as caught:
        Objective(network(), batches).loss()
    assert caught.value.code == code
    assert caught.value.hint or code == "bad_data"


def test_targets_of_a_regression_are_not_broadcast() -> None:
    with pytest.raises(DataError) as caught:
        Objective(nn.Linear(4, 1), [(torch.zeros(5, 4), torch.zeros(5))], task="regression").loss()
    assert caught.value.code == "wrong_shape"


def test_non_finite_weights_are_named() -> None:
    model = network()
    with torch.no_grad():
        model[4].weight[0, 0] = math.inf
        model[1].running_var[0] = math.nan
    with pytest.raises(CheckpointError) as caught:
        Objective(model, ragged(*rows()))
    assert caught.value.code == "non_finite_weights"
    assert caught.value.details["tensors"] == ["4.weight", "1.running_var"]


def test_devices_tasks_and_criteria_that_are_not_there() -> None:
    with pytest.raises(DeviceError):
        Objective(network(), ragged(*rows()), device="cuda:63")
    with pytest.raises(DeviceError):
        Objective(network(), ragged(*rows()), device="abacus")
    with pytest.raises(SpecError, match="poetry"):
        Objective(network(), ragged(*rows()), task="poetry")
    with pytest.raises(InputError) as caught:
        Objective(network(), ragged(*rows()), lambda output, _: output.sum(0)).loss()
    assert caught.value.code == "bad_criterion"


def test_a_model_that_cannot_be_copied() -> None:
    model = network()
    model.lock = __import__("threading").Lock()
    with pytest.raises(InputError) as caught:
        Objective(model, ragged(*rows()))
    assert caught.value.code == "model_not_copyable"


def test_a_sample_is_shared() -> None:
    sample = Sample.read(ragged(*rows()))
    one, two = (Objective(network(), sample) for _ in range(2))
    assert one.sample is two.sample
    assert one.loss() == two.loss()


@pytest.mark.gpu
def test_cuda_gives_the_same_loss() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    loss, on_gpu = (Objective(network(), ragged(*rows()), device=device).loss() for device in ("cpu", "cuda"))
    assert np.isclose(loss, on_gpu, rtol=1e-5)


class Centred(nn.Module):
    """Writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        return self.layer(x)


def test_a_model_that_works_in_place_changes_no_data() -> None:
    x, y = rows()
    before, model = x.clone(), Centred()
    objective = Objective(model, ragged(x, y))
    expected = F.cross_entropy(model.layer(x - 0.5), y).item()
    assert [objective.loss(), objective.loss()] == pytest.approx([expected] * 2, rel=1e-6)
    operator = HessianOperator(objective, "reuse")
    vector = torch.ones(objective.dimension, dtype=torch.float64)
    assert torch.equal(operator.matvec(vector), operator.matvec(vector))
    assert torch.equal(x, before)


def test_a_loader_may_fill_one_buffer_again_and_again() -> None:
    x, y = rows(24)

    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        buffer = torch.empty(8, 4)
        for start in range(0, 24, 8):
            yield buffer.copy_(x[start : start + 8]), y[start : start + 8]

    assert Objective(network(), loader()).loss() == Objective(network(), ragged(x, y)).loss()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_of_any_whole_type(dtype: torch.dtype) -> None:
    x, y = rows()
    assert Objective(network(), ragged(x, y.to(dtype))).loss() == Objective(network(), ragged(x, y)).loss()


def test_where_every_label_is_ignored_there_is_no_loss() -> None:
    x, y = rows()
    ignored = Objective(network(), ragged(x, torch.full_like(y, -100)))
    for ask in (ignored.loss, lambda: HessianOperator(ignored).matvec(torch.ones(ignored.dimension).double())):
        with pytest.raises(DataError) as refused:
            ask()
        assert refused.value.code == "nothing_counts"


def test_a_shard_without_labels_spoils_nothing() -> None:
    x, y = rows(40)
    few = torch.where(torch.arange(40) < 5, y, -100)
    curvature = measure_curvature(Objective(nn.Linear(4, 3), ragged(x, few)))
    assert curvature.lambda_max.residual is not None
    assert curvature.lambda_max.residual < 1e-3
    assert curvature.lambda_max.batch_std is None


def test_models_without_float_parameters_are_refused() -> None:
    with pytest.raises(InputError) as refused:
        Objective(nn.Flatten(), ragged(*rows()))
    assert refused.value.code == "no_parameters"


@pytest.mark.parametrize("device", ["mps", "meta"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(DeviceError):
        Objective(network(), ragged(*rows()), device=device)
