"""Products that are kept on disk, so that a measurement that was stopped goes on from the last of them.

A measurement is a function of its products: given the first n of them again it comes to the same basis, the same probes
and the same next vector, digit by digit. So they are all that a checkpoint needs, whatever they are used for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from quant_lens_engine.curvature.hessian_products import HessianProducts
from quant_lens_engine.curvature.krylov import product_error, products_with
from quant_lens_engine.curvature.row_groups import SumOperator, terms_of
from quant_lens_engine.curvature.symmetric_operator import NudgedOperator, rounds
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.sample import tensors

SAVED_EVERY_S = 5.0
"""A stop loses the products of so many seconds at most; what takes less in all is never written."""

MOST_BYTES = 2**31
"""What one log may take on disk; later products are computed again."""

_PART_BYTES = 2**26


class LoggedProducts:
    """An operator whose products are read from a folder as long as they are asked for in the same order, and written
    there from then on.

    A product belongs to its vector, by hash, and to its operator, by ``identity``: where another one comes, the log is
    not used but removed. Parts are written beside their names and then renamed, so that a stop in the middle leaves
    whole ones only. A disk that is full, or a folder that cannot be written, ends the log, not the work.

    Args:
        operator: what computes.
        folder: of one operator at a time.
        identity: a text that is another one for every other operator; see :func:`identity_of`.
        saved_every_s: seconds of work that a stop may lose.

    Attributes:
        products: whole-sample products so far, those that were read included.
        replayed: how many of them were read.

    Example:
        >>> import tempfile
        >>> from quant_lens_engine.curvature.operators.hessian import HessianOperator
        >>> from quant_lens_engine.objective import Objective
        >>> data = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1))]
        >>> objective = Objective(torch.nn.Linear(1, 1, bias=False), data, task="regression")
        >>> folder = Path(tempfile.mkdtemp())
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> LoggedProducts(HessianOperator(objective), folder, saved_every_s=0).matvec(one).tolist()
        [10.0]
        >>> again = LoggedProducts(HessianOperator(objective), folder)
        >>> again.matvec(one).tolist(), again.replayed
        ([10.0], 1)
    """

    def __init__(
        self, operator: HessianProducts, folder: Path, identity: str = "", *, saved_every_s: float = SAVED_EVERY_S
    ) -> None:
        self._operator, self._folder, self._identity, self._every_s = operator, folder, identity, saved_every_s
        self.dimension, self.device = operator.dimension, operator.device
        self.products = self.replayed = 0
        self._kept: Iterator[tuple[bytes, Tensor]] | None = self._read()
        self._attention: str | None = None
        self._error = 0.0
        self._saved = 0
        self._stopped = False
        self._waiting: list[tuple[bytes, Tensor]] = []
        self._saved_at = time.monotonic()

    @property
    def attention(self) -> str | None:
        """See :class:`~quant_lens_engine.curvature.hessian_products.HessianProducts`."""
        return self._operator.attention or self._attention

    @property
    def product_error(self) -> float:
        """That of the operator, or of the products that were read."""
        return max(product_error(self._operator), self._error)

    @property
    def weight(self) -> float:
        """Known after the first product that is computed here."""
        return self._operator.weight

    @property
    def lowered(self) -> list[str]:
        """What was given up for want of memory, here."""
        return self._operator.lowered

    def matvec(self, vector: Tensor) -> Tensor:
        """The product, read or computed."""
        return self.matmat(vector[None])[0]

    def matmat(self, vectors: Tensor) -> Tensor:
        """The products with each of ``vectors``."""
        keys = [_hash(vector) for vector in vectors]
        return self._read_or_taken(keys, lambda rows: products_with(self._operator, vectors[rows]))

    @property
    def rounds(self) -> bool:
        """Whether the operator does."""
        return rounds(self._operator)

    def nudged_product(self, vector: Tensor) -> Tensor:
        """The operator's, read or computed."""
        operator = self._operator
        assert isinstance(operator, NudgedOperator)
        key = _hash(vector, b"nudged")
        return self._read_or_taken([key], lambda _: operator.nudged_product(vector)[None])[0]

    @property
    def terms(self) -> int:
        """Those of the operator; 1 where it is no sum."""
        return terms_of(self._operator)

    def sweep(self, vectors: Callable[[int], Tensor]) -> Tensor:
        """The operator's, whose vectors are known by the first term's: the others follow from the same seed."""
        operator = self._sum()
        keys = [_hash(vector, b"sweep") for vector in vectors(0)]
        return self._read_or_taken(keys, lambda rows: operator.sweep(lambda term: vectors(term)[rows]))

    def spreads(self, probes: Tensor, basis: Tensor) -> Tensor:
        """The operator's, kept in the place of one product: a vector that begins with them."""

        def taken(_: list[int]) -> Tensor:
            found = self._sum().spreads(probes, basis)
            return torch.nn.functional.pad(found.to(self.device), (0, self.dimension - len(found)))[None]

        found = self._read_or_taken([_hash(probes, b"spreads")], taken)
        self.products += len(probes) - 1
        return found[0, :3]

    def _sum(self) -> SumOperator:
        if not isinstance(self._operator, SumOperator):
            raise TypeError("the operator is no sum")
        return self._operator

    def _read_or_taken(self, keys: Sequence[bytes], take: Callable[[list[int]], Tensor]) -> Tensor:
        found = [self._replay(key) for key in keys]
        missing = [index for index, product in enumerate(found) if product is None]
        if missing:
            for index, product in zip(missing, take(missing), strict=True):
                found[index] = product
                self._keep(keys[index], product)
        self.products += len(keys)
        return torch.stack([product for product in found if product is not None])

    def release(self) -> None:
        """Forget the graphs."""
        self._operator.release()

    def _replay(self, key: bytes) -> Tensor | None:
        if self._kept is None:
            return None
        found = next(self._kept, None)
        if found is not None and found[0] == key:
            self.replayed += 1
            return found[1].to(self.device)
        self._kept = None
        if found is not None:  # the same steps do not give the same digits here: nothing can go on from this log
            self._stopped = True
            self._remove()
        return None

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            for part in _parts(self._folder):
                part.unlink(missing_ok=True)

    def _keep(self, key: bytes, product: Tensor) -> None:
        size = product.nbytes
        if self._stopped or (self.replayed + self._saved + len(self._waiting) + 1) * size > MOST_BYTES:
            return
        self._waiting.append((key, product.cpu()))
        late = time.monotonic() - self._saved_at >= self._every_s
        if late or len(self._waiting) * size >= _PART_BYTES:
            self._save()

    def _save(self) -> None:
        first = self.replayed + self._saved
        hashes = torch.tensor([list(digest) for digest, _ in self._waiting], dtype=torch.uint8)
        products = torch.stack([product for _, product in self._waiting])
        path = self._folder / f"{first:08d}.safetensors"
        beside = path.with_suffix(f".{os.getpid()}")
        facts = {"attention": self.attention or "", "identity": self._identity, "error": repr(self.product_error)}
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({"hashes": hashes, "products": products}, beside, facts)
            beside.replace(path)
        except (OSError, SafetensorError):
            self._stopped = True
            self._waiting.clear()
            return
        self._saved += len(self._waiting)
        self._waiting.clear()
        self._saved_at = time.monotonic()

    def _read(self) -> Iterator[tuple[bytes, Tensor]]:
        """The products in order, one part in memory at a time, up to the first gap or what is no part."""
        expected = 0
        for path in _parts(self._folder):
            if path.stem != f"{expected:08d}":
                return
            try:
                with safe_open(path, framework="pt") as part:
                    facts = part.metadata() or {}
                    if facts.get("identity", "") != self._identity:
                        self._remove()
                        return
                    hashes, products = part.get_tensor("hashes"), part.get_tensor("products")
                    self._attention = facts.get("attention") or None
                    self._error = max(self._error, float(facts.get("error", "0")))
            except (SafetensorError, OSError):
                return
            if products.dtype != torch.float64 or products.shape[1:] != (self.dimension,) or hashes.shape[1:] != (16,):
                return
            for digest, product in zip(hashes, products, strict=True):
                yield bytes(digest.tolist()), product
            expected += len(products)


def identity_of(objective: Objective) -> str:
    """A hash of what the products depend on: point, sample, targets and weights, the names that are moved, and the
    network and its loss, as far as their texts and the loss at this point tell them apart.

    The loss is rounded: a worker on another machine, whose last digits differ, goes on from the same log.
    """
    ways = (objective.criterion, objective.call.custom_forward, objective.computation)
    names = [getattr(way, "__qualname__", type(way).__qualname__) for way in ways]  # a repr may hold an address
    texts = [objective.free, objective.task.name, str(objective.model), names, f"{objective.loss():.4e}"]
    digest = hashlib.blake2b(repr(texts).encode(), digest_size=16)
    for tensor in (*objective.point.values(), *objective.model.buffers()):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + _bytes(tensor))
    for batch in objective.sample.batches:
        parts = [_bytes(part) for part in tensors((batch.content, batch.target, batch.weights))]
        digest.update(str([batch.rows, *map(len, parts)]).encode() + b"".join(parts))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _hash(vector: Tensor, kind: bytes = b"") -> bytes:
    return hashlib.blake2b(vector.detach().cpu().contiguous().numpy().data, digest_size=16, person=kind).digest()


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))
