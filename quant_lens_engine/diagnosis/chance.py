"""Is a model's accuracy that of a trained model, or what always giving the most frequent answer has as well?"""

from __future__ import annotations

from quant_lens_engine.schema import Evaluation
from quant_lens_engine.schema.numbers import percent

_CLEARLY = 3.0
"""Standard errors above guessing from which an accuracy is no accident."""


def is_above_chance(measured: Evaluation) -> bool | None:
    """Whether the accuracy is clearly above that of the most frequent answer; None where there are no labels.

    Guessing has the error of a proportion; where a row has many answers they go together, and the error is that of the
    measured accuracy over rows. An accuracy of 1 counts, however few the rows.

    Example:
        >>> is_above_chance(Evaluation(accuracy=0.12, chance=0.1, samples=360))
        False
        >>> is_above_chance(Evaluation(accuracy=0.16, chance=0.1, samples=360)), is_above_chance(Evaluation(loss=0.1))
        (True, None)
    """
    if measured.accuracy is None or measured.chance is None:
        return None
    guess = measured.chance
    if measured.majority is None:
        error = (guess * (1 - guess) / max(1, measured.samples)) ** 0.5
    else:
        error = measured.accuracy_standard_error or 0.0
    return measured.accuracy > guess + _CLEARLY * error or measured.accuracy == 1


def doubt_about(measured: Evaluation) -> str | None:
    """What is to be said of a float model that is not above chance; None where it is, or nothing tells.

    Example:
        >>> doubt_about(Evaluation(accuracy=0.12, chance=0.1, samples=360)).partition(": ")[2]
        'labels, transform or layout may be wrong'
        >>> doubt_about(Evaluation(accuracy=0.9, chance=0.1, samples=360)) is None
        True
    """
    if is_above_chance(measured) is not False:
        return None
    return (
        "the float model is no better than always giving the most frequent answer "
        f"({percent(measured.accuracy)} for {percent(measured.chance)}): labels, transform or layout may be wrong"
    )
