"""Who computes what: claims on the units of a run, and the commits that end them.

A claim is held by its token. Every write goes through a compare-and-set on that token (``store/lua``), so a worker
that was frozen, cut off or declared dead can never overwrite what its successor does.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from quant_lens_engine.schema import (
    ESSENTIAL_STAGES,
    ErrorBody,
    InspectPayload,
    Record,
    RunSpec,
    StageFailure,
    StageKey,
    StageProgress,
    Unit,
    WorkerFacts,
    digest,
    plan_units,
    stage_fingerprint,
)
from worker.store import Store, keys

Outcome = Literal["settled", "stale", "absent"]
_CRASHED = ErrorBody(
    code="engine_crashed",
    message="the engine process died again and again on the same work",
    hint="the model may need more memory than the machine has: try a smaller limit or micro_batch",
)


@dataclass
class Claim:
    """A unit of a run that this worker holds.

    ``over`` says why the claim has ended (``TAKEN``, ``GONE`` or the run's terminal state); the heartbeat sets it.
    """

    run_id: str
    spec: RunSpec
    unit: Unit
    token: str
    over: str | None = field(default=None, compare=False)


class Schedule:
    """Claims on behalf of one worker."""

    def __init__(self, store: Store, worker_id: str) -> None:
        self._store = store
        self._scripts = store.scripts
        self._worker_id = worker_id
        self._lease_s = store.settings.lease_s

    def claim(self, run_id: str) -> Claim | None:
        """The next unit of the run whose predecessors are finished; None when there is nothing to take."""
        token = secrets.token_hex(12)
        unit_id = self._scripts.run("claim", run_id, token, self._worker_id, self._lease_s)
        if not unit_id:
            return None
        spec = RunSpec.model_validate_json(self._store.client.hget(keys.run(run_id), "spec"))
        unit = next(unit for unit in plan_units(spec) if unit.id == unit_id)
        return Claim(run_id, spec, unit, token)

    def claimable(self, claim: Claim) -> int:
        """How many further units of the run could be claimed now."""
        units = {name: json.loads(text) for name, text in self._store.client.hgetall(keys.units(claim.run_id)).items()}
        done = {name for name, unit in units.items() if unit["state"] == "done"}
        waiting = {name for name, unit in units.items() if unit["state"] == "waiting"}
        return sum(unit.id in waiting and done.issuperset(unit.after) for unit in plan_units(claim.spec))

    def renew(self, claim: Claim) -> None:
        """Keep the claim for another lease, or learn that it is over."""
        answer = self._scripts.run("renew", claim.run_id, claim.unit.id, claim.token, self._lease_s)
        if answer != "HELD":
            claim.over = answer

    def report(self, claim: Claim, stage: StageProgress) -> None:
        """Say how far a stage is."""
        name = str(stage.key)
        if not self._scripts.run(
            "report", claim.run_id, claim.unit.id, claim.token, name, stage.model_dump_json()
        ):  # fmt: skip
            self.renew(claim)

    def commit(self, claim: Claim, key: StageKey, payload: Record, elapsed_s: float) -> Outcome:
        """A stage is finished: its payload is kept under its fingerprint, and the run is one stage further."""
        done = self._settled(key, "done", elapsed_s=elapsed_s)
        return self._settle(claim, key, done, self._fingerprint(claim, key, payload), payload.model_dump_json())

    def reuse(self, claim: Claim, key: StageKey, inspect: InspectPayload) -> Outcome:
        """The same from the store; ``absent`` where no run has computed it yet."""
        done = self._settled(key, "done", from_store=True)
        return self._settle(claim, key, done, stage_fingerprint(claim.spec, inspect, key), "")

    def fail(self, claim: Claim, key: StageKey, error: ErrorBody, elapsed_s: float = 0.0) -> Outcome:
        """A stage has no result. Without ``inspect`` the run ends now, without an ``evaluate`` it cannot be DONE."""
        weight = "run" if key.kind == "inspect" else "essential" if key.kind in ESSENTIAL_STAGES else ""
        failure = StageFailure(stage=key.kind, variant=key.variant, code=error.code, message=error.message)
        failed = self._settled(key, "failed", elapsed_s=elapsed_s, note=error.message)
        return self._settle(
            claim, key, failed, "", "", failure.model_dump_json(), error.model_dump_json(), weight
        )  # fmt: skip

    def skip(self, claim: Claim, key: StageKey, why: str) -> Outcome:
        """A stage cannot be computed because one that it needs has failed."""
        return self._settle(claim, key, self._settled(key, "skipped", note=why), "", "")

    def release(self, claim: Claim, *, crashed: bool) -> None:
        """Give the unit back. ``crashed``: the engine died at it, which it may do ``retries`` times."""
        retries = self._store.settings.retries
        self._scripts.run(
            "release", claim.run_id, claim.unit.id, claim.token, int(crashed), retries, _CRASHED.model_dump_json()
        )  # fmt: skip

    def known(self, claim: Claim) -> dict[StageKey, Record]:
        """The payloads of the run's finished stages."""
        return self._store.results.payloads(claim.run_id)

    def needed(self, claim: Claim) -> dict[StageKey, Record]:
        """The payloads that the unit is computed from: those of the units before it."""
        before = {key for unit in plan_units(claim.spec) if unit.id in claim.unit.after for key in unit.stages}
        return {key: payload for key, payload in self.known(claim).items() if key in before}

    def pending(self, claim: Claim) -> list[StageKey]:
        """The unit's stages that have not ended (an earlier holder may have finished some)."""
        ended = {"done", "failed", "skipped"}
        states = self._stage_states(claim)
        return [key for key in claim.unit.stages if states[key] not in ended]

    def blocked_by(self, claim: Claim) -> StageKey | None:
        """An essential stage that this unit needs and that has no result, if there is one."""
        states = self._stage_states(claim)
        needed = {key for unit in plan_units(claim.spec) if unit.id in claim.unit.after for key in unit.stages}
        failed = {key for key in needed if key.kind in ESSENTIAL_STAGES and states[key] != "done"}
        return min(failed, key=str, default=None)

    def _stage_states(self, claim: Claim) -> Mapping[StageKey, str]:
        stages = self._store.client.hgetall(keys.stages(claim.run_id))
        return {StageKey.parse(name): StageProgress.model_validate_json(text).state for name, text in stages.items()}

    def _fingerprint(self, claim: Claim, key: StageKey, payload: Record) -> str:
        if isinstance(payload, InspectPayload):  # what every other fingerprint is made from; its own is its content
            return digest({"stage": "inspect", "payload": payload.model_dump(mode="json")})
        inspect = self.known(claim)[StageKey("inspect")]
        assert isinstance(inspect, InspectPayload)
        return stage_fingerprint(claim.spec, inspect, key)

    def _settled(
        self, key: StageKey, state: Literal["done", "failed", "skipped"], *, elapsed_s: float | None = None,
        from_store: bool = False, note: str = "",
    ) -> StageProgress:  # fmt: skip
        return StageProgress(
            stage=key.kind, variant=key.variant, part=key.part, state=state, done=1, total=1, note=note,
            from_store=from_store, elapsed_s=elapsed_s, worker=self._worker_id,
        )  # fmt: skip

    def _settle(
        self, claim: Claim, key: StageKey, stage: StageProgress, fingerprint: str, payload: str,
        failure: str = "", error: str = "", weight: str = "",
    ) -> Outcome:  # fmt: skip
        outcome: Outcome = self._scripts.run(
            "settle", claim.run_id, claim.unit.id, claim.token, str(key), stage.model_dump_json(), fingerprint,
            payload, failure, error, weight, more_keys=(keys.payload(fingerprint), keys.uses(fingerprint)),
        )  # fmt: skip
        if outcome == "stale":
            claim.over = claim.over or "TAKEN"
        return outcome


def can_take(claim_device: str, worker: WorkerFacts, *, opens_uploads: bool = False) -> bool:
    """Whether a worker has the device that a run is bound to (``auto`` and ``cpu`` are everywhere).

    Args:
        claim_device: as the run's execution block says it.
        worker: what it says of itself.
        opens_uploads: the run names uploads, which a worker below the demanded walls does not open.
    """
    if opens_uploads and worker.refuses_uploads is not None:
        return False
    return not claim_device.startswith("cuda") or any(device.startswith("cuda") for device in worker.devices)
