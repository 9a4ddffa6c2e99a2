"""A short part of what ``make fuzz`` does, the same every time, and what fuzzing has found before."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import numpy as np
import pytest

from quant_lens_engine.errors import DataError
from tests.fuzz.judge import MEMORY_BYTES, FoundError, judge

pytest.importorskip("transformers", reason="transformers is not installed: pip install quant-lens[transformers]")
pytest.importorskip("gguf", reason="gguf is not installed: pip install quant-lens[gguf]")

from tests.fuzz.subjects import SUBJECTS, Subject
from tests.fuzz.subjects.language import PAIRS

EXAMPLES = 12


def test_every_subject_for_a_moment(tmp_path):
    """In a process of its own: memory is limited there, and a crash of a library in C would end the tests."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz", "--examples", str(EXAMPLES), "--no-shrink"]
    done = subprocess.run(
        [*command, "--findings", str(tmp_path)], capture_output=True, text=True, timeout=280, check=False
    )  # fmt: skip
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-1500:]}"
    outcomes = dict(re.findall(r"^([\w-]+): .* ({.*})$", done.stdout, re.MULTILINE))
    assert outcomes.keys() == SUBJECTS.keys()


def subject(read, *refusals):
    return Subject(dict, read, refusals)


def test_the_judge_knows_what_may_not_be(tmp_path):
    """Without this a judge that finds nothing would look like readers that are sound."""
    (tmp_path / "x").write_bytes(b"x")

    def fails(error):
        def read(path):
            raise error

        return read

    def slow(path):
        end = time.process_time() + 0.2
        while time.process_time() < end:
            pass

    with pytest.raises(FoundError, match="KeyError"):
        judge(subject(fails(KeyError("x")), DataError), tmp_path / "x")
    with pytest.raises(FoundError, match="RecursionError"):
        judge(subject(fails(RecursionError()), DataError), tmp_path / "x")
    with pytest.raises(FoundError, match="what to do"):
        judge(subject(fails(DataError("no")), DataError), tmp_path / "x")
    with pytest.raises(FoundError, match="path of the server"):
        judge(subject(fails(DataError(f"no {tmp_path}", hint="do")), DataError), tmp_path / "x")
    with pytest.raises(FoundError, match="MiB"):
        judge(subject(lambda path: np.ones(MEMORY_BYTES // 8 + (1 << 20)), DataError), tmp_path / "x")
    with pytest.raises(FoundError, match=r"0\.\d s"):
        judge(subject(slow, DataError), tmp_path / "x", seconds=0.1)
    assert judge(subject(fails(DataError("no", hint="do", code="bad")), DataError), tmp_path / "x") == "bad"


# ---- what was found


def outcome(name, content, tmp_path):
    (tmp_path / "theirs").write_bytes(content)
    return judge(SUBJECTS[name], tmp_path / "theirs")


def test_a_tokenizer_that_contradicts_itself(tmp_path):
    """The library's Rust panics, which is no ``Exception``: the engine process would have ended."""
    template = (
        b'{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "pair": [], '
        b'"special_tokens": {}}'
    )
    broken = PAIRS.replace(b'"post_processor": null', b'"post_processor": ' + template)
    assert outcome("tokenizer", broken, tmp_path) == "bad_tokenizer"


def damaged(content, member):
    """The zip with one byte of a member changed, so that its checksum is another."""
    place = content.index(b"{", content.index(member))
    return content[: place + 1] + b" " + content[place + 2 :]


@pytest.mark.parametrize(
    ("name", "member"),
    [("sharded-safetensors", b"model.safetensors.index.json"), ("hugging-face", b"tokenizer.json"),
     ("hugging-face", b"config.json"), ("adapter", b"adapter_config.json")],
)  # fmt: skip
def test_a_zip_whose_member_is_not_what_its_checksum_says(tmp_path, name, member):
    """zipfile's own error came through: reading the tensors, which lie in the archive as they are, checks no sum."""
    content = next(content for content in SUBJECTS[name].seeds().values() if member in content)
    assert outcome(name, damaged(content, member), tmp_path) == "bad_zip"


@pytest.mark.parametrize("value", [b"qih5Z6LLnB0", b"\xe9"])
def test_an_upload_whose_metadata_is_no_base64(tmp_path, value):
    """The first refusal did not say what to send; the second, no ASCII, was a fault of the server."""
    assert outcome("upload-metadata", b"filename " + value, tmp_path) == "bad_metadata"


def test_a_scheme_of_five_thousand_letters(tmp_path):
    """The answer repeated all of them, twice."""
    assert outcome("recipe", b"9" * 5000, tmp_path) == "unknown_scheme"
