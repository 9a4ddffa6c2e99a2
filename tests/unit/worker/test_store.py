"""The store on a real server: runs, files, users, jobs, capabilities."""

import asyncio
import copy
import hashlib
import shutil

import pytest

from quant_lens_engine.errors import InputError, SpecError
from quant_lens_engine.schema import Capabilities, CheckpointInspection, ErrorBody, RunSpec, WorkerFacts
from worker import queue
from worker.room import check_room
from worker.settings import Settings
from worker.store import BadQuery, CheckRecord, Conflict, NotFound, StoreUnavailable, keys, open_store
from worker.store.upload_sidecar import Sidecar


def spec(**changes) -> RunSpec:
    return RunSpec.model_validate(
        {"model": {"example": "digits-mlp"}, "data": {"example": "digits"}, "schemes": ["int8"], **changes}
    )


def add_file(store, tmp_path, content: bytes, owner="ana", filename="model.pt") -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    source = tmp_path / f"upload-{sha256[:8]}"
    source.write_bytes(content)
    store.files.add(source, sha256, filename, owner)
    assert not source.exists()
    return sha256


class TestRuns:
    def test_a_new_run_is_queued_with_its_stages(self, store):
        run = store.runs.create(spec(name="mine"), "ana")
        assert (run.state, run.name, run.owner, run.attempt, run.version) == ("QUEUED", "mine", "ana", 0, 1)
        assert run.progress.stages_total == 12 + 14, "a plane of 41 rows comes in pieces of 3"
        assert run.created_at.endswith("Z")
        assert RunSpec.model_validate(run.spec) == spec(name="mine")

    def test_an_unknown_run_is_not_found(self, store):
        for ask in (store.runs.get, store.runs.version, store.runs.delete, store.runs.request_cancel,
                    store.results.result, store.events.read, store.runs.edit):  # fmt: skip
            with pytest.raises(NotFound):
                ask("nowhere")

    def test_an_edit_changes_what_is_named_and_the_version(self, store):
        run = store.runs.create(spec(name="mine"), "ana")
        edited = store.runs.edit(run.id, tags=["prod", " prod", "", "b"], note="why")
        assert (edited.name, edited.tags, edited.note, edited.archived) == ("mine", ["prod", "b"], "why", False)
        assert store.runs.version(run.id) == edited.version > run.version
        assert store.runs.edit(run.id, archived=True).archived
        assert store.runs.edit(run.id, name="", tags=[]).tags == []

    @pytest.mark.parametrize(
        "change",
        [{"name": "n" * 201}, {"note": "n" * 10_001}, {"tags": ["t" * 51]}, {"tags": list(map(str, range(21)))}],
    )
    def test_an_edit_that_is_too_long_is_refused(self, store, change):
        run = store.runs.create(spec(), "ana")
        with pytest.raises(InputError) as caught:
            store.runs.edit(run.id, **change)
        assert caught.value.code == "bad_edit"

    def test_only_an_ended_run_is_deleted_and_leaves_nothing(self, store):
        run = store.runs.create(spec(), "ana")
        with pytest.raises(Conflict):
            store.runs.delete(run.id)
        store.runs.request_cancel(run.id)
        store.runs.delete(run.id)
        assert [key for key in store.client.keys("*") if run.id in key] == []
        assert store.runs.page().total == 0

    def test_cancel_ends_a_run_once(self, store):
        run = store.runs.create(spec(), "ana")
        first = store.runs.request_cancel(run.id)
        assert (first.state, first.finished_at is not None) == ("CANCELLED", True)
        assert store.runs.request_cancel(run.id).finished_at == first.finished_at
        states = [event.data["state"] for event in store.events.read(run.id)]
        assert states == ["QUEUED", "CANCELLED"]
        assert store.runs.active() == []

    def test_a_result_is_there_from_the_start(self, store):
        run = store.runs.create(spec(), "ana")
        result = store.results.result(run.id)
        assert [variant.name for variant in result.variants] == ["FP32", "int8"]
        assert result.variants[0].evaluation is None
        assert store.results.summaries([run.id, "nowhere"])[run.id].variants[0].verdict is None

    def test_retry_needs_an_ended_run(self, store):
        run = store.runs.create(spec(), "ana")
        with pytest.raises(Conflict):
            queue.retry(store, run.id, "ana")


