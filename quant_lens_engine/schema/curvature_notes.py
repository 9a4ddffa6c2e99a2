"""What a reader should know of how a curvature was computed, in words: the page, the reports and the command line."""

from __future__ import annotations

from quant_lens_engine.schema.curvature import Curvature


def reason_words(curvature: Curvature) -> str:
    """Why a number is missing or has not converged; where products were cut off, what the intervals say of it.

    Example:
        >>> reason_words(Curvature(reason="not within the tolerance", cut_off=True))
        'not within the tolerance; λmax or λmin has no interval: it may lie further out'
    """
    reason = curvature.reason or ""
    if not curvature.cut_off:
        return reason
    if all(item.lower is not None for item in (curvature.lambda_max, curvature.lambda_min)):
        return f"{reason}; the interval says how far λ can be"
    return f"{reason}; λmax or λmin has no interval: it may lie further out"


def derivative_words(curvature: Curvature) -> str:
    """How products were formed, where it was not by differentiating every operator twice.

    Example:
        >>> derivative_words(Curvature(attention="math"))
        'attention by the math kernel'
        >>> derivative_words(Curvature(derivative="finite-difference")).partition("; ")[0]
        'by differences of gradients: an operator has no second derivative'
    """
    said = []
    if curvature.derivative == "finite-difference":
        missing = curvature.without_second_derivative or "an operator"
        said.append(
            f"by differences of gradients: {missing} has no second derivative; intervals hold their error, which in a "
            "trace adds up"
        )
    if curvature.attention:
        said.append(f"attention by the {curvature.attention} kernel")
    return "; ".join(said)


def curvature_notes(curvature: Curvature) -> list[str]:
    """Everything that is not as usual: convergence, derivative, start, a density of one process, memory.

    Example:
        >>> curvature_notes(Curvature(converged=True, lowered=["graphs are not kept"]))
        ['for want of memory: graphs are not kept (the numbers are the same but for rounding)']
    """
    notes = []
    if not curvature.converged and curvature.reason:
        notes.append(f"λ has not converged: {reason_words(curvature)}")
    if words := derivative_words(curvature):
        notes.append(f"derivative {words}" if words.startswith("by") else words)
    if curvature.started_from:
        notes.append(
            f"started from the eigenvectors of {curvature.started_from}: its density and counts rest on shorter "
            "processes, so they are coarser"
        )
    if curvature.density is not None and not curvature.density.low:
        notes.append("the density has no band: one process")
    if curvature.lowered:
        given_up = ", ".join(curvature.lowered)
        notes.append(f"for want of memory: {given_up} (the numbers are the same but for rounding)")
    return notes
