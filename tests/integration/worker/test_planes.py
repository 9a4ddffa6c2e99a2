"""Rows of a plane are shared by whoever is free: the same picture to the last digit, whatever happens on the way."""

import pytest

from quant_lens_engine.analysis import analyze
from quant_lens_engine.schema import whole_stages
from tests.integration.worker.conftest import engines_of, spec

pytestmark = pytest.mark.integration

CHEAP = {"trace_probes": 2, "max_products": 8, "tolerance": 0.1, "density_runs": 0}
PLANE = {
    "analyses": {"preset": "quick", "curvature": CHEAP, "line": {"steps": 3, "path": False}, "plane": {"steps": 21}},
}


def slow(**changes):
    """Its forward pass waits, so that a plane takes a while."""
    few = {"example": "digits", "limit": 16}
    return (
        PLANE
        | {"model": {"example": "digits-mlp", "architecture": "slow"}, "data": few, "schemes": ["int8", "int4"]}
        | changes
    )


UNHURRIED = slow(model={"example": "digits-mlp", "architecture": "digits-mlp"})
"""The same network, without the waiting."""


def planes(result):
    return [(plane.alphas, plane.loss, plane.accuracy) for plane in result.variant("FP32").planes]


def expected(changes):
    """What one process makes of the same specification, with the same execution block."""
    return analyze(spec(**changes))


def test_two_workers_share_a_plane_and_a_third_process_would_have_made_the_same(house):
    workers = [house.start_worker("runs") for _ in range(2)]
    house.wait_for_workers(len(workers))
    run_id = house.submit(**slow())
    run = house.wait(run_id)
    assert run.state == "DONE", house.log()
    holders = {stage.worker for stage in run.progress.stages if stage.stage == "plane"}
    assert len(holders) == len(workers), "both have taken pieces"
    result = house.store.results.result(run_id)
    assert planes(result) == planes(expected(UNHURRIED))
    assert result.variant("FP32").planes[0].complete
    assert [point.name for point in result.variant("FP32").planes[0].points] == ["FP32", "int8", "int4"]


def test_a_killed_engine_costs_a_piece_and_changes_nothing(house):
    worker = house.start_worker("runs")
    run_id = house.submit(**slow())
    house.wait(
        run_id, until=lambda run: sum(s.stage == "plane" and s.state == "done" for s in run.progress.stages) >= 2
    )  # fmt: skip
    partial = house.store.results.result(run_id).variant("FP32").planes[0]
    assert 0 < len(partial.measured_rows) < 21, "it fills in as rows arrive"
    assert all(value is None for row in set(range(21)) - set(partial.measured_rows) for value in partial.loss[row])
    for engine in engines_of(worker):
        engine.kill()
    run = house.wait(run_id)
    assert run.state == "DONE", house.log()
    commits = house.commits(run_id)
    assert sorted(commits) == sorted(set(commits)), "nothing was computed twice"
    result = house.store.results.result(run_id)
    assert (
        result.variant("FP32").planes[0].loss[: len(partial.measured_rows)]
        == partial.loss[: len(partial.measured_rows)]
    )
    assert planes(result) == planes(expected(UNHURRIED))


def test_a_cancelled_plane_goes_on_where_it_was(house):
    house.start_worker("runs")
    first = house.submit(**slow())
    house.wait(
        first, until=lambda run: sum(s.stage == "plane" and s.state == "done" for s in run.progress.stages) >= 2
    )  # fmt: skip
    house.store.runs.request_cancel(first)
    house.wait(first)
    second = house.submit(**slow())
    run = house.wait(second)
    taken = [stage for stage in run.progress.stages if stage.stage == "plane" and stage.from_store]
    assert len(taken) >= 2
    (plane,) = [stage for stage in whole_stages(run.progress.stages) if stage.stage == "plane"]
    assert (plane.state, plane.done, plane.total) == ("done", 7, 7)


def test_a_plane_whose_model_failed_is_skipped_with_the_reason(house):
    house.start_worker("runs")
    broken = "int4+qat:learning_rate=1e30:steps=20"
    run_id = house.submit(**PLANE, schemes=["int8", broken])
    run = house.wait(run_id)
    pieces = [stage for stage in run.progress.stages if stage.stage == "plane"]
    assert {stage.state for stage in pieces} == {"skipped"}
    assert "evaluate" in pieces[0].note
    assert "plane" not in {failure.stage for failure in run.failures}
