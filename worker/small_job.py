"""A small job, held by one worker at a time; mostly one question to one fresh engine process, one answer kept."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import ErrorBody
from worker import trust
from worker.answer_check import checked_error
from worker.engine import EngineDied
from worker.questions import Question
from worker.queue import announce_job
from worker.station import Station
from worker.watch import Stopped, answers, error_body


def work_on(station: Station, question: Question) -> None:
    """Ask, and keep the answer. A second message for the same question finds it claimed or answered."""
    hold(station, question.job, lambda _: _ask(station, question), lambda error: question.fail(station.store, error))


def hold(station: Station, job: str, work: Callable[[str], None], fail: Callable[[ErrorBody], None]) -> None:
    """Do a job's work while nobody else can, unless somebody does or it is done.

    Args:
        station: this worker's.
        job: its name.
        work: is given the token by which the job is held. ``Stopped`` gives the job back, ``EngineDied`` counts.
        fail: keeps why it came to nothing, when engine processes died at it too often.
    """
    store, token = station.store, secrets.token_hex(12)
    if not store.jobs.claim(job, token, station.settings.lease_s):
        return
    try:
        with station.holding((job, token)):
            work(token)
    except (Stopped, EngineDied) as reason:
        store.jobs.release(job, token, crashed=isinstance(reason, EngineDied))
        if isinstance(reason, EngineDied) and store.jobs.attempts(job) > station.settings.retries:
            fail(error_body(reason))
            store.jobs.drop(job)
        else:
            announce_job(store, job)
    else:
        store.jobs.finish(job, token)


def _ask(station: Station, question: Question) -> None:
    store = station.store
    try:
        request = question.request(store)
        if request is None:
            return
        question.begin(store)
        until = time.monotonic() + station.settings.inspect_time_limit_s
        engine = station.take_engine()
        try:
            engine.send(trust.foreign_code(station.settings) | dict(request))
            for message in answers(engine, until=until, is_stopped=station.stopping.is_set):
                if message is not None and message["type"] == "answer":
                    question.answer(store, message.get("result"))
                    break
                if message is not None and message["type"] == "failed":
                    question.fail(store, checked_error(message))
                    break
        finally:
            engine.end()
            station.warm_up()
    except EngineDied:
        raise
    except QuantLensError as error:
        question.fail(store, error_body(error))
