"""The store: runs, results, events, files, users, capabilities. Redis' record is the truth; no torch in here."""

from __future__ import annotations

from worker.settings import Settings
from worker.store.capabilities import CapabilityStore
from worker.store.checks import CheckRecord, Checks
from worker.store.connection import GivesUp, Scripts, at_once, connect
from worker.store.errors import BadQuery, Conflict, NotFound, StoreUnavailable, UploadsRefused
from worker.store.events import Events
from worker.store.fetches import Fetches, FetchRecord
from worker.store.file_record import FileRecord
from worker.store.files import Files
from worker.store.jobs import Jobs
from worker.store.results import Results, RunSummary, VariantSummary
from worker.store.run_page import RunPage
from worker.store.runs import Runs
from worker.store.users import User, Users

__all__ = [
    "BadQuery", "CheckRecord", "Conflict", "FetchRecord", "FileRecord", "NotFound", "RunPage", "RunSummary", "Store",
    "StoreUnavailable", "UploadsRefused", "User", "VariantSummary", "open_store",
]  # fmt: skip


class Store:
    """One door to everything that lasts. Its methods may be called from several threads."""

    def __init__(self, settings: Settings, gives_up: GivesUp) -> None:
        url = settings.redis_url
        if url is None:
            raise StoreUnavailable(
                "no Redis server is named",
                hint="set QUANT_LENS_REDIS_URL, or use `quant-lens up`, which starts one",
                code="no_redis",
            )
        self.settings = settings
        self.client = connect(url, gives_up)
        self.scripts = Scripts(self.client)
        self.runs = Runs(self.client, self.scripts)
        self.results = Results(self.client)
        self.events = Events(self.client, url)
        self.jobs = Jobs(self.client, self.scripts)
        self.files = Files(self.client, self.scripts, settings)
        self.users = Users(self.client)
        self.capabilities = CapabilityStore(self.client)
        self.checks = Checks(self.client)
        self.fetches = Fetches(self.client)

    def ping(self) -> None:
        """Ask Redis for a sign of life.

        Raises:
            StoreUnavailable: there is none.
        """
        self.client.ping()

    def server_version(self) -> str:
        """What answers, such as ``Valkey 9.1.2``."""
        facts = self.client.info("server")
        name, version = facts.get("server_name", "redis"), facts.get("valkey_version", facts.get("redis_version", ""))
        return f"{str(name).capitalize()} {version}".strip()

    def close(self) -> None:
        """Let the connections go."""
        self.client.close()


def open_store(settings: Settings, gives_up: GivesUp = at_once) -> Store:
    """The store that the settings name. Nothing is sent to Redis yet.

    Args:
        settings: name the server and the folder of files.
        gives_up: asked when Redis has not answered for some seconds; where it says no, the store goes on trying.

    Raises:
        StoreUnavailable: ``no_redis``: no server is named.
    """
    return Store(settings, gives_up)
