import pytest

from quant_lens_engine.schema import Analyses, RunSpec, StageProgress, plan_stages
from worker.store.progress import run_progress, stage_weights

SPEC = RunSpec(
    model={"example": "digits-mlp"}, data={"example": "digits"}, schemes=["int8"], analyses={"plane": {"steps": 0}}
)


def stages(**states):
    """A run's stages; ``evaluate_int8=dict(...)`` sets one."""
    return [
        StageProgress(stage=key.kind, variant=key.variant, **states.get(f"{key.kind}_{key.variant}", {}))
        for key in plan_stages(SPEC)
    ]


def test_a_new_run_has_done_nothing_and_promises_nothing():
    progress = run_progress(stages(), stage_weights(SPEC))
    assert (progress.fraction, progress.eta_s, progress.stages_done, progress.stages_total) == (0, None, 0, 12)


def test_the_fraction_is_weighted_by_cost():
    weights = stage_weights(SPEC)
    progress = run_progress(stages(curvature_FP32={"state": "done"}), weights)
    assert progress.fraction == pytest.approx(weights["curvature/FP32"] / sum(weights.values()), abs=1e-4)


def test_a_finished_run_has_nothing_left():
    done = [stage.model_copy(update={"state": "done", "elapsed_s": 1.0}) for stage in stages()]
    progress = run_progress(done, stage_weights(SPEC))
    assert (progress.fraction, progress.eta_s) == (1, None)


def test_time_left_follows_the_measured_pace():
    weights = {str(key): 10.0 for key in plan_stages(SPEC)}
    started = stages(
        inspect_None={"state": "done", "elapsed_s": 99.0},
        evaluate_FP32={"state": "done", "elapsed_s": 2.0},
        curvature_FP32={"state": "running", "done": 1, "total": 4, "elapsed_s": 1.0, "worker": "a"},
    )
    # 2 s a stage for evaluate, 4 s for curvature; what has no pace of its own takes the common one: 3 s in 12.5
    expected = 3.0 + 2.0 + 4.0 + 7 * 10 * (3.0 / 12.5)
    assert run_progress(started, weights).eta_s == pytest.approx(expected, abs=0.1)


def test_two_workers_halve_the_time_left():
    running = {"state": "running", "done": 1, "total": 2, "elapsed_s": 4.0}
    one = stages(evaluate_FP32={**running, "worker": "a"}, evaluate_int8={**running, "worker": "a"})
    two = stages(evaluate_FP32={**running, "worker": "a"}, evaluate_int8={**running, "worker": "b"})
    weights = stage_weights(SPEC)
    assert run_progress(two, weights).eta_s == pytest.approx(run_progress(one, weights).eta_s / 2, abs=0.1)


def test_a_stage_from_the_store_says_nothing_about_pace():
    taken = stages(evaluate_FP32={"state": "done", "from_store": True, "elapsed_s": 0.0})
    assert run_progress(taken, stage_weights(SPEC)).eta_s is None


def test_skipped_and_failed_stages_are_over():
    over = stages(evaluate_int8={"state": "failed"}, verdict_int8={"state": "skipped"})
    assert run_progress(over, stage_weights(SPEC)).stages_done == 2


def test_what_was_cut_short_is_not_shown_as_finished():
    cut = stages(**{f"{kind}_int8": {"state": "skipped"} for kind in ("evaluate", "curvature", "line", "verdict")})
    progress = run_progress(cut, stage_weights(SPEC), was_cut_short=True)
    assert (progress.fraction, progress.stages_done, progress.eta_s) == (0, 0, None)


def test_the_pieces_of_a_plane_weigh_as_many_passes_as_they_have_points():
    spec = SPEC.model_copy(update={"analyses": Analyses(plane={"steps": 7})})
    weights = stage_weights(spec)
    assert [weights[f"plane/FP32#0.0{piece}"] for piece in range(3)] == [21, 21, 7]


def test_every_stage_has_a_weight():
    assert set(stage_weights(SPEC)) == {str(key) for key in plan_stages(SPEC)}
    assert min(stage_weights(SPEC).values()) > 0
