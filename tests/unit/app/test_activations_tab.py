"""The tab Activations & BatchNorm: what can be chosen, what the table of re-estimation says, why a chart is empty."""

from __future__ import annotations

from app.pages.run.activations import (
    ACTIVATION_CHARTS,
    layer_choices,
    reestimation_card,
    variant_choices,
    why_no_activations,
)
from quant_lens_engine.figures import FIGURES, variant_styles
from quant_lens_engine.schema import Activations, BatchNormDrift, RunResult, StageFailure
from tests.unit.app.test_run_page import record
from tests.unit.app.words import find, words
from tests.unit.figures.results import result, usual, variant


def card(found: RunResult, run=None):
    return reestimation_card(run or record("DONE"), found, variant_styles(found.variants))


def test_every_chart_is_registered_and_takes_the_options_that_its_switches_set() -> None:
    for name, options in ACTIVATION_CHARTS.items():
        assert FIGURES[name].gather(usual(), **dict.fromkeys(options, "")) is not None


def test_variants_and_layers_to_choose_from() -> None:
    assert variant_choices(usual()) == ["int8", "int2", "FP32"], "the float model stands beside each of them anyway"
    assert layer_choices(usual()) == ["fc1", "fc2"], "a layer that never ran has no distribution"
    assert layer_choices(RunResult()) == []


def test_the_table_says_who_gains_and_that_rows_overlap() -> None:
    told = words(card(usual()))
    assert (
        "int2 gains most: its loss falls by 0.150 nats. Statistics of 100 rows, layer by layer; weights stay." in told
    )
    assert "rows that the loss is measured on" in told
    assert "int2 1.30 1.15 −0.150 ± 0.001 68.0 83.0 +15.0 ± 1.0" in told.replace("\u2009", " ")
    found = usual()
    for item in found.variants:
        item.batchnorm.reestimation.overlap = False
        item.batchnorm.reestimation.delta_loss = 0.0015
    told = words(card(found))
    assert "No variant gains more than twice its error." in told
    assert "measured on" not in told


def test_a_variant_that_is_still_measured_has_a_skeleton_and_one_without_classes_no_accuracy() -> None:
    found = usual()
    found.variants[2].batchnorm = None
    assert len(find(card(found, record("RUNNING")), "skeleton")) == 6
    for item in found.variants[:2]:
        item.batchnorm.reestimation.accuracy_before = None
    assert "Accuracy" not in words(card(found))


def test_a_model_without_batch_normalisation_has_no_table_and_says_so_at_once() -> None:
    found = result(variant("FP32", 10.0), variant("int8", 10.2))
    found.variants[0].batchnorm = BatchNormDrift(reason="the model has no batch normalisation")
    assert card(found) == []
    assert why_no_activations("batchnorm-drift", found, record(), False) == "The model has no batch normalisation."


def test_an_empty_chart_says_why() -> None:
    found = result(variant("FP32", 10.0))
    assert "FP32 is what SQNR compares with" in why_no_activations("activation-sqnr", found, record("DONE"), True)
    assert why_no_activations("activation-sqnr", found, record(), False) == "", "it may still come"
    none = RunResult()
    assert "not measured before the run ended" in why_no_activations("activation-ranges", none, record("DONE"), True)
    none.failures = [StageFailure(stage="activations", variant="int8", code="x", message="out of memory")]
    told = why_no_activations("activation-ranges", none, record("DONE"), True)
    assert told == "Activation statistics of int8 have no result: out of memory"
    found.variants[0].activation_statistics = Activations(reason="the model has no layer with weights")
    told = why_no_activations("activation-ranges", found, record("DONE"), True)
    assert told == "The model has no layer with weights."
    asked = record("DONE")
    asked.progress.stages = [item for item in asked.progress.stages if item.stage != "activations"]
    told = why_no_activations("activation-ranges", none, asked, True)
    assert told == "The run did not ask for activation statistics."
