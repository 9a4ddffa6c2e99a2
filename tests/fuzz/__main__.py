"""Fuzz for a while: ``python -m tests.fuzz [--seconds N | --examples N] [--findings FOLDER] [SUBJECT …]``.

Each finding is made as small as Hypothesis can, written to a folder with what went wrong, and the rest goes on. The
exit code is 1 where there was one.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import itertools
import random
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.judge import FoundError, judge, limit_this_process
from tests.fuzz.mutations import mutated
from tests.fuzz.subjects import SUBJECTS, Subject

BATCH = 100


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    faulthandler.enable()
    findings: list[str] = []
    chance = random.SystemRandom()
    options.findings.mkdir(parents=True, exist_ok=True)
    at_hand = options.findings.absolute() / "at-hand"  # what is there after a crash has caused it
    hunts = [Hunt(name, SUBJECTS[name], at_hand, options) for name in options.subjects or SUBJECTS]
    limit_this_process()
    if options.examples:
        for hunt in hunts:
            findings += hunt.batch(0, options.examples)
    else:
        end = time.monotonic() + options.seconds
        for hunt in itertools.cycle(hunts):
            if time.monotonic() > end:
                break
            findings += hunt.batch(chance.randrange(2**32), BATCH)
    at_hand.unlink()
    for hunt in hunts:
        print(f"{hunt.name}: {sum(hunt.outcomes.values())} inputs, {hunt.seconds:.1f} s, {dict(hunt.outcomes)}")
    print(*findings, sep="\n")
    return bool(findings)


class Hunt:
    """One subject, its honest inputs, and what came of the changed ones."""

    def __init__(self, name: str, subject: Subject, path: Path, options: argparse.Namespace) -> None:
        self.name, self.subject, self.path, self.options = name, subject, path, options
        self.seeds = list(subject.seeds().values())
        self.outcomes: Counter[str] = Counter()
        self.seconds = 0.0
        for content in self.seeds:
            path.write_bytes(content)
            if (outcome := judge(subject, path)) != "read":
                raise SystemExit(f"{name}: an honest input was refused: {outcome}")

    def batch(self, number: int, examples: int) -> list[str]:
        """So many inputs; what was found, in a line each."""

        @seed(number)
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
                  phases=[Phase.generate, Phase.shrink], report_multiple_bugs=False)  # fmt: skip
        @given(st.sampled_from(self.seeds), st.randoms(use_true_random=not self.options.shrink))
        def one(content: bytes, draw: random.Random) -> None:
            changed = mutated(content, draw, self.subject.kind)
            self.path.write_bytes(changed)
            self.last = changed
            self.outcomes[judge(self.subject, self.path)] += 1

        started = time.monotonic()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                one()
        except FoundError as finding:
            return [self._kept(str(finding))]
        finally:
            self.seconds += time.monotonic() - started
        return []

    def _kept(self, finding: str) -> str:
        folder = self.options.findings / self.name
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(self.last).hexdigest()[:12]
        (folder / name).write_bytes(self.last)
        (folder / f"{name}.txt").write_text(finding)
        return f"FOUND in {self.name}: {finding} ({folder / name}, {len(self.last)} bytes)"


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"of {', '.join(SUBJECTS)}; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="how long")
    parser.add_argument("--examples", type=int, help="instead: so many inputs of each subject, the same every time")
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"), help="where inputs go that did harm")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="keep them as they were found")
    options = parser.parse_args(arguments)
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"no subject {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
