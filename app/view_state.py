"""The view is in the address: what a page shows, as query parameters that people can read, and back.

A parameter that means nothing keeps its default: an old link still opens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args
from urllib.parse import urlencode

from app.routing import parse_query
from quant_lens_engine.figures.compare_planes import PlaneView
from quant_lens_engine.figures.density import DensityScale
from quant_lens_engine.figures.lambda_axis import LambdaScale
from quant_lens_engine.schema import Landscape, RunState

Shown = Literal["smallest", "smallest-safe", "sharpest"]
StateFilter = RunState | Literal["ARCHIVED"]


@dataclass(frozen=True)
class RunsView:
    """The runs table: search, state, and which variant's numbers stand in its columns."""

    q: str = ""
    state: StateFilter | None = None
    show: Shown = "smallest"

    @classmethod
    def from_search(cls, search: str) -> RunsView:
        """The view of an address's query.

        Example:
            >>> RunsView.from_search("?q=tag%3Aprod&state=done").state
            'DONE'
        """
        query = parse_query(search)
        state = query.get("state", "").upper()
        show = query.get("show", "")
        return cls(
            q=query.get("q", ""),
            state=state if state in {*get_args(RunState), "ARCHIVED"} else None,  # type: ignore[arg-type]  # checked here
            show=show if show in get_args(Shown) else "smallest",  # type: ignore[arg-type]  # checked here
        )

    def search(self) -> str:
        """The query of this view; defaults are left out.

        Example:
            >>> RunsView(q="tag:prod", state="DONE").search()
            '?q=tag:prod&state=done'
        """
        said = {
            "q": self.q.strip(),
            "state": (self.state or "").lower(),
            "show": "" if self.show == "smallest" else self.show,
        }
        return _query(said)

    @property
    def filtered(self) -> bool:
        """Whether runs may be hidden."""
        return bool(self.q.strip()) or self.state is not None


@dataclass(frozen=True)
class CompareView:
    """A comparison: the runs in their order, the baseline, which variant of each, which landscape, and the axes of the
    densities (``density`` the vertical one, ``horizontal`` that of λ), which pair of directions the planes are along
    and how they are drawn (``planes``)."""

    runs: tuple[str, ...] = ()
    baseline: str | None = None
    variant: str | None = None
    landscape: Landscape = "smooth"
    density: DensityScale = "log"
    horizontal: LambdaScale = "linear"
    pair: str = ""
    planes: PlaneView = "flat"

    @classmethod
    def from_search(cls, search: str) -> CompareView:
        """The view of an address's query.

        Example:
            >>> CompareView.from_search("?runs=a,b,a&baseline=b").runs
            ('a', 'b')
        """
        query = parse_query(search)
        runs = tuple(dict.fromkeys(part.strip() for part in query.get("runs", "").split(",") if part.strip()))
        baseline = query.get("baseline")
        return cls(
            runs=runs,
            baseline=baseline if baseline in runs else (runs[0] if runs else None),
            variant=query.get("variant") or None,
            landscape="deployed" if query.get("landscape") == "deployed" else "smooth",
            density="linear" if query.get("density") == "linear" else "log",
            horizontal="symlog" if query.get("lambda") == "symlog" else "linear",
            pair=query.get("pair", ""),
            planes="surface" if query.get("planes") == "surface" else "flat",
        )

    def search(self) -> str:
        """The query of this view.

        Example:
            >>> CompareView(("a", "b"), "a").search()
            '?runs=a,b&baseline=a'
        """
        said = {
            "runs": ",".join(self.runs),
            "baseline": self.baseline or "",
            "variant": self.variant or "",
            "landscape": "" if self.landscape == "smooth" else self.landscape,
            "density": "" if self.density == "log" else self.density,
            "lambda": "" if self.horizontal == "linear" else self.horizontal,
            "pair": self.pair,
            "planes": "" if self.planes == "flat" else self.planes,
        }
        return _query(said)

    def with_run(self, run_id: str) -> CompareView:
        """One run more."""
        runs = self.runs if run_id in self.runs else (*self.runs, run_id)
        return replace(self, runs=runs, baseline=self.baseline or run_id)

    def without_run(self, run_id: str) -> CompareView:
        """One run less; the first of the others becomes the baseline where it was that."""
        runs = tuple(item for item in self.runs if item != run_id)
        baseline = self.baseline if self.baseline in runs else (runs[0] if runs else None)
        return replace(self, runs=runs, baseline=baseline)


def _query(said: dict[str, str]) -> str:
    text = urlencode({key: value for key, value in said.items() if value}, safe=":,*~")
    return f"?{text}" if text else ""
