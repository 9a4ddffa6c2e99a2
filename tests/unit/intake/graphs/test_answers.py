"""Of a graph that answers with several values the scores are measured, or it is refused by the names of its answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import open_checkpoint
from quant_lens_engine.intake.graphs.answers import measured_answer
from quant_lens_engine.intake.graphs.script_network import module_of_script, script_network
from tests.unit.intake.graphs.conftest import built, export, refused
from tests.unit.intake.graphs.test_onnx_files import exported

ANSWERS = {
    "dict": lambda hidden, scores: {"features": hidden, "logits": scores},
    "segmentation": lambda hidden, scores: {"aux": hidden, "out": scores},
    "other words": lambda hidden, scores: {"features": hidden, "classes": scores},
    "nothing beside": lambda hidden, scores: {"loss": None, "classes": scores},
    "tuple": lambda hidden, scores: (scores, hidden),
    "dict in a tuple": lambda hidden, scores: ({"features": hidden, "logits": scores}, hidden),
    "tuple in a dict": lambda hidden, scores: {"all": (hidden, hidden), "logits": scores},
}


class Answering(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(6)
        self.hidden, self.scores, self.kind = nn.Linear(4, 3), nn.Linear(3, 2), kind

    def forward(self, x):
        hidden = torch.relu(self.hidden(x))
        return ANSWERS[self.kind](hidden, self.scores(hidden))


def scores(model, x):
    return model.scores(torch.relu(model.hidden(x)))


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("dict", "It answers with 2 values (features, logits): 'logits' is measured."),
        ("segmentation", "It answers with 2 values (aux, out): 'out' is measured."),
        ("nothing beside", None),
        ("tuple", "It answers with 2 values without names: the first is measured."),
        ("dict in a tuple", "It answers with 2 values without names: the first is measured."),
        ("tuple in a dict", "It answers with 2 values (all, logits): 'logits' is measured."),
    ],
)
def test_the_scores_of_an_exported_graph(kind, note, tmp_path):
    model, x = Answering(kind).eval(), torch.randn(5, 4)
    path = export(model, (x[:2],), tmp_path / "m.pt2")
    torch.testing.assert_close(built(path)(x), scores(model, x))
    assert [said for said in open_checkpoint(path).notes if "answers" in said] == ([note] if note else [])


def test_names_that_say_nothing_are_refused(tmp_path):
    path = export(Answering("other words").eval(), (torch.randn(2, 4),), tmp_path / "m.pt2")
    error = refused(path, "bad_output")
    assert "'features', 'classes'" in error.message
    assert error.details == {"keys": ["features", "classes"]}


def test_the_scores_of_an_onnx_graph(tmp_path):
    model, x = Answering("dict").eval(), torch.randn(5, 4)
    path = tmp_path / "m.onnx"
    torch.onnx.export(model, (x,), str(path), dynamo=False, input_names=["x"], output_names=["features", "logits"],
                      dynamic_axes={"x": {0: "batch"}})  # fmt: skip
    torch.testing.assert_close(built(path)(x), scores(model, x))
    assert "It answers with 2 values (features, logits): 'logits' is measured." in open_checkpoint(path).notes
    error = refused(exported(model, x[:2], tmp_path / "unnamed.onnx"), "bad_output")  # the exporter makes names up
    assert "output_names=" in error.hint


def test_the_scores_of_a_script():
    x = torch.randn(5, 4)
    for kind, note in (("dict", "'logits' is measured"), ("tuple", "the first is measured")):
        model = Answering(kind).eval()
        script = torch.jit.trace(model, x, strict=False)
        torch.testing.assert_close(module_of_script(script)(x), scores(model, x))
        assert note in script_network(script)[2][0]
    with pytest.raises(CheckpointError, match="'features', 'classes'"):
        script_network(torch.jit.trace(Answering("other words").eval(), x, strict=False))


@pytest.mark.parametrize("spec", ["", "[1]", "[1, {}]", 3, "[" * 4000, '[1, {"type": null, "children_spec": []}]'])
def test_a_malformed_structure_is_refused(spec):
    with pytest.raises(CheckpointError) as caught:
        measured_answer(spec, [True, True])
    assert caught.value.code == "bad_graph"
