"""What every operator over a sample has in common: micro-batches, graphs that are kept or not, and flat vectors."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from quant_lens_engine.curvature.basis_room import most_bytes
from quant_lens_engine.curvature.plan import FORWARD_WIDTH, HvpPlan, choose_plan
from quant_lens_engine.curvature.probe_kind import TermSpreads
from quant_lens_engine.curvature.row_groups import RowGroups
from quant_lens_engine.curvature.second_derivatives import AttentionWatch, twice_differentiable
from quant_lens_engine.curvature.short_memory import Room, with_less
from quant_lens_engine.errors import InputError, NumericalError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point, no_weight
from quant_lens_engine.objective.randomness import rademacher
from quant_lens_engine.objective.sample import Batch

Graph = TypeVar("Graph")


class SampleOperator(ABC, Generic[Graph]):
    """A symmetric operator that is a sum over micro-batches, divided by the criterion's denominator.

    A product that runs out of memory gives up the graphs that are kept, then halves the micro-batch or the number of
    vectors that are multiplied at once, and is taken again: the answer is the same but for rounding.

    Vectors are flat, float64, in the order of ``objective.free``; the products themselves are taken in the model's
    dtype. Attention runs on the math kernel, the only one that can be differentiated twice.

    Args:
        objective: at the point of interest.
        plan: see :mod:`~quant_lens_engine.curvature.plan`; None: by shape, :func:`choose_plan`.
        check_cancelled: called before each micro-batch.
        room: what other passes have found to fit; None: nothing is known.

    Attributes:
        dimension: length of the vectors.
        products: whole-sample products so far.
        weight: the criterion's denominator over the sample, known after the first product.
        attention: ``"math"`` if the model called attention, else None; known after the first product.
        width: directions that ``forward-over-reverse`` takes at a time.

    Raises:
        InputError: ``no_such_plan``: this operator has no such plan.
    """

    plans: ClassVar[tuple[HvpPlan, ...]] = ("reuse", "fresh")

    def __init__(
        self,
        objective: Objective,
        plan: HvpPlan | None = None,
        *,
        check_cancelled: Callable[[], None] = lambda: None,
        room: Room | None = None,
    ) -> None:
        self.room, self._given = room or Room(), objective
        self.objective = objective = self.room.fitted(objective)
        self.plan: HvpPlan = plan or choose_plan(objective)
        if self.plan not in self.plans:
            raise InputError(
                f"{type(self).__name__} has no plan {self.plan!r}",
                hint=f"plans are {', '.join(self.plans)}",
                code="no_such_plan",
            )
        if self.plan == "forward-over-reverse" and objective.computation is not None:
            self.plan = "fresh"  # what is rounded is found by where weights lie in memory, which transforms hide
        if self.plan == "reuse" and not self.room.keeps_graphs:
            self.plan = "fresh"
        self.width = self.room.width or FORWARD_WIDTH
        self.dimension = objective.dimension
        self.device = objective.device
        self.products = 0
        self._at_once = 1
        self.weight = 0.0
        self.attention: str | None = None
        self._check_cancelled = check_cancelled
        self._shapes = [objective.point[name].shape for name in objective.free]
        self._leaves = [objective.point[name].detach().requires_grad_() for name in objective.free]
        self._graphs: list[Graph] = []
        self._weights: dict[int, float] = {}  # of micro-batches, where they take a pass of their own
        self._by_groups: tuple[SampleOperator[Graph], list[int]] | None = None

    @abstractmethod
    def _linearised(self, batch: Batch, point: Point) -> tuple[Graph, float]:
        """What the products with one micro-batch are taken from, and the micro-batch's denominator."""

    @abstractmethod
    def _product(self, graph: Graph, directions: list[Tensor], keep: bool) -> Sequence[Tensor | None]:
        """A micro-batch's part of the product, a tensor a parameter; None where it is zero.

        ``keep`` the graph: another product is taken from it.
        """

    def matvec(self, vector: Tensor) -> Tensor:
        """The operator times ``vector``, both ``(dimension,)`` in float64.

        Raises:
            NumericalError: ``not_twice_differentiable``, naming the operator; or ``non_finite_curvature``.
            DataError: ``nothing_counts``: the sample's weight is zero.
        """
        return self.matmat(vector[None])[0]

    def matmat(self, vectors: Tensor) -> Tensor:
        """The operator times each of ``vectors``, both ``(k, dimension)`` in float64: :meth:`matvec`'s digits.

        Where graphs are not kept, each is built once for all of the vectors.
        """
        found = with_less(lambda: self._products_in_turn(vectors), self._lower)
        self.products += len(vectors)
        return found

    @property
    def rounds(self) -> bool:
        """Whether a parameter is coarser than float64."""
        return any(leaf.dtype != torch.float64 for leaf in self._leaves)

    def nudged_product(self, vector: Tensor) -> Tensor:
        """See :class:`~quant_lens_engine.curvature.symmetric_operator.NudgedOperator`."""
        other = copy.copy(self)
        other._leaves = [_nudged(leaf, place) for place, leaf in enumerate(self._leaves)]
        other.plan = "fresh" if self.plan == "reuse" else self.plan  # one product: no graph is worth keeping
        other._graphs, other._weights, other._by_groups = [], {}, None
        self.products += 1
        return other.matvec(vector)

    @property
    def terms(self) -> int:
        """Groups of rows, whose curvatures add up to this one."""
        return self._groups.count

    def sweep(self, vectors: Callable[[int], Tensor]) -> Tensor:
        """Σ_g v_g ⊙ A_g v_g over groups of rows g; see :class:`~quant_lens_engine.curvature.row_groups.SumOperator`."""
        return with_less(lambda: self._whole_sweep(vectors), self._lower)

    def spreads(self, probes: Tensor, basis: Tensor) -> Tensor:
        """See :class:`~quant_lens_engine.curvature.row_groups.SumOperator`."""
        return with_less(lambda: self._whole_spreads(probes, basis), self._lower)

    @cached_property
    def _groups(self) -> RowGroups:
        return RowGroups(self._given)

    @property
    def lowered(self) -> list[str]:
        """What was given up for want of memory, in words, by this operator and what shares its room."""
        return self.room.lowered

    def _products_in_turn(self, vectors: Tensor) -> Tensor:
        self._at_once = min(len(vectors), self.room.vectors or len(vectors))
        return torch.cat([self._whole_products(part) for part in torch.split(vectors, self._at_once)])

    def _whole_products(self, vectors: Tensor) -> Tensor:
        self._by_groups = None  # one set of graphs at a time
        with twice_differentiable(self.objective.model):
            directions = [self._split(vector) for vector in vectors]
            total = torch.zeros((len(vectors), self.dimension), dtype=torch.float64, device=self.device)
            for graph in self._each_graph():
                self._check_cancelled()
                self._add_products(total, graph, directions)
        return self._averaged(total)

    def _whole_sweep(self, vectors: Callable[[int], Tensor]) -> Tensor:
        total = torch.zeros(0)
        for probes, product in self._each_term(vectors):
            product *= probes
            total = total + product if len(total) else product
        self.products += len(total)
        return self._averaged(total)

    def _whole_spreads(self, probes: Tensor, basis: Tensor) -> Tensor:
        sums = TermSpreads(probes, basis)
        for _, product in self._each_term(lambda _: sums.vectors):
            sums.add(product)
        self.products += len(probes)
        if not self.weight:
            raise no_weight()
        return self._finite(sums.spreads(self.weight))

    def _each_term(self, vectors: Callable[[int], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """The vectors of each group of rows, and their products with its part of the sum."""
        self._graphs.clear()  # one set of graphs at a time
        if self._by_groups is None:
            self._by_groups = self._in_pieces()
        operator, groups = self._by_groups
        current, probes, product = -1, torch.zeros(0), torch.zeros(0)
        with twice_differentiable(self.objective.model):
            for group, graph in zip(groups, operator._each_graph(), strict=True):
                self._check_cancelled()
                if group != current:
                    if current >= 0:
                        yield probes, product
                    current, probes = group, vectors(group)
                    directions, product = [operator._split(probe) for probe in probes], torch.zeros_like(probes)
                operator._add_products(product, graph, directions)
        self.weight, self.attention = operator.weight, operator.attention or self.attention
        yield probes, product

    def _in_pieces(self) -> tuple[SampleOperator[Graph], list[int]]:
        """This operator over the micro-batches that the groups of rows consist of, and the group of each."""
        objective, groups = self._groups.pieces(self.room.rows)
        other = copy.copy(self)
        other.objective, other._graphs, other._weights = objective, [], {}
        return other, groups

    def _averaged(self, total: Tensor) -> Tensor:
        if not self.weight:
            raise no_weight()
        return self._finite(total) / self.weight

    @staticmethod
    def _finite(found: Tensor) -> Tensor:
        if not bool(torch.isfinite(found).all()):
            raise NumericalError(
                "the product of the curvature with a vector is not finite",
                hint="the loss or a gradient overflows at these weights",
                code="non_finite_curvature",
            )
        return found

    def _lower(self) -> bool:
        """Ask less of the memory; whether there was anything left to give up."""
        if self._keeps_graphs:
            self.plan, self.room.keeps_graphs = "fresh", False
            self.room.give_up("graphs are not kept")
        elif self.plan == "forward-over-reverse" and self.width > 1:
            self.width = self.room.width = self.width // 2
            self.room.give_up(f"{self.width} directions at a time")
        elif self._vectors_weigh and self._halve_vectors():
            pass
        elif self.room.halve(self.objective):
            self.objective = self.room.fitted(self.objective)
            self._weights.clear()
        elif not self._halve_vectors():
            return False
        self.release()
        return True

    @property
    def _vectors_weigh(self) -> bool:
        """Whether the flat vectors of a product are what takes the memory, rather than the rows of a micro-batch."""
        return 16 * self._at_once * self.dimension > most_bytes(self.device) / 4

    def _halve_vectors(self) -> bool:
        """Half as many at once; whether there was anything to halve."""
        if self._at_once == 1:
            return False
        self.room.vectors = self._at_once // 2
        many = self.room.vectors > 1
        self.room.give_up(f"{self.room.vectors} vectors at a time" if many else "one vector at a time")
        return True

    def release(self) -> None:
        """Forget the graphs, and with them their memory."""
        self._graphs.clear()
        self._by_groups = None

    @property
    def _keeps_graphs(self) -> bool:
        return self.plan == "reuse"

    def _each_graph(self) -> Iterator[Graph]:
        if self._graphs:
            yield from self._graphs
            return
        kept: list[Graph] = []
        weight = 0.0
        for batch in self.objective.batches():
            point = self.objective.point | dict(zip(self.objective.free, self._leaves, strict=True))
            with AttentionWatch() as watch:
                graph, batch_weight = self._linearised(batch, point)
            if watch.seen:
                self.attention = "math"
            weight += batch_weight
            if self._keeps_graphs:
                kept.append(graph)
            self.weight = weight
            yield graph
        self._graphs = kept

    def _add_products(self, totals: Tensor, graph: Graph, directions: list[list[Tensor]]) -> None:
        """Add a micro-batch's part of each product to its row of ``totals``."""
        for index, (total, direction) in enumerate(zip(totals, directions, strict=True)):
            keep = self._keeps_graphs or index + 1 < len(directions)
            self._add(total, self._product(graph, direction, keep))

    def _add(self, total: Tensor, parts: Sequence[Tensor | None]) -> None:
        start = 0
        for part, shape in zip(parts, self._shapes, strict=True):
            end = start + shape.numel()
            if part is not None:
                total[start:end] += part.reshape(-1)
            start = end

    def _split(self, vector: Tensor) -> list[Tensor]:
        pieces = torch.split(vector.to(self.device), [shape.numel() for shape in self._shapes])
        return [
            piece.to(leaf.dtype).view(shape)
            for piece, leaf, shape in zip(pieces, self._leaves, self._shapes, strict=True)
        ]


def _nudged(leaf: Tensor, place: int) -> Tensor:
    """Each number moved by its last digit, up or down at random."""
    signs = rademacher(leaf.numel(), place, "rounding").to(leaf.device).view(leaf.shape)
    moved = leaf.detach().double() * (1 + torch.finfo(leaf.dtype).eps * signs)
    return moved.to(leaf.dtype).requires_grad_()


def require_dependence(value: Tensor) -> None:
    """Raise if nothing of ``value`` depends on a parameter."""
    if not value.requires_grad:
        raise NumericalError(
            "the loss does not depend on the parameters",
            hint="a part of the model is detached or runs in integers: give a model in floating point",
            code="not_differentiable",
        )
