"""How the comparison with other libraries chooses settings, extrapolates and judges; no other library is needed."""

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.peers.answer import Answer, Meter, at_most, measured
from benchmarks.peers.claims import against_best, at_least
from benchmarks.peers.hutchinson import PROBES, hutchinson
from benchmarks.peers.parts import Row, search
from benchmarks.peers.reference import Truth


def attempts() -> Iterator[Answer]:
    for products in (10, 20, 40):
        yield Answer(1 / products, 0.1 * products, products, f"{products} products", stopped=products > 10)


def test_the_first_attempt_that_is_good_enough_is_taken_for_each_wish() -> None:
    found, _, _ = search(attempts(), [lambda a: a.value < 0.06, lambda a: bool(a.stopped), lambda a: a.value < 1], 60)
    assert [answer.products for answer in found if answer] == [20, 20, 10]


def test_what_never_reaches_it_misses_and_what_fails_says_how() -> None:
    def failing() -> Iterator[Answer]:
        yield from attempts()
        raise RuntimeError("torch.eig is no more")

    assert search(attempts(), [lambda a: a.value < 0], 60) == ([None], "misses", "")
    assert search(iter(()), [lambda a: a.value < 0], 60)[1] == "not run"
    _, status, note = search(failing(), [lambda a: a.value < 0], 60)
    assert (status, note) == ("crashes", "RuntimeError: torch.eig is no more")


def test_products_are_counted_and_stopped_at_the_limit() -> None:
    def action(meter: Meter) -> int:
        product = meter.counted(lambda columns: columns, len)
        return len(product([1, 2, 3])) + len(product([1]))

    answer = measured(action, "two calls")
    assert (answer.value, answer.products) == (4, 4)

    def one() -> Iterator[Answer]:
        yield measured(action, "too late")

    with at_most(-1):
        assert search(one(), [lambda _: True], -1)[1] == "capped"


def test_probes_follow_from_the_spread_of_a_few() -> None:
    asked: list[int] = []

    def run(probes: int) -> Answer:
        asked.append(probes)
        return Answer(np.tile([8.0, 12.0], probes // 2), 0.5 * probes, probes, "Hutchinson")

    found = list(hutchinson(run, really=False))
    deviation = np.tile([8.0, 12.0], PROBES // 2).std(ddof=1)
    assert [answer.products for answer in found] == [
        int(np.ceil((deviation / (10 * error)) ** 2)) for error in (0.02, 0.01)
    ]
    assert found[1].cpu_s == pytest.approx(0.5 * found[1].products)
    assert asked == [PROBES]


def test_ours_is_compared_with_the_fastest_peer_that_reaches_it() -> None:
    rows = [
        Row("W1", "trace", "quant-lens", "reaches", cpu_s=1.0),
        Row("W1", "trace", "slow", "reaches", cpu_s=9.0),
        Row("W1", "trace", "wrong", "misses", cpu_s=0.1),
    ]
    ratio, _ = against_best(rows, "trace", "W1", lambda _: True)
    assert ratio == 9.0
    assert at_least("trace", 10, ratio, "").verdict == "missed by 1.11 ×"
    assert at_least("trace", 3, ratio, "").verdict == "met"


def test_errors_near_zero_are_relative_to_the_spectrum() -> None:
    truth = Truth(np.array([10.0, 5.0]), np.array([-0.001, 0.0]))
    assert truth.error_of(np.array([10.0, 5.05])) == pytest.approx(0.01)
    assert truth.error_of(np.array([0.0, 0.0]), largest=False) == pytest.approx(0.01)


def test_a_quadrature_of_the_whole_spectrum_is_no_distance_away() -> None:
    spectrum = np.array([0.0, 1.0, 2.0])
    truth = Truth(spectrum[::-1], spectrum, spectrum)
    assert truth.wasserstein(spectrum, np.full(3, 1 / 3)) == pytest.approx(0.0)
    assert truth.wasserstein(np.array([1.0]), np.ones(1)) == pytest.approx(1 / 3)
