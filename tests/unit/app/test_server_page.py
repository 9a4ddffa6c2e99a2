"""What the Server page says of workers, queue, storage, formats."""

import json

import plotly.utils
import pytest

from app.pages.server.layout import server_layout
from app.pages.server.software import formats_card, versions_card
from app.pages.server.storage import storage_card, users_card
from app.pages.server.workers import queue_card, workers_card
from app.routing import Services, Visit
from quant_lens_engine.schema import Capabilities, FormatFacts, WorkerFacts
from tests.unit.app.words import words
from worker.settings import Settings
from worker.store import User


def test_a_worker_its_walls_and_its_problems() -> None:
    busy = WorkerFacts(
        id="host-runs-1", hostname="host", queues=["runs"], devices=["cuda:0"], cores=8, memory_bytes=2**36,
        state="busy", run_id="abc", started_at="2026-01-01T00:00:00.000Z", sandbox=["fresh process", "seccomp"],
        problems=["uploads are refused, because the sandbox lacks landlock (no kernel)"],
    )  # fmt: skip
    said = words(workers_card([busy, WorkerFacts(id="b", queues=["inspect"])]))
    for part in ("host", "cuda:0", "64.0 GiB", "run abc", "seccomp", "host: uploads are refused", "not tried yet"):
        assert part in said
    assert "/runs/abc" in json.dumps(workers_card([busy]), cls=plotly.utils.PlotlyJSONEncoder)
    assert "No worker is alive" in words(workers_card([]))


def test_the_queue_counts_messages_and_runs() -> None:
    said = words(queue_card({"runs": 2, "inspect": 0}, ["RUNNING", "RUNNING", "QUEUED"]))
    assert [part for part in said.split() if part.isdigit()] == ["2", "0", "1", "2"]


def test_storage_stands_against_its_quotas(tmp_path) -> None:
    settings = Settings(data_dir=tmp_path, quota_bytes=10_000, file_grace_s=86400)
    sizes = {"ana": [2_500, 5_000], "bob": [10]}
    said = words(storage_card(sizes, settings))
    for part in ("ana", "75 %", "bob", "under 1 %", "7.51", "no limit", "a day"):
        assert part in said, said
    all_of_it = settings.model_copy(update={"total_quota_bytes": 7_510})
    assert "100 %" in words(storage_card(sizes, all_of_it))


@pytest.mark.parametrize("engine", ["", "1.2.3"])
def test_versions_and_formats(engine, tmp_path) -> None:
    settings = Settings(data_dir=tmp_path, sandbox_minimum=("landlock",))
    said = words(versions_card(Capabilities(engine_version=engine), settings, "Valkey 9"))
    assert (engine or "no worker has said it yet") in said
    assert "Valkey 9" in said
    assert "landlock" in said
    formats = [FormatFacts(name="npz", kind="data", extensions=[".npz"]), FormatFacts(name="x", kind="checkpoint")]
    said = words(formats_card(formats, trusted=False))
    assert said.index("by content") < said.index(".npz")  # models come first
    assert "programs" not in said


@pytest.mark.parametrize(("trusted", "how", "other"), [(True, "run within the walls", ""), (False, "refused", "walls")])
def test_formats_that_are_code_are_said_to_be_refused_or_run(trusted, how, other) -> None:
    formats = [FormatFacts(name="torchscript", kind="checkpoint", is_code=True), FormatFacts(name="npz", kind="data")]
    said = words(formats_card(formats, trusted=trusted))
    assert f"but for files that are programs, which are {how}" in said
    assert said.count(how) >= 2  # in the sentence and in the row
    assert not other or other not in said
    assert "as data" in said


def test_users_are_listed_with_what_they_may() -> None:
    said = words(users_card([User(name="ana", admin=True, tokens=2), User(name="bob", tokens=1)]))
    assert "administrator" in said
    assert "member" in said


def test_the_page_is_drawn_from_a_store_and_only_administrators_see_users(store) -> None:
    settings = store.settings.model_copy(update={"auth": "token"})
    store.users.create_token("ana", admin=True)
    store.settings.data_dir.mkdir(parents=True, exist_ok=True)

    def drawn(name: str, admin: bool) -> str:
        return words(server_layout(Visit(Services(store, settings), User(name=name, admin=admin))))

    for part in ("No worker is alive", "Queue", "Storage", "Formats", "Versions", "Users and tokens", "Valkey"):
        assert part in drawn("ana", admin=True)
    assert "Users and tokens" not in drawn("bob", admin=False)