class TestPages:
    @pytest.fixture
    def names(self, store):
        for name in ("b", "a", "d", "c", "e"):
            store.runs.create(spec(name=name), "ana")
        return lambda **asked: [run.name for run in store.runs.page(**asked).items]

    def test_newest_first(self, names):
        assert names() == ["e", "c", "d", "a", "b"]

    @pytest.mark.parametrize(("sort", "expected"), [("name", "abcde"), ("-name", "edcba"), ("created_at", "badce")])
    def test_sorted(self, names, sort, expected):
        assert "".join(names(sort=sort)) == expected

    def test_pages_join_without_gap_or_repeat_while_runs_arrive(self, store, names):
        seen, cursor = [], None
        while True:
            page = store.runs.page(limit=2, cursor=cursor)
            seen += [run.name for run in page.items]
            if (cursor := page.next_cursor) is None:
                break
            store.runs.create(spec(name="new"), "ana")
        assert seen == names()[-5:] == ["e", "c", "d", "a", "b"]

    def test_filters_and_total(self, store, names):
        [run] = store.runs.page("name:c").items
        store.runs.edit(run.id, tags=["prod"], archived=True)
        assert store.runs.page().total == 4
        assert names(archived=True, tag="prod") == ["c"]
        assert names(state="DONE") == []
        assert store.runs.page("int8", limit=1).total == 4

    @pytest.mark.parametrize("asked", [{"sort": "colour"}, {"cursor": "nonsense"}, {"q": "("}])
    def test_what_is_not_understood_is_a_bad_query(self, names, asked):
        with pytest.raises(BadQuery):
            names(**asked)

    def test_a_cursor_belongs_to_its_order(self, store, names):
        cursor = store.runs.page(limit=1).next_cursor
        with pytest.raises(BadQuery):
            names(cursor=cursor, sort="name")


class TestEvents:
    def test_reading_goes_on_after_the_last_seen(self, store):
        run = store.runs.create(spec(), "ana")
        [first] = store.events.read(run.id)
        store.runs.edit(run.id, note="x")
        [second] = store.events.read(run.id, after=first.id)
        assert (first.kind, second.kind, second.data) == ("state", "edit", {"note": "x"})
        with pytest.raises(InputError, match="not an event's id"):
            store.events.read(run.id, after="yesterday")

    @pytest.mark.slow
    def test_following_ends_with_the_run(self, store):
        run = store.runs.create(spec(), "ana")

        async def follow():
            async def cancel():
                await asyncio.sleep(0.2)
                store.runs.request_cancel(run.id)

            task = asyncio.create_task(cancel())
            states = [event.data["state"] async for event in store.events.follow(run.id)]
            await task
            return states, [event async for event in store.events.follow(run.id, store.events.read(run.id)[-1].id)]

        assert asyncio.run(asyncio.wait_for(follow(), 20)) == (["QUEUED", "CANCELLED"], [])


