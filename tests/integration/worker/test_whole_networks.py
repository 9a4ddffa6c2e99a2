"""A network as a torch.export archive and as ONNX, from upload to result, beside a state dict of the same weights."""

import pytest
import torch

from quant_lens_engine.intake import ARCHITECTURES
from quant_lens_engine.schema import FLOAT_VARIANT
from tests.integration.worker.conftest import upload_and_look
from tests.unit.intake.graphs.conftest import export
from tests.unit.intake.graphs.test_onnx_files import exported

pytestmark = pytest.mark.integration

SHAPES = {
    "features.0.weight": (4, 1, 3, 3), "features.4.weight": (6, 4, 3, 3), "classifier.1.weight": (12, 6),
    "classifier.3.weight": (12, 12), "classifier.5.weight": (10, 12),
}  # fmt: skip
LAYERS = ["features.0", "features.4", "classifier.1", "classifier.3", "classifier.5"]
NORMS = ["features.1", "features.5"]

ANALYSES = {
    "preset": "quick", "line": {"steps": 3}, "plane": {"steps": 0},
    "curvature": {"trace_probes": 4, "tolerance": 1e-5, "layer_eigenvalues": "float", "density_runs": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def results(client, tmp_path_factory):
    """The result of each file, by its format."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    model = ARCHITECTURES["lenet-bn"].build(SHAPES)
    x = torch.rand(64, 1, 8, 8)
    for _ in range(20):
        model(x)  # statistics that are not a fresh network's
    model.eval()
    torch.save(model.state_dict(), folder / "m.pt")
    export(model, (x[:2],), folder / "m.pt2")
    exported(model, x[:2], folder / "m.onnx", 17, dynamo=False)
    runs = {}
    for name in ("m.pt", "m.pt2", "m.onnx"):
        found = upload_and_look(client, folder / name)
        assert found.inspection_state == "done", found
        assert found.inspection["architectures"][0]["fits"], found
        run = client.submit({
            "model": {"file": found.sha256}, "data": {"example": "digits", "limit": 48},
            "schemes": ["int8", "w8a8"], "analyses": ANALYSES,
        })  # fmt: skip
        runs[found.inspection["format"]] = run.id
    for run_id in runs.values():
        ended = client.wait(run_id, timeout_s=240)
        assert (ended.state, ended.failures) == ("DONE", []), ended
    return {form: client.result(run_id) for form, run_id in runs.items()}


FORMATS = ["torch-export", "onnx"]


@pytest.mark.parametrize("form", ["torch", *FORMATS])
def test_layers_are_called_what_their_owner_called_them(results, form):
    result = results[form]
    assert [variant.name for variant in result.variants] == [FLOAT_VARIANT, "int8", "w8a8"]
    fp32, int8, w8a8 = result.variants
    for variant in (fp32, int8):
        assert [layer.name for layer in variant.layers] == LAYERS
    assert all(layer.lambda_max is not None for layer in fp32.layers)
    assert all(layer.sqnr_db > 20 for layer in int8.layers)
    assert (int8.quantized_layers, [layer.name for layer in int8.skipped_layers]) == (len(LAYERS), NORMS)
    assert [item.name for item in w8a8.activations] == LAYERS
    assert {layer.name for layer in w8a8.activation_statistics.layers} >= set(LAYERS)
    assert [layer.name for layer in fp32.batchnorm.layers] == NORMS


@pytest.mark.parametrize("form", FORMATS)
def test_every_number_is_that_of_the_state_dict(results, form):
    for found, wanted in zip(results[form].variants, results["torch"].variants, strict=True):
        assert found.evaluation.loss == pytest.approx(wanted.evaluation.loss, abs=1e-6)
        assert found.evaluation.accuracy == wanted.evaluation.accuracy
        assert (found.effective_bits, found.quantized_layers) == (wanted.effective_bits, wanted.quantized_layers)
        for end in ("lambda_max", "lambda_min"):
            value = getattr(wanted.curvature, end).value
            assert getattr(found.curvature, end).value == pytest.approx(value, rel=1e-4), (found.name, end)
        for layer, other in zip(found.layers, wanted.layers, strict=True):
            assert (layer.name, layer.kind, layer.parameters) == (other.name, other.kind, other.parameters)
            assert (layer.lambda_max is None) == (other.lambda_max is None)
            assert layer.lambda_max is None or layer.lambda_max == pytest.approx(other.lambda_max, rel=1e-3)
        for line, other in zip(found.lines, wanted.lines, strict=True):  # along the same directions
            assert (line.landscape, line.alphas) == (other.landscape, pytest.approx(other.alphas, rel=1e-5))
            assert line.loss == pytest.approx(other.loss, abs=1e-4)


def test_a_graph_brings_its_own_architecture(results):
    assert results["torch"].model.architecture == "lenet-bn"
    for form in FORMATS:
        model = results[form].model
        assert (model.format, model.architecture) == (form, "from-file")
        assert model.parameters == results["torch"].model.parameters
