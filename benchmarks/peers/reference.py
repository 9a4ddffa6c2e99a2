"""What is true, by other means than those that are compared: plain autograd, LAPACK, ARPACK."""

from __future__ import annotations

import copy
import hashlib
import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.nn import functional as F

from benchmarks.peers.workloads import Workload

ENDS = 5
KEPT = Path(__file__).parents[2] / "build" / "peers"


class Truth(NamedTuple):
    """The spectrum of a workload's Hessian, or its ends.

    Attributes:
        largest: descending.
        smallest: ascending.
        spectrum: all of it, ascending; None where it is too large.
        trace: exact; None where the spectrum is.
        layers: the trace of each layer's block.
    """

    largest: np.ndarray
    smallest: np.ndarray
    spectrum: np.ndarray | None = None
    trace: float | None = None
    layers: dict[str, float] | None = None

    def error_of(self, values: np.ndarray, largest: bool = True) -> float:
        """The largest relative error; near zero a hundredth of the spectrum's magnitude stands in."""
        exact = (self.largest if largest else self.smallest)[: len(values)]
        magnitude = max(abs(self.largest[0]), abs(self.smallest[0]))
        return float(np.max(np.abs(np.asarray(values) - exact) / np.maximum(np.abs(exact), 0.01 * magnitude)))

    def wasserstein(self, nodes: np.ndarray, weights: np.ndarray) -> float:
        """W₁ of a quadrature to the exact spectrum, in units of the largest eigenvalue."""
        from scipy.stats import wasserstein_distance

        assert self.spectrum is not None
        distance = wasserstein_distance(self.spectrum, nodes, v_weights=np.maximum(weights, 0.0))
        return float(distance) / float(self.largest[0])


def truth_of(workload: Workload) -> Truth:
    """What is true of this model on this sample, kept in ``build/peers`` between runs: it takes minutes."""
    digest = hashlib.sha256()
    for tensor in (*workload.model.state_dict().values(), *(part for batch in workload.batches for part in batch)):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    kept = KEPT / f"{workload.name}-{digest.hexdigest()[:16]}.pickle"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(_found(workload)))
    found: Truth = pickle.loads(kept.read_bytes())
    return found


def _found(workload: Workload) -> Truth:
    """By LAPACK where the matrix fits, else by ARPACK to 1e-5 (its residuals; eigenvalues are nearer)."""
    if workload.quick:
        matrix = dense(workload)
        spectrum = np.linalg.eigvalsh(matrix.numpy())
        layers = workload.layer_sums(matrix.diagonal())
        return Truth(spectrum[::-1][:ENDS], spectrum[:ENDS], spectrum, float(matrix.trace()), layers)
    precise = torch.float32 if workload.dimension == 269722 else torch.float64  # graphs in float64 would fill 4 GiB
    product = KeptGraphs(workload, precise)
    operator = LinearOperator((workload.dimension,) * 2, product, dtype=np.float64)
    start = np.random.default_rng(7).standard_normal(workload.dimension)
    values = np.sort(eigsh(operator, k=2 * ENDS, which="BE", tol=1e-5, ncv=40, v0=start, return_eigenvectors=False))
    return Truth(values[::-1][:ENDS], values[:ENDS])


class KeptGraphs:
    """v ↦ Hv for SciPy: double backward through graphs that are kept."""

    def __init__(self, workload: Workload, dtype: torch.dtype) -> None:
        self._model = copy.deepcopy(workload.model).to(dtype)
        self._dtype = dtype
        self._parameters = list(self._model.parameters())
        rows = sum(len(y) for _, y in workload.batches)
        self._gradients = [self._gradient(batch, rows) for batch in workload.batches]
        self.products = 0

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """Flat, float64."""
        self.products += 1
        sizes = [parameter.numel() for parameter in self._parameters]
        pieces = torch.from_numpy(np.ascontiguousarray(vector.reshape(-1))).to(self._dtype).split(sizes)
        directions = [piece.view_as(p) for piece, p in zip(pieces, self._parameters, strict=True)]
        total = np.zeros(sum(sizes))
        for gradient in self._gradients:
            parts = torch.autograd.grad(gradient, self._parameters, directions, retain_graph=True)
            total += torch.cat([part.reshape(-1) for part in parts]).double().numpy()
        return total

    def _gradient(self, batch: tuple[torch.Tensor, torch.Tensor], rows: int) -> tuple[torch.Tensor, ...]:
        x, y = batch
        loss = F.cross_entropy(self._model(x.to(self._dtype)), y, reduction="sum") / rows
        return torch.autograd.grad(loss, self._parameters, create_graph=True)


def dense(workload: Workload, chunk: int = 128) -> torch.Tensor:
    """The whole Hessian in float64, row by row."""
    model = copy.deepcopy(workload.model).double()
    parameters = list(model.parameters())
    x, y = workload.whole[0]
    loss = F.cross_entropy(model(x.double()), y)
    flat = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, parameters, create_graph=True)])
    rows = []
    for units in torch.eye(len(flat), dtype=torch.float64).split(chunk):
        parts = torch.autograd.grad(flat, parameters, units, is_grads_batched=True, retain_graph=True)
        rows.append(torch.cat([part.reshape(len(units), -1) for part in parts], 1))
    return torch.cat(rows)
