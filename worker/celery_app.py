"""The Celery application: every setting of Celery and the broker, each with its reason.

Celery only carries messages. What is to be done, and whether it has been, stands in the run's record.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from worker.settings import Settings, get_settings
from worker.store.errors import StoreUnavailable

_DAY_S = 86400


@cache
def celery_app(settings: Settings) -> Celery:
    """The application for these settings; the same object each time."""
    app = Celery("quant_lens", broker=settings.redis_url or get_settings().redis_url, set_as_current=False)
    app.conf.update(
        # Messages are JSON: a pickle from the broker would be code.
        task_serializer="json",
        accept_content=["json"],
        # No results: the run's record is the truth, a second copy could only disagree.
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # A message is acknowledged when its work is done, so a killed worker's message is delivered again.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        # One at a time: a share of a run fills the machine, and a reserved message is one that nobody else can take.
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        # The task supervises a child process in a thread. Prefork children would outlive a killed parent.
        worker_pool="threads",
        # Off: after a lost connection this setting revokes the running task, and the run with it.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        # Redis may start after us, and may go away and come back at any time.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            # Longer than any task, or a long one would be delivered over and over. The reaper is what brings a dead
            # worker's run back within seconds; a late duplicate finds nothing to claim.
            "visibility_timeout": int(settings.run_time_limit_s * 64) + _DAY_S,
            "unacked_restore_interval": 10,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
        # We have our own heartbeat, and our own events.
        worker_send_task_events=False,
        task_send_sent_event=False,
        event_queue_ttl=60,
        # Remote control (revoke, shutdown over the broker) is a door that nobody needs.
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_create_missing_queues=True,
        task_default_queue="runs",
        timezone="UTC",
    )
    return app


def send(settings: Settings, task: str, arguments: Sequence[Any], queue: str) -> None:
    """Put a message in a queue.

    Raises:
        StoreUnavailable: the broker does not answer.
    """
    try:
        celery_app(settings).send_task(
            task, args=list(arguments), queue=queue, retry=True,
            retry_policy={"max_retries": 4, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1.0},
        )  # fmt: skip
    except OperationalError as error:
        raise StoreUnavailable(
            "the queue does not answer", hint="Redis may be starting again: try once more in a few seconds"
        ) from error
