"""Hessian products of attention against finite differences of the gradient; fused kernels are switched off."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine.curvature import HessianOperator, measure_curvature
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import quantize
from quant_lens_engine.schema import parse_recipe
from quant_lens_engine.schema.analyses import CurvatureOptions

Batches = list[tuple[Tensor, Tensor]]


class RowAttention(nn.Module):
    """Each image row is a token."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.encoder = encoder
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(x.squeeze(1))).mean(1))


class Sdpa(nn.Module):
    """Attention by the fused function itself."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        return nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def encoders() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    return {"encoder layer": nn.TransformerEncoder(layer, 2, enable_nested_tensor=True), "sdpa": Sdpa()}


def gradient(objective: Objective, flat: Tensor, batches: Batches) -> Tensor:
    """∇L over all rows in one batch, by ordinary torch."""
    leaf = flat.clone().requires_grad_()
    shapes = [objective.point[name].shape for name in objective.free]
    pieces = torch.split(leaf, [shape.numel() for shape in shapes])
    point = {name: piece.view(shape) for name, piece, shape in zip(objective.free, pieces, shapes, strict=True)}
    x, y = (torch.cat(column) for column in zip(*batches, strict=True))
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        loss = nn.functional.cross_entropy(functional_call(objective.model, point, (x.double(),)), y)
    return torch.autograd.grad(loss, leaf)[0]


@pytest.mark.parametrize("kind", ["encoder layer", "sdpa"])
def test_products_are_finite_differences_of_the_gradient(kind: str, digits_batches: Batches) -> None:
    batches = digits_batches[-2:]
    objective = Objective(RowAttention(encoders()[kind]), batches, dtype="float64")
    operator = HessianOperator(objective)
    flat = torch.cat([objective.point[name].reshape(-1) for name in objective.free])
    for seed in range(3):
        vector = torch.randn(len(flat), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        vector /= vector.norm()
        step = 1e-6  # a larger one crosses kinks of the ReLU
        difference = (
            gradient(objective, flat + step * vector, batches) - gradient(objective, flat - step * vector, batches)
        ) / (2 * step)
        product = operator.matvec(vector)
        assert float((product - difference).norm() / product.norm()) < 1e-5
    assert operator.attention == "math"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder layer", "sdpa"])
def test_measured_ends_are_eigenvalues_of_the_differences(kind: str, digits_batches: Batches) -> None:
    """λmax and λmin of a trained-size transformer in single precision, checked by gradients alone."""
    batches = digits_batches[-2:]
    model = RowAttention(encoders()[kind])
    measured = measure_curvature(Objective(model, batches), CurvatureOptions(trace_probes=64))
    assert measured.converged, measured.reason
    assert measured.attention == "math"
    objective = Objective(model, batches, dtype="float64")
    flat = torch.cat([objective.point[name].reshape(-1) for name in objective.free])

    def product(vector: np.ndarray) -> np.ndarray:
        step = 1e-6 * torch.from_numpy(vector).flatten()
        return ((gradient(objective, flat + step, batches) - gradient(objective, flat - step, batches)) / 2e-6).numpy()

    # ARPACK on differences of gradients: independent of our Lanczos, and of second derivatives.
    differences = LinearOperator((len(flat), len(flat)), matvec=product, dtype=np.float64)
    largest = eigsh(differences, k=1, which="LA", tol=1e-6, return_eigenvectors=False)[0]
    smallest = eigsh(differences, k=1, which="SA", tol=1e-6, return_eigenvectors=False)[0]
    assert measured.lambda_max.value == pytest.approx(largest, rel=1e-3)
    assert measured.lambda_min.value == pytest.approx(smallest, rel=1e-3)


def test_without_attention_none_is_recorded(digits_mlp: nn.Module, digits_batches: Batches) -> None:
    options = CurvatureOptions(trace_probes=2, max_products=2)
    assert measure_curvature(Objective(digits_mlp, digits_batches[:1]), options).attention is None


def test_global_switches_come_back(digits_batches: Batches) -> None:
    objective = Objective(RowAttention(encoders()["encoder layer"]), digits_batches[:1])
    before = torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()
    with torch.no_grad():
        HessianOperator(objective).matvec(torch.ones(objective.dimension, dtype=torch.float64))
    assert (torch.backends.mha.get_fastpath_enabled(), torch.is_grad_enabled()) == before


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


class Forgetful(torch.autograd.Function):
    """Its backward forgets what its gradient depends on: double backward goes through, and is wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.detach() * ctx.saved_tensors[0].exp()


