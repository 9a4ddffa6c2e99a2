"""Who works: each worker with its devices and walls, and what waits for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from dash import html

from app.components.badge import STATE_WORDS, run_state_dot
from app.components.card import helped_heads, table_card
from app.components.route_link import route_link
from app.components.state_page import caution
from quant_lens_engine.schema import RunState, WorkerFacts, numbers
from worker.store.capabilities import FETCH_QUEUE

_QUEUE_WORDS = {"runs": "runs", "inspect": "files and checks", FETCH_QUEUE: "models from the hub"}
_QUEUES = {
    "runs": "Messages about runs",
    "inspect": "Files to look at and baseline checks",
    FETCH_QUEUE: "Models to fetch from the hub",
}
_GIB = 2**30
_HEADS = (
    ("Worker", "the machine, and the process' name"), ("Takes", ""), ("State", ""), ("Devices", ""),
    ("Cores", "processors that the machine has"), ("Memory", "of the machine, or of the worker's container"),
    ("Up for", ""), ("Between an upload and the machine", "what was tried at its start, and stood"),
)  # fmt: skip
_NUMERIC = ("Cores", "Memory", "Up for")


def workers_card(workers: Sequence[WorkerFacts]) -> html.Section:
    """One row for each worker that is alive; what is wrong with one stands above."""
    if not workers:
        words = caution("No worker is alive: runs and uploads wait. `quant-lens worker` starts one.")
        return table_card(html.Div(words, className="server-notes"), title="Workers")
    rows = [_row(worker) for worker in workers]
    table = html.Table([helped_heads(_HEADS, _NUMERIC), html.Tbody(rows)], className="data-table server-workers")
    told = [
        caution(f"{worker.hostname or worker.id}: {problem}") for worker in workers for problem in worker.problems
    ]  # fmt: skip
    notes = [html.Div(told, className="server-notes")] if told else []
    sentence = "A file is opened by a fresh process within these walls; quant-lens doctor says how to get more."
    return table_card(html.Div([*notes, table]), title="Workers", sentence=sentence)


def queue_card(lengths: Mapping[str, int], active: Sequence[RunState]) -> html.Section:
    """What waits for a worker, and what is under way."""
    states = Counter(active)
    rows = [html.Tr([html.Td(_QUEUES.get(name, name)), _count(length)]) for name, length in lengths.items()]
    rows += [
        html.Tr(
            [html.Td(route_link([run_state_dot(state), f" {STATE_WORDS[state]} runs"], f"/?state={state}")),
             _count(states[state])]
        )
        for state in ("QUEUED", "RUNNING")
    ]  # fmt: skip
    table = html.Table([helped_heads((("What", ""), ("Waiting", ""))), html.Tbody(rows)], className="data-table")
    return table_card(table, title="Queue", sentence="What no worker has taken yet, and runs that are not over.")


def _no_walls(worker: WorkerFacts) -> str:
    return "opens no file" if worker.queues == [FETCH_QUEUE] else "not tried yet"


def _row(worker: WorkerFacts) -> html.Tr:
    state = [run_state_dot("RUNNING" if worker.state == "busy" else "QUEUED"), worker.state]
    if worker.run_id is not None:
        state = [run_state_dot("RUNNING"), route_link(f"run {worker.run_id}", f"/runs/{worker.run_id}")]
    walls = [html.Span(wall, className="tag") for wall in worker.sandbox]
    return html.Tr(
        [
            html.Td([html.B(worker.hostname or worker.id), html.Span(worker.id, className="delta mono")]),
            html.Td(", ".join(_QUEUE_WORDS.get(queue, queue) for queue in worker.queues)),
            html.Td(html.Span(state, className="server-state")),
            html.Td(", ".join(worker.devices)),
            html.Td(str(worker.cores), className="num"),
            html.Td(f"{worker.memory_bytes / _GIB:.1f} GiB", className="num"),
            html.Td(_up_for(worker.started_at), className="num"),
            html.Td(html.Span(walls or html.Span(_no_walls(worker), className="muted"), className="server-walls")),
        ]
    )


def _up_for(started_at: str) -> str:
    """In whole minutes: seconds would have the page drawn anew each time."""
    if not started_at:
        return numbers.ABSENT
    seconds = (datetime.now(UTC) - datetime.fromisoformat(started_at)).total_seconds()
    return "under a minute" if seconds < 60 else numbers.duration(60 * (seconds // 60))


def _count(value: int) -> html.Td:
    return html.Td(numbers.count(value), className="num")
