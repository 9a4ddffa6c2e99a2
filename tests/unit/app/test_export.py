import csv
import io

from app.api.results import table_of
from quant_lens_engine.schema import Comparison, Evaluation, RunResult, Variant, Verdict
from tests.unit.figures.results import recipes


def test_one_row_a_variant_with_errors_beside_the_numbers():
    result = RunResult(
        variants=[
            Variant(name="FP32", evaluation=Evaluation(loss=0.123456789012345, accuracy=0.9, samples=10)),
            Variant(
                name='odd, "name"', evaluation=Evaluation(loss=0.2, delta_loss=0.1, delta_loss_standard_error=0.01)
            ),
        ],
        comparisons=[Comparison(variant='odd, "name"', verdict=Verdict(level="caution"))],
    )
    rows = list(csv.DictReader(io.StringIO(table_of(result))))
    assert [row["variant"] for row in rows] == ["FP32", 'odd, "name"']
    assert float(rows[0]["loss"]) == 0.123456789012345
    assert (rows[1]["delta_loss"], rows[1]["delta_loss_error"]) == ("0.1", "0.01")
    assert (rows[0]["delta_loss"], rows[0]["lambda_max"], rows[1]["verdict"]) == ("", "", "caution")


def test_no_variants_make_a_table_with_a_head_only():
    assert table_of(RunResult()) == "variant\n"


def test_how_a_variant_was_made_is_in_its_row():
    float_row, static, recipe, plain = csv.DictReader(io.StringIO(table_of(recipes())))
    assert (static["scheme"], static["algorithms"], static["rounded_activations"]) == ("w8a8", "", "2")
    assert (static["calibration_samples"], static["overlap"]) == ("120", "True")
    assert (recipe["scheme"], recipe["algorithms"]) == ("w4a8", "smoothquant:alpha=0.7; gptq")
    assert (recipe["layer_choice"], recipe["skipped_layers"], recipe["quantized_layers"]) == ("skip:head", "1", "1")
    assert recipe["notes"] == "deployed landscape: scales stay as they are"
    assert (plain["calibration_samples"], plain["overlap"], float_row["scheme"]) == ("", "", "")