class TestRoom:
    """What a file that is about to come is held against, wherever it comes from."""

    def code(self, store, size, disk_bytes=None, besides="", **limits) -> str | None:
        limited = copy.copy(store)
        limited.settings = store.settings.model_copy(update=limits)
        try:
            check_room(limited, "ana", size, besides=besides, disk_bytes=disk_bytes)
        except InputError as error:
            return error.code
        return None

    def test_limits_are_met_exactly_and_not_passed(self, store, tmp_path):
        add_file(store, tmp_path, b"1234567890")
        add_file(store, tmp_path, b"abcde", owner="ben")
        assert self.code(store, 5, max_upload_bytes=5, quota_bytes=15, total_quota_bytes=20) is None
        assert self.code(store, 6, max_upload_bytes=5) == "too_large"
        assert self.code(store, 6, quota_bytes=15) == "quota_exceeded"
        assert self.code(store, 6, total_quota_bytes=20) == "quota_exceeded"

    def test_what_was_announced_counts_for_its_owner(self, store):
        store.settings.uploads_dir.mkdir(parents=True)
        for name, owner, ended in (("a", "ana", None), ("b", "ben", None), ("c", "ana", "0" * 64)):
            sidecar = Sidecar(owner=owner, info={"size": 7}, sha256=ended)
            (store.settings.uploads_dir / f"{name}.json").write_text(sidecar.model_dump_json())
        (store.settings.uploads_dir / "d.json").write_text("{")  # being written
        assert self.code(store, 5, quota_bytes=12, total_quota_bytes=19) is None
        assert self.code(store, 6, quota_bytes=12) == "quota_exceeded"
        assert self.code(store, 6, total_quota_bytes=19) == "quota_exceeded"

    def test_what_comes_from_the_hub_counts_while_it_comes_and_what_is_kept_of_it_after(self, store):
        store.settings.data_dir.mkdir(exist_ok=True)
        key = store.fetches.begin("o/n", "main", "ana").key
        store.fetches.change(key, bytes_total=7)
        assert self.code(store, 5, quota_bytes=12) is None
        assert self.code(store, 6, quota_bytes=12) == "quota_exceeded"
        assert self.code(store, 12, quota_bytes=12, besides=key) is None
        store.fetches.fail(key, ErrorBody(code="hub_unreachable", message=""), bytes_kept=3)
        assert self.code(store, 9, quota_bytes=12) is None
        assert self.code(store, 10, quota_bytes=12) == "quota_exceeded"

    def test_the_disk_must_hold_it_while_it_comes(self, store):
        store.settings.data_dir.mkdir(exist_ok=True)
        free = shutil.disk_usage(store.settings.data_dir).free
        limits = {"max_upload_bytes": 4 * free, "quota_bytes": 4 * free}
        assert self.code(store, 2 * free, **limits) == "disk_full"
        assert self.code(store, free // 4, **limits) is None
        assert self.code(store, free // 4, disk_bytes=2 * free, **limits) == "disk_full"


class TestFetches:
    def test_the_same_question_is_one_fetch_until_it_has_ended(self, store):
        first = store.fetches.begin("o/n", "main", "ana")
        store.fetches.change(first.key, state="running", bytes_total=70)
        assert store.fetches.begin("o/n", "main", "ana").state == "running"
        assert store.fetches.begin("o/n", "main", "ben").key != first.key
        store.fetches.change(first.key, state="done", sha256="ab")
        assert store.fetches.begin("o/n", "main", "ana").state == "waiting"

    def test_a_cancelled_one_is_not_brought_back_by_news(self, store):
        key = store.fetches.begin("o/n", "main", "ana").key
        queue.cancel_fetch(store, key)
        store.fetches.change(key, state="running")
        assert store.fetches.find(key) is None
        with pytest.raises(NotFound):
            store.fetches.get(key)

    def test_what_is_on_the_way_counts_for_its_owner(self, store):
        mine, others = (store.fetches.begin("o/n", "main", owner).key for owner in ("ana", "ben"))
        for key, size in ((mine, 70), (others, 5)):
            store.fetches.change(key, bytes_total=size)
        assert [store.fetches.promised_bytes(owner) for owner in ("ana", "ben", "eve", None)] == [70, 5, 0, 75]
        assert store.fetches.promised_bytes("ana", besides=mine) == 0
        queue.cancel_fetch(store, mine)
        assert store.fetches.promised_bytes() == 5
        store.fetches.change(others, state="done")
        assert store.fetches.promised_bytes() == 0

    def test_an_owner_has_so_many_at_once_and_keeps_nobody_else_waiting(self, store):
        begun = [store.fetches.begin("o/n", f"v{number}", "ana").key for number in range(4)]
        with pytest.raises(InputError) as caught:
            store.fetches.begin("o/n", "v4", "ana")
        assert caught.value.code == "too_many_fetches"
        assert store.fetches.begin("o/n", "v3", "ana").key == begun[3]  # the same question is no other fetch
        assert store.fetches.begin("o/n", "v4", "ben")
        store.fetches.change(begun[0], state="done")
        store.fetches.remove(begun[1])
        assert store.fetches.begin("o/n", "v4", "ana")
        assert store.fetches.begin("o/n", "v5", "ana")
        with pytest.raises(InputError):
            store.fetches.begin("o/n", "v6", "ana")

    def test_it_is_kept_while_it_waits_and_for_a_day_after_its_end(self, store):
        key = store.fetches.begin("o/n", "main", "ana").key
        assert store.client.ttl(keys.fetch(key)) == -1
        store.fetches.change(key, state="running")
        assert store.client.ttl(keys.fetch(key)) == -1
        store.fetches.change(key, state="done")
        assert 86_000 < store.client.ttl(keys.fetch(key)) <= 86_400
        store.client.delete(keys.fetch(key))  # as after a day
        assert store.fetches.of() == []
        assert store.client.smembers(keys.FETCHES) == set()

    def test_it_is_its_owner_s_alone(self, store):
        key = store.fetches.begin("o/n", "main", "ana").key
        assert store.fetches.get(key, owner="ana").key == store.fetches.get(key).key == key
        with pytest.raises(NotFound):
            store.fetches.get(key, owner="ben")


class TestFiles:
    def test_a_file_is_stored_once_under_its_hash(self, store, tmp_path):
        sha256 = add_file(store, tmp_path, b"weights", filename="模型.pt")
        add_file(store, tmp_path, b"weights", owner="bob", filename="other.pt")
        [record] = store.files.list()
        assert (record.filename, record.owner, record.size_bytes) == ("模型.pt", "ana", 7)
        path = store.files.local_path(sha256)
        assert path.read_bytes() == b"weights"
        assert path.is_relative_to(store.settings.files_dir)
        assert [entry for entry in path.parent.iterdir() if entry.name.endswith(".partial")] == []

    def test_a_file_whose_bytes_were_lost_is_stored_again(self, store, tmp_path):
        sha256 = add_file(store, tmp_path, b"weights")
        store.files.local_path(sha256).unlink()
        with pytest.raises(NotFound):
            store.files.local_path(sha256)
        add_file(store, tmp_path, b"weights")
        assert store.files.local_path(sha256).read_bytes() == b"weights"

    def test_a_file_that_a_run_names_stays(self, store, tmp_path):
        sha256 = add_file(store, tmp_path, b"weights")
        run = queue.submit(store, spec(model={"file": sha256}), "ana")
        with pytest.raises(Conflict) as caught:
            store.files.delete(sha256)
        assert caught.value.details["runs"] == [run.id]
        store.runs.request_cancel(run.id)
        store.runs.delete(run.id)
        path = store.files.local_path(sha256)
        store.files.delete(sha256)
        assert not path.exists()
        assert store.files.find(sha256) is None

    def test_lists_by_owner_and_kind(self, store, tmp_path):
        model = add_file(store, tmp_path, b"model")
        add_file(store, tmp_path, b"data", owner="bob")
        store.files.set_inspection(model, "done", CheckpointInspection(format="safetensors").model_dump())
        assert [record.sha256 for record in store.files.list(kind="checkpoint")] == [model]
        assert [record.sha256 for record in store.files.list(owner="ana")] == [model]
        assert store.files.used_bytes("bob") == 4

    def test_files_may_be_kept_elsewhere(self, redis_server, tmp_path):
        elsewhere = open_store(Settings(redis_url=redis_server, data_dir=tmp_path, files_url="memory://uploads"))
        elsewhere.client.flushdb()
        sha256 = add_file(elsewhere, tmp_path, b"far away")
        fetched = elsewhere.files.local_path(sha256)
        assert fetched.read_bytes() == b"far away"
        assert fetched.is_relative_to(tmp_path / "cache")
        elsewhere.files.delete(sha256)
        assert not fetched.exists()

    def test_a_run_needs_files_that_are_there(self, store):
        with pytest.raises(SpecError) as caught:
            queue.submit(store, spec(model={"file": "0" * 64}), "ana")
        assert caught.value.code == "unknown_file"

    def test_only_paths_of_the_allow_list(self, store, tmp_path):
        inside, outside = tmp_path / "models", tmp_path / "private"
        for folder in (inside, outside):
            folder.mkdir()
            (folder / "model.pt").write_bytes(b"x")
        (inside / "link.pt").symlink_to(outside / "model.pt")
        settings = store.settings.model_copy(update={"allowed_paths": (inside,)})
        assert queue.allowed_path(settings, str(inside / "model.pt")) == inside / "model.pt"
        for path in (outside / "model.pt", inside / "link.pt", inside / ".." / "private" / "model.pt", inside, "/gone"):
            assert queue.allowed_path(settings, str(path)) is None
        with pytest.raises(SpecError) as caught:
            queue.check_sources(store, spec(model={"path": str(inside / "model.pt")}))
        assert caught.value.code == "path_not_allowed"


class TestUsers:
    def test_a_token_opens_until_it_is_revoked(self, store):
        token = store.users.create_token("ana", admin=True)
        second = store.users.create_token("ana", admin=True)
        assert store.users.authenticate(token) == store.users.authenticate(second)
        assert store.users.authenticate(token).admin
        assert store.users.authenticate(token + "x") is None
        store.users.revoke("ana")
        assert store.users.authenticate(token) is None
        assert store.users.authenticate(second) is None
        with pytest.raises(NotFound):
            store.users.revoke("ana")

    def test_the_token_itself_is_kept_nowhere(self, store):
        token = store.users.create_token("ana")
        everything = _all_text(store)
        assert token not in everything
        assert "ana" in everything

    @pytest.mark.parametrize("name", ["", "a b", "../x", "a" * 65, "<b>", "-x", "a\n"])
    def test_a_name_is_a_plain_word(self, store, name):
        with pytest.raises(InputError):
            store.users.create_token(name)


def _all_text(store) -> str:
    texts = []
    for key in store.client.keys("*"):
        kind = store.client.type(key)
        texts.append(key + str(store.client.get(key) if kind == "string" else store.client.hgetall(key)))
    return "".join(texts)


class TestJobs:
    def test_a_job_has_one_holder_at_a_time(self, store):
        jobs = store.jobs
        assert jobs.add("check:a")
        assert not jobs.add("check:a")
        assert jobs.claim("check:a", "one", 10)
        assert not jobs.claim("check:a", "two", 10)
        assert not jobs.renew("check:a", "two", 10)
        assert not jobs.finish("check:a", "two")
        assert jobs.release("check:a", "one", crashed=True)
        assert (jobs.attempts("check:a"), jobs.unfinished()) == (1, {"check:a": False})
        assert jobs.claim("check:a", "two", 10)
        assert jobs.unfinished() == {"check:a": True}
        assert jobs.finish("check:a", "two")
        assert jobs.unfinished() == {}
        assert not jobs.claim("check:a", "three", 10)

    def test_a_lease_runs_out(self, store):
        store.jobs.add("check:a")
        store.jobs.claim("check:a", "one", 10)
        assert not store.jobs.expire("check:a")
        store.jobs.renew("check:a", "one", -1)
        assert store.jobs.expire("check:a")
        assert store.jobs.attempts("check:a") == 1
        assert not store.jobs.finish("check:a", "one")

    def test_the_same_question_is_asked_once(self, store, tmp_path):
        sha256 = add_file(store, tmp_path, b"model")
        for _ in range(2):
            queue.inspect(store, sha256)
        names = {queue.check(store, spec(seed=seed)) for seed in range(3)}
        assert len(names) == 1
        assert list(store.jobs.unfinished()) == [f"check:{names.pop()}", f"inspect:{sha256}"]

    def test_a_failed_check_may_be_asked_again(self, store):
        key = queue.check(store, spec())
        store.checks.put(CheckRecord(key=key, state="failed", spec=spec().model_dump(mode="json")))
        store.jobs.drop(f"check:{key}")
        assert queue.check(store, spec()) == key
        assert store.checks.get(key).state == "waiting"


class TestCapabilities:
    def test_before_any_worker_there_is_nothing_to_offer(self, store):
        assert store.capabilities.read().schemes == []
        assert not store.capabilities.is_known()

    def test_a_silent_worker_is_not_listed(self, store):
        store.capabilities.write(Capabilities(engine_version="1", workers=[WorkerFacts(id="ghost")]))
        store.capabilities.beat(WorkerFacts(id="a", queues=["runs"]))
        store.capabilities.beat(WorkerFacts(id="b", queues=["inspect"]))
        store.client.delete("quant_lens:worker:b")  # as its expiry does
        assert [worker.id for worker in store.capabilities.read().workers] == ["a"]
        assert store.capabilities.is_known()
        store.capabilities.leave("a")
        assert not store.capabilities.is_known()

    def test_queue_lengths_count_messages(self, store):
        queue.submit(store, spec(), "ana")
        assert store.capabilities.queue_lengths() == {"runs": 1, "inspect": 0, "fetch": 0}


def test_a_store_without_a_server_says_so(tmp_path):
    with pytest.raises(StoreUnavailable) as caught:
        open_store(Settings(data_dir=tmp_path))
    assert caught.value.code == "no_redis"


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_a_typed_error(tmp_path):
    from tests.web_server import free_port

    gone = open_store(Settings(data_dir=tmp_path, redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(StoreUnavailable):
        gone.ping()
    with pytest.raises(StoreUnavailable):
        gone.runs.get("any")
