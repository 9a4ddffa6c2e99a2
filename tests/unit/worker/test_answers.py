"""What a hostile engine process says: nothing of it reaches a record unchecked, and nobody waits for it."""

import json
import os
import threading
import time

import pytest

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import CheckpointInspection, DataInspection
from quant_lens_engine.schema.baseline import BaselineCheck
from tests.unit.worker.test_store import add_file, spec
from worker import answer_check, queue
from worker.engine import Engine, EngineDied
from worker.questions import Check, Inspection
from worker.sandbox import Survey
from worker.store import keys


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = {
    "list": [1],
    "nothing": None,
    "wrong type": {"kind": "data", "format": 1, "architecture": 1},
    "nested": {"kind": "data", "format": "npz", "preview": nested(500), "device": nested(500)},
    "long": {"kind": "data", "format": "x" * (answer_check.LONGEST_ANSWER_BYTES + 1), "message": "x" * 2**25},
    "surrogate": {"kind": "data", "format": "\ud800", "message": "\ud800"},
}


@pytest.mark.parametrize("told", HOSTILE.values(), ids=HOSTILE)
def test_an_answer_that_is_no_record_is_refused(told, store, tmp_path):
    sha256 = add_file(store, tmp_path, b"weights")
    key = queue.check(store, spec(model={"file": sha256}))
    for question in (Inspection(sha256), Check(key)):
        with pytest.raises(QuantLensError) as caught:
            question.answer(store, told)
        assert caught.value.code == "invalid_result"
    assert store.files.get(sha256).inspection is None


def test_an_answer_is_kept_without_what_has_no_field(store, tmp_path):
    sha256 = add_file(store, tmp_path, b"weights")
    key = queue.check(store, spec(model={"file": sha256}))
    for found in (CheckpointInspection(format="safetensors"), DataInspection(format="npz", x_min=float("nan"))):
        Inspection(sha256).answer(store, found.model_dump() | {"planted": [1]})
        assert store.files.get(sha256).inspection == json.loads(found.model_dump_json())
    Check(key).answer(store, BaselineCheck(loss=0.5).model_dump() | {"planted": 1})
    assert store.checks.get(key).result == BaselineCheck(loss=0.5).model_dump()


@pytest.mark.parametrize("error", [None, [1], {"code": "x"}, {"code": "x", "message": "y" * 2**17}])
def test_an_error_that_is_none_is_refused(error):
    with pytest.raises(QuantLensError) as caught:
        answer_check.checked_error({"type": "failed", "error": error})
    assert caught.value.code == "invalid_result"


@pytest.mark.parametrize("field", ["inspection", "error"])
@pytest.mark.parametrize("kept", ["[1]", "{", "1", "[" * 10000])
def test_a_record_that_cannot_be_read_leaves_the_list_and_can_be_deleted(field, kept, store, tmp_path):
    good, bad = (add_file(store, tmp_path, content) for content in (b"good", b"bad"))
    store.client.hset(keys.file(bad), field, kept)
    assert {record.sha256 for record in store.files.list()} == {good, bad}
    assert store.files.list(kind="data") == []
    assert store.files.get(bad).error.code == "invalid_result"
    store.jobs.drop(f"inspect:{bad}")
    store.files.delete(bad)
    assert [record.sha256 for record in store.files.list()] == [good]


class Dead:
    stdin = None

    def wait(self, timeout=None):
        return 1


def listening(longest_line=2**20):
    """An engine of which only the listener is there, and the end that its process would write to."""
    engine = Engine.__new__(Engine)
    engine._inbox, engine._longest_line, engine._process = queue_of_messages(), longest_line, Dead()
    engine._survey = Survey((), {})
    read_end, write_end = os.pipe()
    thread = threading.Thread(target=engine._listen, args=(read_end,), daemon=True)
    thread.start()
    return engine, write_end


def queue_of_messages():
    import queue as standard

    return standard.Queue(4)


@pytest.mark.parametrize(
    "line", [b"[" * 100000 + b"\n", b"[1]\n", b"{}\n", b'{"type": 1}\n', b"\xff\n", b"9" * 10000 + b"\n", b"x" * 2**17],
    ids=["nested", "list", "no type", "type", "bytes", "number", "long"],
)  # fmt: skip
def test_who_breaks_the_protocol_is_dead_at_once(line):
    engine, write_end = listening(longest_line=2**17 - 1)
    os.write(write_end, b'{"type": "answer", "result": 1}\n')
    threading.Thread(target=os.write, args=(write_end, line), daemon=True).start()
    began = time.monotonic()
    assert engine.receive(10.0) == {"type": "answer", "result": 1}
    with pytest.raises(EngineDied):
        engine.receive(10.0)
    assert time.monotonic() - began < 5
    os.close(write_end)
