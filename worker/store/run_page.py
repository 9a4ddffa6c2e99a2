"""One page of the runs table: search, sort, cursor. Pure but for :func:`read_rows`."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from quant_lens_engine.schema import Record, RunRecord
from worker.store import keys
from worker.store.connection import Client
from worker.store.errors import BadQuery
from worker.store.search import parse_search, search_facts

Row: TypeAlias = dict[str, Any]
"""What searching and sorting need of a run."""

SORT_FIELDS = ("created_at", "finished_at", "name", "owner", "state")
_FIELDS = ("id", "name", "owner", "state", "tags", "archived", "created_at", "finished_at", "spec")
PAGE_LIMIT = 500


class RunPage(Record):
    """Some runs, in order; ``next_cursor`` gives the page after, ``total`` counts all that the search selects."""

    items: list[RunRecord] = []
    next_cursor: str | None = None
    total: int = 0


def read_rows(client: Client) -> list[Row]:
    """Every run, with only what searching and sorting need, in one round trip after the ids."""
    with client.pipeline(transaction=False) as pipe:
        for run_id in client.zrange(keys.RUNS, 0, -1):
            pipe.hmget(keys.run(run_id), _FIELDS)
        answers = pipe.execute()
    rows = [dict(zip(_FIELDS, answer, strict=True)) for answer in answers]
    return [_parsed(row) for row in rows if row["id"] is not None]


def select(
    rows: Sequence[Row], *, q: str = "", state: str | None = None, tag: str | None = None, archived: bool = False
) -> list[Row]:
    """The rows that the search and the filters let through."""
    condition = parse_search(q)
    return [
        row
        for row in rows
        if row["archived"] == archived
        and (state is None or row["state"] == state)
        and (tag is None or tag in row["tags"])
        and condition(search_facts(row, row["spec"]))
    ]


def page_of(rows: Sequence[Row], *, sort: str, cursor: str | None, limit: int) -> tuple[list[str], str | None]:
    """Ids of one page, and the cursor of the next. A cursor names its last row's place, so new runs move nothing."""
    field, descending = sort.lstrip("-"), sort.startswith("-")
    if field not in SORT_FIELDS:
        raise BadQuery(f"runs cannot be sorted by {field!r}", hint=f"sort by {', '.join(SORT_FIELDS)}, - in front")
    places = sorted(((_place(row, field), row["id"]) for row in rows), reverse=descending)
    if cursor is not None:
        last = _place_of_cursor(cursor, sort)
        places = [place for place in places if (place < last if descending else place > last)]
    limit = min(max(limit, 1), PAGE_LIMIT)
    chosen = places[:limit]
    more = len(places) > limit
    return [run_id for _, run_id in chosen], _cursor(chosen[-1], sort) if more else None


def _parsed(row: Mapping[str, str | None]) -> Row:
    return {
        **row,
        "tags": json.loads(row["tags"] or "[]"),
        "archived": row["archived"] == "1",
        "created_at": float(row["created_at"] or 0),
        "finished_at": float(row["finished_at"] or 0),
        "spec": json.loads(row["spec"] or "{}"),
    }


def _place(row: Row, field: str) -> list[Any]:
    value = row[field]
    return [value.lower() if isinstance(value, str) else value, row["created_at"]]


def _cursor(place: tuple[list[Any], str], sort: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([sort, *place]).encode()).decode().rstrip("=")


def _place_of_cursor(cursor: str, sort: str) -> tuple[list[Any], str]:
    try:
        decoded = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        cursor_sort, (value, created_at), run_id = decoded
    except (ValueError, TypeError, binascii.Error):
        raise BadQuery("the cursor is not one of ours", hint="use next_cursor of the page before") from None
    text_field = sort.lstrip("-") in {"name", "owner", "state"}
    if cursor_sort != sort or isinstance(value, str) != text_field or not isinstance(created_at, int | float):
        raise BadQuery("the cursor belongs to another sort order", hint="begin again without a cursor")
    return [value, float(created_at)], str(run_id)
