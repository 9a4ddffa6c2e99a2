"""What a refusal suggests helps: the same refusal does not come again."""

from __future__ import annotations

import torch
from torch import nn

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import ARCHITECTURES, open_checkpoint
from quant_lens_engine.intake.graphs.onnx_tensors import refuse_external
from quant_lens_engine.intake.graphs.refusals import EXPORT_CALL, unsupported_operator
from quant_lens_engine.intake.pickled_classes import missing_class
from quant_lens_engine.intake.trajectory import read_trajectory
from quant_lens_engine.schema import ModelSource
from tests.unit.intake.graphs.test_onnx_files import Residual, exported


def hint_of(call):
    try:
        call()
    except CheckpointError as error:
        return error.hint
    raise AssertionError("nothing was refused")


def test_an_unknown_operator_is_not_mended_by_another_export():
    hint = unsupported_operator("torch.ops.aten.lstm.input", "lstm").hint
    assert "plug-in" in hint
    assert EXPORT_CALL not in hint


def test_a_missing_class_is_exported_in_evaluation_mode_with_any_batch():
    assert EXPORT_CALL in missing_class(["nets.Net"]).hint


def test_tensors_in_other_files_name_the_exporters_own_switch():
    tensor = type("Tensor", (), {"data_location": 1, "name": "w"})
    assert "torch.onnx.export(…, external_data=False)" in hint_of(lambda: refuse_external([tensor]))


def test_a_checkpoint_of_a_trajectory_is_never_run(tmp_path):
    path = tmp_path / "s.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)
    read = lambda: read_trajectory([(path, "s.pt")], ARCHITECTURES["digits-mlp"], ModelSource(example="digits-mlp"))  # noqa: E731
    assert "QUANT_LENS_TRUSTED_FORMATS" not in hint_of(read)
    assert "QUANT_LENS_TRUSTED_FORMATS" in hint_of(lambda: open_checkpoint(path))


def test_an_onnx_file_whose_normalisation_may_be_folded_says_so(tmp_path):
    folded, kept = (
        open_checkpoint(exported(Residual().eval(), torch.zeros(2, 1, 8, 8), tmp_path / f"{keep}.onnx", keep=keep))
        for keep in (False, True)
    )
    assert any("fold batch normalisation" in note for note in folded.notes)
    assert not any("fold batch normalisation" in note for note in kept.notes)
