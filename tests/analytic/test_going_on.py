"""A measurement that was stopped goes on from its last products, and comes to the same digits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quant_lens_engine.analysis import analyze
from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.curvature.product_log import LoggedProducts, identity_of
from quant_lens_engine.errors import Cancelled
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import Progress
from quant_lens_engine.schema import Curvature
from quant_lens_engine.schema.analyses import CurvatureOptions

pytestmark = pytest.mark.slow

OPTIONS = CurvatureOptions(sharpness=True, layer_eigenvalues="none")


@pytest.fixture
def objective() -> Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))
    x, y = torch.randn(40, 6), torch.randint(4, (40,))
    return Objective(model, [(x[:16], y[:16]), (x[16:32], y[16:32]), (x[32:], y[32:])])


@pytest.fixture(autouse=True)
def every_product_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoggedProducts.__init__, "__kwdefaults__", {"saved_every_s": 0.0})


class StopsAfter(Progress):
    """Cancels at the n-th micro-batch."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def report(self, stage: str, done: int, total: int, note: str = "") -> None:
        pass

    def check_cancelled(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled("stopped")


def digits(curvature: Curvature) -> dict:
    return curvature.model_dump(exclude={"elapsed_s"})


def count_products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many whole-sample products are really taken, of any operator."""
    taken = [0]
    plain = HessianOperator._whole_products

    def counted(self: HessianOperator, vectors: torch.Tensor) -> torch.Tensor:
        taken[0] += len(vectors)
        return plain(self, vectors)

    monkeypatch.setattr(HessianOperator, "_whole_products", counted)
    return taken


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_it_comes_to_the_same_digits(
    objective: Objective, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    uncut = StopsAfter(10**6)
    whole = measure_curvature(objective, OPTIONS, progress=uncut)
    batches = int(share * (10**6 - uncut.left))  # of three a product at most: several are taken at once
    with pytest.raises(Cancelled):
        measure_curvature(objective, OPTIONS, checkpoint=tmp_path, progress=StopsAfter(batches))
    done = batches // 3
    taken = count_products(monkeypatch)
    resumed = measure_curvature(objective, OPTIONS, checkpoint=tmp_path)
    assert digits(resumed) == digits(whole)
    assert taken[0] <= whole.hvps - done + 17 + 8, "what was known is not taken again (shards come on top)"
    taken[0] = 0
    assert digits(measure_curvature(objective, OPTIONS, checkpoint=tmp_path)) == digits(whole)
    assert taken[0] <= 16, "only the shards"


def test_a_broken_part_is_where_the_log_ends(objective: Objective, tmp_path: Path) -> None:
    whole = measure_curvature(objective, OPTIONS, checkpoint=tmp_path)
    parts = sorted(tmp_path.rglob("*.safetensors"))
    assert len(parts) > 20
    parts[7].write_bytes(parts[7].read_bytes()[:100])
    parts[12].unlink()
    (tmp_path / "exact" / "00000003.4711").write_bytes(b"half a part")
    assert digits(measure_curvature(objective, OPTIONS, checkpoint=tmp_path)) == digits(whole)


def test_a_log_of_another_point_sample_or_weighting_is_not_used(objective: Objective, tmp_path: Path) -> None:
    """Their first vectors are the same: it is the operator that is not."""
    measure_curvature(objective, OPTIONS, checkpoint=tmp_path)
    moved = objective.at({name: 1.1 * tensor for name, tensor in objective.point.items()})
    others = [moved, objective.select(torch.arange(30)), objective.only(["0.weight"])]
    for other in others:
        assert digits(measure_curvature(other, OPTIONS, checkpoint=tmp_path)) == digits(
            measure_curvature(other, OPTIONS)
        )


@pytest.mark.parametrize(
    "changed",
    [
        {"criterion": nn.CrossEntropyLoss(label_smoothing=0.3)},
        {"forward": lambda model, batch: 2 * model(batch[0])},
        {"model": nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))},
    ],
    ids=["criterion", "forward", "network"],
)
def test_a_log_of_another_loss_of_the_same_parameters_is_not_used(changed: dict[str, Any], tmp_path: Path) -> None:
    changed = dict(changed)
    torch.manual_seed(0)
    data = [(torch.randn(40, 6), torch.randint(3, (40,)))]
    plain = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    first, other = Objective(plain, data), changed.pop("model", plain)
    other.load_state_dict(plain.state_dict())
    second = Objective(other, data, **changed)
    measure_curvature(first, OPTIONS, checkpoint=tmp_path)
    assert digits(measure_curvature(second, OPTIONS, checkpoint=tmp_path)) == digits(measure_curvature(second, OPTIONS))


def test_a_folder_that_cannot_be_written_does_no_harm(objective: Objective, tmp_path: Path) -> None:
    (tmp_path / "exact").write_text("a file where the folder would be")
    whole = measure_curvature(objective, OPTIONS)
    assert digits(measure_curvature(objective, OPTIONS, checkpoint=tmp_path)) == digits(whole)


def test_products_with_other_vectors_are_not_taken_for_its_own(objective: Objective, tmp_path: Path) -> None:
    """The log is given up at the first of them, and removed."""
    measure_curvature(objective, OPTIONS, checkpoint=tmp_path)
    vectors = torch.randn(3, objective.dimension, dtype=torch.float64)
    logged = LoggedProducts(HessianOperator(objective), tmp_path / "exact", identity_of(objective))
    assert torch.equal(logged.matmat(vectors), HessianOperator(objective).matmat(vectors))
    assert (logged.products, logged.replayed) == (3, 0)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_attention_is_remembered(tmp_path: Path) -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
    model = nn.Sequential(block, nn.Flatten(), nn.Linear(12, 3))
    objective = Objective(model, [(torch.randn(5, 3, 4), torch.tensor([0, 1, 2, 0, 1]))])
    options = CurvatureOptions(layer_eigenvalues="none", sharpness=False)
    first = measure_curvature(objective, options, checkpoint=tmp_path)
    assert first.attention == "math"
    assert digits(measure_curvature(objective, options, checkpoint=tmp_path)) == digits(first)


def test_an_analysis_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {
        "model": {"example": "digits-mlp"},
        "data": {"example": "digits", "limit": 64},
        "schemes": ["int4"],
        "analyses": {"preset": "quick", "line": {"steps": 3}},
    }
    whole = analyze(spec)
    with pytest.raises(Cancelled):
        analyze(spec, checkpoints=tmp_path, progress=StopsAfter(40))
    assert list(tmp_path.rglob("*.safetensors")), "something was kept"
    taken = count_products(monkeypatch)
    resumed = analyze(spec, checkpoints=tmp_path)
    for one, other in zip(resumed.variants, whole.variants, strict=True):
        assert digits(one.curvature) == digits(other.curvature)
    known = taken[0]
    analyze(spec)
    assert known < taken[0] - known
    assert not list(tmp_path.rglob("*.safetensors")), "a finished stage needs none"
