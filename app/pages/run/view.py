"""A run's page as sections, each with a key that changes when, and only when, what it shows has changed.

A browser is sent only the sections whose key differs from the one it has: an open disclosure, a zoomed chart or a
text that is being selected in any other section stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.components import chart_data
from app.pages.run.activations import ACTIVATION_CHARTS, reestimation_card, why_no_activations
from app.pages.run.failure import failure_view
from app.pages.run.header import run_head
from app.pages.run.landscape import LANDSCAPE_CHARTS, why_no_landscape
from app.pages.run.landscape_controls import drawing_options
from app.pages.run.landscape_tables import basin_table, points_table
from app.pages.run.settings import settings_view
from app.pages.run.spectrum import numbers_card, why_nothing
from app.pages.run.stages import stage_card, stage_strip
from app.pages.run.variants import variants_card
from app.pages.run.verdict import failures_card, verdict_card
from quant_lens_engine.figures import Drawing, draw_both, variant_styles
from quant_lens_engine.schema import FLOAT_VARIANT, TERMINAL_STATES, AlgorithmFacts, RunRecord, RunResult, digest
from worker.store import Store

SECTIONS = ("head", "strip", "progress", "failure", "verdict", "variants", "failures", "points", "basins", "spectrum",
            "batchnorm", "settings")  # fmt: skip
CHARTS: dict[str, dict[str, str]] = {
    "sharpness": {},
    "lines": {"landscape": "run-landscape"},
    "density": {"scale": "run-density", "horizontal": "run-lambda"},
    "eigenvalues": {},
    "convergence": {},
    "layer-curvature": {"measure": "run-layers"},
    **LANDSCAPE_CHARTS,
    **ACTIVATION_CHARTS,
}
"""The charts of every tab; of each the options that a switch of the page sets, and the switch."""
OVERVIEW_CHARTS = ("sharpness", "lines")
_DRAWS = {"landscape-lines": "lines"}
"""The chart of a card, where it is not called like the card."""


@dataclass(frozen=True)
class RunView:
    """What a page needs of a run, read at one moment; ``pair`` is the pair of directions that it shows."""

    record: RunRecord
    result: RunResult
    inspection: dict[str, Any] | None
    waiting_for: str
    may_change: bool
    algorithms: tuple[AlgorithmFacts, ...] = ()
    pair: str = ""

    @property
    def ended(self) -> bool:
        """Whether the run is in a terminal state."""
        return self.record.state in TERMINAL_STATES

    @property
    def committed(self) -> str:
        """A key of what is finished: it changes with every stage that is committed or fails."""
        stages = self.record.progress.stages
        still = [[str(item.key), item.state if item.state in {"done", "failed"} else ""] for item in stages]
        return digest([self.record.state, still, len(self.record.failures)])[:16]

    def keys(self) -> dict[str, str]:
        """The present key of every section."""
        record, done = self.record, self.committed
        said = digest([record.state, record.name, record.tags, record.note, record.archived, self.may_change])[:12]
        found = dict.fromkeys(SECTIONS, done)
        found["head"] = f"{said}.{self.result.model.architecture}.{self.result.data.samples}"
        found["progress"] = "ended" if self.ended else f"{record.version}.{self.waiting_for}"
        found["strip"] = done if self.ended else ""
        found["points"] = f"{done}.{self.pair}"
        found["settings"] = f"{self.result.model.sha256}.{record.state}"
        return found

    def draw(self, section: str) -> Any:
        """The children of a section."""
        return _DRAWN[section](self)

    def chart(self, name: str, **options: Any) -> dict[str, Any]:
        """The data of a chart."""
        view = options.pop("view", "both")
        if name in LANDSCAPE_CHARTS:
            options = drawing_options(options)
        if "variant" in options and name in LANDSCAPE_CHARTS:
            options["variant"] = options["variant"] or FLOAT_VARIANT
        drawn = _DRAWS.get(name, name)
        drawing = draw_both(drawn, self.result, **options) if view == "both" else Drawing(drawn, "")
        if name in LANDSCAPE_CHARTS:
            nothing = why_no_landscape(name, self.result, self.record, view, self.ended)
        elif name in ACTIVATION_CHARTS:
            nothing = why_no_activations(name, self.result, self.record, self.ended)
        else:
            nothing = why_nothing(name, self.result) if self.ended else ""
        return chart_data(drawing, f"{name}-{self.record.id}", nothing=nothing)


def read_view(store: Store, run_id: str, user_name: str, admin: bool, pair: str = "") -> RunView:
    """The run as it stands.

    Raises:
        NotFound: there is no such run.
    """
    record = store.runs.get(run_id)
    file = record.spec.get("model", {}).get("file")
    stored = store.files.find(file) if file and record.state == "FAILED" else None
    return RunView(
        record=record,
        result=store.results.result(run_id),
        inspection=stored.inspection if stored else None,
        waiting_for=_waiting_for(store) if record.state == "QUEUED" else "",
        may_change=admin or record.owner == user_name,
        algorithms=tuple(store.capabilities.read().algorithms),
        pair=pair,
    )


def _waiting_for(store: Store) -> str:
    workers = [worker for worker in store.capabilities.workers() if "runs" in worker.queues or not worker.queues]
    if not workers:
        return "no worker is alive: the run starts when one is there"
    return "a worker takes it next" if any(worker.run_id is None for worker in workers) else "waits for a free worker"


def _draw_progress(view: RunView) -> Any:
    if view.ended:
        return None
    return stage_card(view.record, variant_styles(view.result.variants), view.waiting_for)


def _draw_strip(view: RunView) -> Any:
    if not view.ended or view.record.state == "FAILED":
        return None
    products = sum(variant.curvature.hvps for variant in view.result.variants if variant.curvature)
    return stage_strip(view.record, products)


def _draw_variants(view: RunView) -> Any:
    nothing = all(variant.evaluation is None for variant in view.result.variants)
    if view.ended and nothing:
        return None
    return variants_card(view.record, view.result, variant_styles(view.result.variants), view.algorithms)


_DRAWN: dict[str, Callable[[RunView], Any]] = {
    "head": lambda view: run_head(view.record, view.result, may_change=view.may_change),
    "strip": _draw_strip,
    "progress": _draw_progress,
    "failure": lambda view: failure_view(view.record, view.inspection),
    "verdict": lambda view: verdict_card(view.result, variant_styles(view.result.variants)),
    "variants": _draw_variants,
    "failures": lambda view: failures_card(view.record),
    "points": lambda view: points_table(view.result, variant_styles(view.result.variants), view.pair),
    "basins": lambda view: basin_table(view.result, variant_styles(view.result.variants)),
    "spectrum": lambda view: numbers_card(view.record, view.result, variant_styles(view.result.variants)),
    "batchnorm": lambda view: reestimation_card(view.record, view.result, variant_styles(view.result.variants)),
    "settings": lambda view: settings_view(view.record, view.result),
}
