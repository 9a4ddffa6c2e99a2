"""What the runs found: stage payloads, each stored once under its fingerprint, and results assembled from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from quant_lens_engine.schema import (
    PAYLOADS,
    MaybeFloat,
    Record,
    RunResult,
    RunSpec,
    StageFailure,
    StageKey,
    VerdictLevel,
    assemble,
)
from worker.store import keys
from worker.store.connection import Client
from worker.store.errors import NotFound

_SUMMARY_STAGES = frozenset({"inspect", "evaluate", "curvature", "verdict"})


class VariantSummary(Record):
    """One variant in the runs table; null is not measured, or has no meaning."""

    name: str
    verdict: VerdictLevel | None = None
    sharpness_ratio: MaybeFloat = None
    delta_loss: MaybeFloat = None
    delta_accuracy: MaybeFloat = None
    effective_bits: MaybeFloat = None


class RunSummary(Record):
    """A run in the runs table: its variants without FP32, in the order of the specification."""

    id: str
    model: str | None = None
    samples: int | None = None
    float_accuracy: MaybeFloat = None
    variants: list[VariantSummary] = []


class Results:
    """Results of runs, at any time of their life."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def result(self, run_id: str) -> RunResult:
        """What the run has found so far; what is not finished is null.

        Raises:
            NotFound: there is no such run.
        """
        spec, stages, failures = self._read(run_id)
        return assemble(spec, stages, failures)

    def payloads(self, run_id: str) -> dict[StageKey, Record]:
        """The payload of each finished stage."""
        return self._read(run_id)[1]

    def summaries(self, run_ids: Sequence[str]) -> dict[str, RunSummary]:
        """The table's few numbers for many runs. Kept until a further stage is finished, so asking again is cheap."""
        with self._client.pipeline(transaction=False) as pipe:
            for run_id in run_ids:
                pipe.hlen(keys.results(run_id))
                pipe.get(keys.summary(run_id))
            answers = pipe.execute()
        found = {}
        for run_id, count, kept in zip(run_ids, answers[0::2], answers[1::2], strict=True):
            stored = json.loads(kept) if kept else None
            if stored is not None and stored["results"] == count:
                found[run_id] = RunSummary.model_validate(stored["summary"])
            elif (fresh := self._summarize(run_id)) is not None:
                found[run_id] = fresh
        return found

    def _summarize(self, run_id: str) -> RunSummary | None:
        try:
            spec, stages, failures = self._read(run_id, _SUMMARY_STAGES)
        except NotFound:
            return None
        result = assemble(spec, stages, failures)
        evaluation = result.variants[0].evaluation
        summary = RunSummary(
            id=run_id,
            model=result.model.architecture,
            samples=result.data.samples,
            float_accuracy=evaluation.accuracy if evaluation else None,
            variants=[
                VariantSummary(
                    name=item.variant,
                    verdict=item.verdict.level if item.verdict else None,
                    sharpness_ratio=item.sharpness_ratio,
                    delta_loss=item.delta_loss,
                    delta_accuracy=item.delta_accuracy,
                    effective_bits=result.variant(item.variant).effective_bits,
                )
                for item in result.comparisons
            ],
        )
        count = self._client.hlen(keys.results(run_id))
        if count >= len(stages):
            kept = json.dumps({"results": count, "summary": summary.model_dump(mode="json")})
            self._client.set(keys.summary(run_id), kept, ex=30 * 86400)
        return summary

    def _read(
        self, run_id: str, kinds: Iterable[str] | None = None
    ) -> tuple[RunSpec, dict[StageKey, Record], list[StageFailure]]:
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hget(keys.run(run_id), "spec")
            pipe.hgetall(keys.results(run_id))
            pipe.hvals(keys.failures(run_id))
            spec, fingerprints, failures = pipe.execute()
        if spec is None:
            raise NotFound(f"there is no run {run_id[:40]!r}", hint="it may have been deleted")
        wanted = {
            key: fingerprint
            for key, fingerprint in ((StageKey.parse(name), value) for name, value in fingerprints.items())
            if kinds is None or key.kind in kinds
        }
        return RunSpec.model_validate_json(spec), self._payloads(wanted), list(map(_failure, failures))

    def _payloads(self, fingerprints: Mapping[StageKey, str]) -> dict[StageKey, Record]:
        if not fingerprints:
            return {}
        texts = self._client.mget([keys.payload(fingerprint) for fingerprint in fingerprints.values()])
        return {
            key: PAYLOADS[key.kind].model_validate_json(text)
            for key, text in zip(fingerprints, texts, strict=True)
            if text is not None
        }


def _failure(text: str) -> StageFailure:
    return StageFailure.model_validate_json(text)
