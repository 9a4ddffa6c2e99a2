"""An inspection or a baseline check: one question to one fresh engine process, one answer kept."""

from __future__ import annotations

import secrets
import time

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import ErrorBody
from worker.engine import EngineDied
from worker.questions import Question
from worker.queue import announce_job
from worker.station import Station
from worker.watch import Stopped, answers, error_body


def work_on(station: Station, question: Question) -> None:
    """Ask, and keep the answer. A second message for the same question finds it claimed or answered."""
    store, job, token = station.store, question.job, secrets.token_hex(12)
    if not store.jobs.claim(job, token, station.settings.lease_s):
        return
    try:
        with station.holding((job, token)):
            _ask(station, question)
    except (Stopped, EngineDied) as reason:
        store.jobs.release(job, token, crashed=isinstance(reason, EngineDied))
        if isinstance(reason, EngineDied) and store.jobs.attempts(job) > station.settings.retries:
            question.fail(store, error_body(reason))
            store.jobs.drop(job)
        else:
            announce_job(store, job)
    else:
        store.jobs.finish(job, token)


def _ask(station: Station, question: Question) -> None:
    store, plugins = station.store, station.settings.plugins
    try:
        request = question.request(store, None if plugins is None else str(plugins.absolute()))
        if request is None:
            return
        question.begin(store)
        until = time.monotonic() + station.settings.inspect_time_limit_s
        engine = station.take_engine()
        try:
            engine.send(request)
            for message in answers(engine, until=until, is_stopped=station.stopping.is_set):
                if message is not None and message["type"] == "answer":
                    question.answer(store, message["result"])
                    break
                if message is not None and message["type"] == "failed":
                    question.fail(store, ErrorBody.model_validate(message["error"]))
                    break
        finally:
            engine.end()
            station.warm_up()
    except EngineDied:
        raise
    except QuantLensError as error:
        question.fail(store, error_body(error))
