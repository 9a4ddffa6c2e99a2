"""Runs side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from app.api.access import StoreOf
from app.compare import RunComparison, compare_runs

router = APIRouter(tags=["compare"])


@router.get("/compare")
def compare(
    runs: Annotated[str, Query(min_length=1, max_length=2000, description="ids, with commas between")],
    store: StoreOf,
    baseline: Annotated[str | None, Query(description="one of the ids; the first where it is left out")] = None,
) -> RunComparison:
    """Metrics of every variant with their differences from the baseline run, and the settings that differ."""
    ids = dict.fromkeys(part for part in runs.split(",") if part)
    return compare_runs([(store.runs.get(run_id), store.results.result(run_id)) for run_id in ids], baseline)