class Custom(nn.Module):
    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.operation = nn.Linear(3, 4), nn.Linear(4, 2), operation

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.operation(torch.tanh(self.first(x))))


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "a custom autograd function": OnceDifferentiable.apply,
    "_cdist_backward": lambda hidden: torch.cdist(hidden, torch.eye(4).to(hidden)),
}


@pytest.mark.parametrize("operator", OPERATIONS)
@pytest.mark.parametrize(("dtype", "accuracy"), [("float64", 1e-7), ("float32", 2e-3)])
def test_a_missing_second_derivative_is_named_and_differences_are_taken(
    operator: str, dtype: str, accuracy: float
) -> None:
    """Against the same network written with operators that have one."""
    twins: dict[str, Callable[[Tensor], Tensor]] = {
        "a custom autograd function": lambda hidden: hidden * 2,
        "_cdist_backward": lambda hidden: (hidden[:, None] - torch.eye(4).to(hidden)).square().sum(-1).sqrt(),
    }
    torch.manual_seed(0)
    model = Custom(lambda hidden: OPERATIONS[operator](hidden))
    twin = copy.deepcopy(model)
    twin.operation = twins[operator]
    measured, exact = (
        measure_curvature(Objective(network, few_rows(), dtype=kind), CurvatureOptions(tolerance=1e-3))
        for network, kind in ((model, dtype), (twin, "float64"))
    )
    assert (measured.derivative, measured.without_second_derivative) == ("finite-difference", operator)
    assert (exact.derivative, exact.without_second_derivative) == ("exact", None)
    assert measured.lambda_max.value == pytest.approx(exact.lambda_max.value, rel=accuracy)
    assert measured.trace.value == pytest.approx(exact.trace.value, rel=accuracy)


def test_differences_never_go_through_rounded_activations() -> None:
    torch.manual_seed(0)
    objective = Objective(Custom(OnceDifferentiable.apply), few_rows())
    variant = quantize(objective.model, parse_recipe("w8a8-dynamic"), objective)
    measured = measure_curvature(variant.live(objective))
    assert measured.lambda_max.value is None
    assert "activation rounding" in (measured.reason or "")


def test_a_hidden_derivative_shows_as_asymmetry() -> None:
    torch.manual_seed(0)
    measured = measure_curvature(Objective(Custom(Forgetful.apply), few_rows()))
    assert not measured.converged
    assert "hides its derivative" in (measured.reason or "")


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_have_their_hessian(layer: type[nn.RNNBase]) -> None:
    class LastState(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = layer(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.recurrent(x)[0][:, -1]

    torch.manual_seed(0)
    objective = Objective(LastState(), [(torch.randn(6, 5, 3), torch.tensor([0, 1, 2, 3, 0, 1]))], dtype="float64")
    flat = torch.cat([objective.point[name].reshape(-1) for name in objective.free])
    vector = torch.randn(len(flat), dtype=torch.float64)
    product = HessianOperator(objective).matvec(vector)
    batches = [(batch.content[0], batch.target) for batch in objective.sample.batches]
    difference = gradient(objective, flat + 1e-5 * vector, batches) - gradient(objective, flat - 1e-5 * vector, batches)
    assert torch.allclose(product, difference / 2e-5, rtol=1e-5, atol=1e-7)


def few_rows() -> Batches:
    return [(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1]))]
