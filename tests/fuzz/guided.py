"""Fuzz by the branches that inputs take: ``python -m tests.fuzz.guided [--seconds N] [SUBJECT …]``.

Atheris watches the intake's own code and what the web process reads with. Its changes of an input are ours as often as
libFuzzer's, and what takes a new branch is kept in ``build/fuzz/corpus`` for the next time. libFuzzer ends its process,
so that each subject has one of its own; a finding lies in ``build/fuzz/SUBJECT/crash-…``.

https://github.com/google/atheris
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["quant_lens_engine.intake", "app.api.uploads", "worker.store.search"]):
    from tests.fuzz.judge import judge, limit_this_process
    from tests.fuzz.mutations import LARGEST, mutated
    from tests.fuzz.subjects import SUBJECTS

FOLDER = Path("build/fuzz")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT")
    parser.add_argument("--seconds", type=int, default=300, help="for all of them together")
    options = parser.parse_args(arguments)
    names = options.subjects or list(SUBJECTS)
    share = max(1, options.seconds // len(names))
    if len(names) == 1:
        fuzz(names[0], share)
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.guided", "--seconds", str(share)]
    return max(subprocess.run([*command, name], check=False).returncode for name in names)


def fuzz(name: str, seconds: int) -> None:
    """Until the time is over, or something is found; does not return."""
    subject = SUBJECTS[name]
    corpus, found = FOLDER / "corpus" / name, FOLDER / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(subject.seeds().values()):
        (corpus / f"seed-{number}").write_bytes(content)
    path = Path(tempfile.mkdtemp()) / "theirs"

    def one(content: bytes) -> None:
        path.write_bytes(content or b"0")
        judge(subject, path)

    def change(content: bytes, largest: int, seed: int) -> bytes:
        draw = random.Random(seed)
        changed = mutated(content, draw, subject.kind) if draw.randrange(4) else atheris.Mutate(content, largest)
        return bytes(changed[:largest])

    limit_this_process()
    limits = ["-rss_limit_mb=0", f"-max_len={LARGEST}", f"-max_total_time={seconds}", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], *limits, "-verbosity=0", str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
