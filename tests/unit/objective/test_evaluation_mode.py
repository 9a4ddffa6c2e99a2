"""``eval()`` for the time being, exported graphs included."""

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.objective.evaluation_mode import evaluation_mode, is_exported


class Trained(nn.Module):
    """Everything whose operator is told whether it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.rnn = nn.LSTM(4, 4, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.norm(self.rnn(x[:, None])[0][:, -1]))


def exported(model: nn.Module, x: Tensor) -> nn.Module:
    return torch.export.export(model, (x,), strict=False).module()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def test_a_graph_written_down_in_training_answers_as_in_evaluation(x: Tensor) -> None:
    torch.manual_seed(0)
    model = Trained().train()
    with torch.no_grad():
        model.norm.running_mean.normal_()
    graph = exported(model, x)
    assert is_exported(graph)
    before, code = {key: value.clone() for key, value in graph.state_dict().items()}, graph.code
    with torch.no_grad(), evaluation_mode(graph):
        answer = graph(x)
    torch.testing.assert_close(answer, model.eval()(x).detach())
    assert graph.code == code
    assert all(torch.equal(value, before[key]) for key, value in graph.state_dict().items())
    assert not torch.equal(graph(x), graph(x))  # it trains again: it drops out


def test_the_mode_comes_back_after_an_exception(x: Tensor) -> None:
    graph = exported(Trained().train(), x)
    outer, code = nn.Sequential(graph, nn.Dropout()), graph.code
    modes = [module.training for module in outer.modules()]
    seen = []

    def fail() -> None:
        with evaluation_mode(outer):
            seen.append((any(module.training for module in outer.modules()), graph.code == code))
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert seen == [(False, False)]
    assert [module.training for module in outer.modules()] == modes
    assert graph.code == code


def test_a_graph_that_does_not_train_is_left_alone(x: Tensor) -> None:
    graph = exported(Trained().eval(), x)
    code = graph.code
    with evaluation_mode(graph):
        assert graph.code == code
    assert graph.training


def test_a_plain_network_is_told_as_usual() -> None:
    class Told(nn.Module):
        def train(self, mode: bool = True) -> "Told":
            self.told = mode
            return super().train(mode)

    model = Told()
    with evaluation_mode(model):
        assert not model.training
        assert model.told is False
    assert model.training
