"""How Hessian products are taken.

====================  =================================================================================================
reuse                 reverse over reverse; the gradient's graph of each micro-batch is kept between products
fresh                 reverse over reverse; the graph is built for each product, or once for several taken together
forward-over-reverse  a directional derivative of the gradient, several directions in one vectorised pass
finite-difference     the difference of two gradients: inexact, and nothing is kept
====================  =================================================================================================

The first two give the same digits, the third the same but for rounding. The rule was calibrated by measurement, in
gradients a product, one CPU thread (``docs/decisions.md`` has the figures): ``reuse`` is the cheapest wherever its
graphs fit; ``fresh`` comes next, because several products taken together share their graph, and then cost what
``reuse`` does; ``forward-over-reverse`` came near to it for multilayer perceptrons and transformers with eight
directions and was far behind for convolutions, so it is taken where it is asked for (through rounded activations it is
``fresh``). So is ``finite-difference``, and where an operator has no second derivative.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from quant_lens_engine.curvature.second_derivatives import named_operators, twice_differentiable
from quant_lens_engine.errors import is_out_of_memory
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.model_call import plain_paths
from quant_lens_engine.objective.sample import Batch, tensors

HvpPlan = Literal["reuse", "fresh", "forward-over-reverse", "finite-difference"]

FORWARD_WIDTH = 8
"""Directions that share a pass of ``forward-over-reverse``."""

REUSE_BYTES = 2**30
"""The gradient's graphs of all micro-batches are kept up to this size: a rule by shape, so that a run's plan, and with
it its digits, do not depend on the memory that happens to be free."""


def choose_plan(objective: Objective) -> HvpPlan:
    """``reuse`` where the graphs of all micro-batches fit :data:`REUSE_BYTES`, by what the largest one saves.

    Where not even one of them fits the memory, ``fresh``: its products will halve the micro-batch.
    """
    batches = objective.sample.batches
    largest = max(batches, key=lambda batch: batch.rows)
    try:
        saved = graph_bytes(objective, largest)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return "fresh"
    return "reuse" if saved * objective.samples <= REUSE_BYTES * largest.rows else "fresh"


def graph_bytes(objective: Objective, batch: Batch) -> int:
    """Bytes that the graph of one micro-batch's gradient keeps alive, parameters and data apart."""
    seen: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    moved = batch.to(objective.device, objective.dtype)
    if objective.call.works_in_place is None:  # its first call is given copies, which are not to be counted
        with torch.no_grad(), plain_paths():
            objective.output(moved)
    parameters = {name: objective.point[name].detach().requires_grad_() for name in objective.free}
    with (
        twice_differentiable(objective.model),
        named_operators(),
        saved_tensors_hooks(count, lambda tensor: tensor),
    ):
        loss = objective.terms(moved, objective.point | parameters).losses.sum()
        kept = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
    data = (*tensors(moved.content), *tensors(moved.target))  # often a view of the whole sample
    for tensor in (*objective.point.values(), *objective.model.buffers(), *data):
        seen.pop(tensor.untyped_storage().data_ptr(), None)
    del kept
    return sum(seen.values())
