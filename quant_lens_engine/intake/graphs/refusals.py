"""Why a graph is not taken, and how to bring the same network."""

from __future__ import annotations

from quant_lens_engine.errors import CheckpointError

EXPORT_CALL = (
    "torch.export.save(torch.export.export(model.eval(), (x,), "
    "dynamic_shapes=({0: torch.export.Dim('batch')},)), 'model.pt2')"
)
"""How to bring any architecture, in one line."""

EXPORT_HINT = "export it once more with torch.export and a dynamic batch: " + EXPORT_CALL
"""The same of a network that came as a graph."""


MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError, AssertionError, ArithmeticError, RuntimeError)
"""What putting together an operator with arguments of the wrong kind or number raises."""


OPERATOR_HINT = (
    "the same network exported once more has the same operators: bring the class as a plug-in (QUANT_LENS_PLUGINS; on "
    "the command line --plugins) and its state dict, or write the forward with operators that are on the list "
    "(convolutions, linear layers, attention, norms, pooling, arithmetic)"
)
"""What helps where an operator is not known."""


def unsupported_operator(operator: str, node: str, hint: str = OPERATOR_HINT) -> CheckpointError:
    """The error of an operator that is not on the list, naming it and its place in the graph."""
    shown = operator[:100]
    return CheckpointError(
        f"its graph calls {shown!r} (node {node[:80]!r}), which is not on the list of operators",
        hint=hint,
        code="unsupported_operator",
        details={"operator": shown, "node": node[:200]},
    )


def bad_graph(reason: str, node: str | None = None, hint: str = EXPORT_HINT) -> CheckpointError:
    """The error of a graph that does not go together."""
    place = f" (node {node[:80]!r})" if node else ""
    return CheckpointError(
        f"its graph does not go together: {reason}{place}", hint=hint, code="bad_graph", details={"node": node}
    )


def fixed_batch(batch: int | None, reason: str, node: str | None) -> CheckpointError:
    """The error of a graph that takes one number of rows only."""
    rows = "one number of rows" if batch is None else f"{batch} rows at a time" if batch > 1 else "one row at a time"
    place = f" (node {node!r})" if node else ""
    return CheckpointError(
        f"it was exported for {rows}, and cannot be opened for more: {reason}{place}",
        hint=EXPORT_HINT,
        code="fixed_batch",
        details={"batch": batch, "node": node},
    )
