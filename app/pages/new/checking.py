"""The baseline check beside the form: asked for once a question, then followed until a worker has answered."""

from __future__ import annotations

from typing import Any

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import digest, parse_run_spec
from worker import queue
from worker.store import Store

Check = dict[str, Any]
"""A check as the page keeps it: ``question`` (its hash), ``key``, ``state``, ``result``, ``error``."""


def follow_check(store: Store, question: dict[str, Any] | None, known: Check | None) -> Check | None:
    """The check of a question as it stands; a question that is new is put to a worker.

    Args:
        store: holds the checks.
        question: a RunSpec as JSON; None while the form cannot be run.
        known: what the page knew so far.
    """
    if question is None:
        return None
    name = digest({part: question[part] for part in ("model", "data", "task")})
    if known is not None and known["question"] == name:
        return _read(store, known) if known["state"] in {"waiting", "running"} else known
    try:
        key = queue.check(store, parse_run_spec(question))
    except QuantLensError as error:
        return {"question": name, "key": None, "state": "failed", "result": None, "error": error.as_dict()}
    return _read(store, {"question": name, "key": key, "state": "waiting", "result": None, "error": None})


def _read(store: Store, check: Check) -> Check:
    record = store.checks.find(check["key"])
    if record is None:
        return check
    error = record.error.model_dump(mode="json") if record.error else None
    return {**check, "state": record.state, "result": record.result, "error": error}
