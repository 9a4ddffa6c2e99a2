"""What Prometheus sees: requests as they are answered, and the runs, queues and workers when it asks."""

from __future__ import annotations

import contextlib
import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import RunState
from worker.store import NotFound, Store


class StoreMeasurements(Collector):
    """Runs, queues and workers, read from the store at each scrape; nothing where the store does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """The gauges as they stand."""
        answers = GaugeMetricFamily("quant_lens_store_up", "1 when the store answers.")
        try:
            states = Tally(self._active_states())
            workers = Tally(worker.state for worker in self._store.capabilities.read().workers)
            queues = self._store.capabilities.queue_lengths()
        except (QuantLensError, RedisError, OSError):
            answers.add_metric([], 0)
            yield answers
            return
        answers.add_metric([], 1)
        yield answers
        yield _gauge("quant_lens_active_runs", "Runs that have not ended.", "state", states)
        yield _gauge("quant_lens_workers", "Workers that are alive.", "state", workers)
        yield _gauge("quant_lens_queue_length", "Messages that wait for a worker.", "queue", queues)

    def _active_states(self) -> Iterator[RunState]:
        for run_id in self._store.runs.active():
            with contextlib.suppress(NotFound):  # it may be deleted meanwhile
                yield self._store.runs.get(run_id).state


class RequestMeasurements:
    """ASGI middleware that counts and times requests by the route's template, never by its path."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "quant_lens_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "quant_lens_request_seconds", "Time to the start of the answer.", ["method", "route"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and measure its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = _template(scope)
                self._requests.labels(scope["method"], route, message["status"]).inc()
                self._seconds.labels(scope["method"], route).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, measured)


def _template(scope: Scope) -> str:
    """The path with its parameters' names in place of their values; one word for what no route took."""
    if "route" not in scope:
        return "other"
    template: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        template = template.replace(str(value), f"{{{name}}}") if value else template
    return template


def _gauge(name: str, description: str, label: str, values: Mapping[Any, int]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, description, labels=[label])
    for value, count in values.items():
        gauge.add_metric([value], count)
    return gauge
