"""The digits in every format: the same arrays, and a run whose losses are the same to the digit."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from quant_lens_engine.analysis import Workbench
from quant_lens_engine.intake import DATA_FORMATS, read_arrays
from quant_lens_engine.intake.datasets.digits import digits_split
from quant_lens_engine.schema import FLOAT_VARIANT, StageKey, parse_run_spec
from quant_lens_engine.subject import file_sha256

HELD_OUT = digits_split()[1]
X, Y = HELD_OUT.x, HELD_OUT.y
BYTES = (X[:, 0] * 16).astype(np.uint8)
PICTURES = {"layout": "NHW", "scale": 0.0625}


def save_npz(path):
    np.savez(path / "d.npz", x=X, y=Y)
    return path / "d.npz"


def save_npy(path):
    np.save(path / "x.npy", X)
    np.save(path / "y.npy", Y)
    return path


def save_safetensors(path):
    save_file({"x": torch.tensor(X), "y": torch.tensor(Y)}, path / "d")
    return path / "d"


def save_torch(path):
    torch.save((torch.tensor(X), torch.tensor(Y)), path / "d")
    return path / "d"


def flat_columns():
    columns = {f"pixel {place}": X.reshape(len(X), 64)[:, place] for place in range(64)}
    return columns | {"target": Y}


def save_csv(path):
    columns = flat_columns()
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    (path / "d").write_text("\n".join(lines) + "\n")
    return path / "d"


def save_parquet(path):
    pq.write_table(pa.table(flat_columns()), path / "d", row_group_size=100)
    return path / "d"


def save_images(path):
    labels = "".join(f"images/{row:03}.png,{label}\n" for row, label in enumerate(Y))
    with zipfile.ZipFile(path / "d", "w") as archive:
        archive.writestr("digits/labels.csv", "name,label\n" + labels)
        for row, pixels in enumerate(BYTES):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            archive.writestr(f"digits/images/{row:03}.png", stream.getvalue())
    return path / "d"


def save_wav(path):
    form = struct.pack("<HHIIHH", 3, 1, 8000, 32_000, 4, 32)
    for row, samples in enumerate(X.reshape(len(X), 64)):
        body = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 256) + samples.tobytes()
        (path / f"{row:03}.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    (path / "labels.json").write_text(json.dumps({f"{row:03}.wav": int(label) for row, label in enumerate(Y)}))
    return path


def save_huggingface(path):
    table = pa.table({"image": pa.array(BYTES.tolist(), pa.list_(pa.list_(pa.uint8()))), "label": Y})
    with pa.ipc.new_stream(str(path / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return path


FORMATS = {
    "npz": (save_npz, {}), "npy": (save_npy, {}), "safetensors": (save_safetensors, {}), "torch": (save_torch, {}),
    "csv": (save_csv, {}), "parquet": (save_parquet, {}), "wav": (save_wav, {}), "images": (save_images, PICTURES),
    "huggingface": (save_huggingface, PICTURES),
}  # fmt: skip


def losses(source, files=None, transform=None):
    spec = {
        "model": {"example": "digits-mlp"}, "data": source | {"transform": transform or {}},
        "schemes": ["int4", "w8a8"], "execution": {"threads": 1, "device": "cpu"},
    }  # fmt: skip
    bench = Workbench.open(parse_run_spec(spec), files=files or {})
    variants = [bench.run(StageKey("evaluate", name), {}) for name in (FLOAT_VARIANT, "int4", "w8a8")]
    return [(found.evaluation.loss, found.evaluation.accuracy) for found in variants]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = save_npz(tmp_path_factory.mktemp("reference"))
    return losses({"file": "0" * 64}, {"0" * 64: path})


def test_every_format_is_here():
    assert set(FORMATS) == set(DATA_FORMATS) - {"text", "jsonl"}, "those hold texts, not these arrays"


@pytest.mark.parametrize("name", FORMATS)
def test_the_arrays_are_the_same(tmp_path, name):
    save, transform = FORMATS[name]
    found_name, found = read_arrays(save(tmp_path), "theirs")
    assert found_name == name
    np.testing.assert_array_equal(found.y, Y)
    expected = BYTES if transform else X
    np.testing.assert_array_equal(np.asarray(found.x).reshape(expected.shape), expected)
    rows = np.array([5, 77, 359])
    np.testing.assert_array_equal(np.asarray(found.x[rows]).reshape(3, *expected.shape[1:]), expected[rows])


@pytest.mark.parametrize("name", FORMATS)
def test_the_run_has_the_same_losses(tmp_path, reference, name):
    save, transform = FORMATS[name]
    path = save(tmp_path)
    sha256 = file_sha256(path)
    assert losses({"file": sha256}, {sha256: path}, transform) == reference


def test_the_reference_is_the_float_models_loss():
    """Cross-entropy of the example model on these rows, computed by itself."""
    from quant_lens_engine.intake import build_model, choose_architecture, example_path, open_checkpoint

    checkpoint = open_checkpoint(example_path("digits-mlp"))
    model = build_model(checkpoint, choose_architecture(checkpoint, "auto", {}), {})
    with torch.no_grad():
        scores = model(torch.tensor(X)).double()
    expected = -torch.log_softmax(scores, 1)[torch.arange(len(Y)), torch.tensor(Y)].mean().item()
    assert losses({"example": "digits"})[0][0] == pytest.approx(expected, rel=1e-6)
