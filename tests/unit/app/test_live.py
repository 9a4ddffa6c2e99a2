"""The one reader behind all open pages."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from dash.exceptions import WebsocketDisconnected

from app.live import Watch, _follow_page


class Versions:
    """A store whose versions the test turns."""

    def __init__(self) -> None:
        self.now = {"run:a": "1", "run:b": "1"}
        self.asked: list[frozenset[str]] = []
        self.broken = False

    def __call__(self, topics: Collection[str]) -> dict[str, str]:
        self.asked.append(frozenset(topics))
        if self.broken:
            raise OSError("no route to Redis")
        return {topic: self.now[topic] for topic in topics}


def test_many_pages_share_one_read() -> None:
    versions = Versions()

    async def watch_all() -> None:
        watch = Watch(versions, period_s=0.01)
        waiting = [asyncio.create_task(watch.changed(f"run:{'ab'[i % 2]}", "1", timeout_s=5)) for i in range(200)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        versions.now["run:a"] = "2"
        done, _ = await asyncio.wait(waiting, timeout=0.2)
        assert len(done) == 100
        assert {task.result() for task in done} == {"2"}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(watch_all())
    assert set(versions.asked) <= {frozenset({"run:a", "run:b"}), frozenset({"run:b"})}
    assert len(versions.asked) < 60


def test_nobody_waiting_nothing_is_read() -> None:
    versions = Versions()

    async def once() -> int:
        watch = Watch(versions, period_s=0.01)
        assert await watch.changed("run:a", None, timeout_s=1) == "1"
        assert await watch.changed("run:a", "1", timeout_s=0.05) == "1"  # time is up, nothing new
        await asyncio.sleep(0.05)
        asked = len(versions.asked)
        await asyncio.sleep(0.1)
        return len(versions.asked) - asked

    assert asyncio.run(once()) == 0


def test_a_store_that_does_not_answer_is_told_and_comes_back() -> None:
    versions = Versions()

    async def through() -> str | None:
        watch = Watch(versions, period_s=0.01)
        versions.broken = True
        with pytest.raises(ConnectionError):
            await watch.changed("run:a", None, timeout_s=1)
        versions.broken = False
        for _ in range(100):
            try:
                return await watch.changed("run:a", "0", timeout_s=1)
            except ConnectionError:
                await asyncio.sleep(0.01)
        return None

    assert asyncio.run(through()) == "1"


class Page:
    """A browser page at the other end of Dash's websocket."""

    def __init__(self, topics: list[object]) -> None:
        self.topics = topics
        self.is_shutdown = False
        self.told: list[tuple[str, object]] = []

    async def get_prop(self, _: str, __: str, timeout: float) -> object:
        await asyncio.sleep(0)
        answer = self.topics.pop(0) if self.topics else WebsocketDisconnected()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def set_prop_sync(self, component: str, prop: str, value: object) -> None:
        self.told.append((component, value))


def test_a_page_is_told_each_version_once_and_the_new_topic_at_once() -> None:
    page = Page(["run:a", "run:a", "run:b"])
    asyncio.run(_follow_page(page, Watch(Versions(), period_s=0.01)))
    versions = [value for component, value in page.told if component == "live-version"]
    assert versions == [{"topic": "run:a", "version": "1"}, {"topic": "run:b", "version": "1"}]
    assert [value["well"] for component, value in page.told if component == "live-beat"] == [True] * 3  # type: ignore[index]


@pytest.mark.parametrize("end", [TimeoutError(), WebsocketDisconnected()])
def test_following_ends_with_its_page(end: Exception) -> None:
    page = Page(["run:a", end, "run:a"])
    asyncio.run(asyncio.wait_for(_follow_page(page, Watch(Versions(), period_s=0.01)), 5))
    assert page.topics == ["run:a"]
