"""The view and the address are two forms of one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.view_state import CompareView, RunsView

IDS = st.text("abcdefgh23456789", min_size=1, max_size=12)
SEARCHES = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40).map(str.strip)


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40).map(str.strip),
    st.sampled_from(["DONE", "ARCHIVED", None]),
)
def test_a_runs_view_comes_back_from_its_address(q: str, state: str | None) -> None:
    view = RunsView(q, state, "sharpest")  # type: ignore[arg-type]
    assert RunsView.from_search(view.search()) == view


@given(st.lists(IDS, min_size=1, max_size=6, unique=True), st.data())
def test_a_comparison_comes_back_from_its_address(ids: list[str], data: st.DataObject) -> None:
    view = CompareView(tuple(ids), data.draw(st.sampled_from(ids)), data.draw(st.none() | st.just("4-bit")), "deployed",
                       "linear", "symlog", "to:int8~random", "surface")  # fmt: skip
    assert CompareView.from_search(view.search()) == view


@pytest.mark.parametrize("search", ["", "?", "?state=nope&show=all&q=", "?landscape=up", "?density=up&lambda=log"])
def test_what_means_nothing_is_the_default(search: str) -> None:
    assert RunsView.from_search(search) == RunsView()
    assert CompareView.from_search(search) == CompareView()


def test_a_default_stays_out_of_the_address() -> None:
    assert RunsView().search() == ""
    assert CompareView(("a", "b"), "a").search() == "?runs=a,b&baseline=a"


def test_a_run_that_joins_or_leaves_keeps_the_axes() -> None:
    view = CompareView(("a", "b"), "a", horizontal="symlog")
    assert view.with_run("c").without_run("a") == CompareView(("b", "c"), "b", horizontal="symlog")


def test_a_baseline_that_is_not_compared_is_the_first_run() -> None:
    assert CompareView.from_search("?runs=a,b&baseline=c").baseline == "a"


def test_runs_join_and_leave() -> None:
    view = CompareView(("a", "b"), "a")
    assert view.with_run("c").runs == ("a", "b", "c")
    assert view.with_run("b") == view
    assert view.without_run("a") == CompareView(("b",), "b")
    assert view.without_run("a").without_run("b") == CompareView()
