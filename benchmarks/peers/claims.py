"""What was promised, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.peers.parts import OWN_RULE, Row
from benchmarks.peers.warm import Warm


class Claim(NamedTuple):
    """A promise and its measurement.

    Attributes:
        required: with its direction, in words.
        verdict: ``met``, or ``missed`` and by how much.
    """

    claim: str
    required: str
    measured: str
    verdict: str

    def plain(self) -> dict[str, str]:
        """For the record."""
        return self._asdict()


def at_least(claim: str, wanted: float, ratio: float | None, against: str) -> Claim:
    """A ratio of times that must be large; None where one side of it is missing, which ``against`` says."""
    if ratio is None:
        return Claim(claim, f"≥ {wanted:g} ×", "–", against)
    verdict = "met" if ratio >= wanted else f"missed by {wanted / ratio:.2f} ×"
    return Claim(claim, f"≥ {wanted:g} ×", f"{ratio:.2f} × ({against})", verdict)


def at_most(claim: str, wanted: float, figure: float, unit: str) -> Claim:
    """A figure that must be small."""
    verdict = "met" if figure <= wanted else f"missed by {figure / wanted:.2f} ×"
    return Claim(claim, f"≤ {wanted:g} {unit}", f"{figure:.2f} {unit}", verdict)


def against_best(
    rows: Sequence[Row], part: str, workload: str, peer: Callable[[Row], bool]
) -> tuple[float | None, str]:
    """The fastest peer's time over ours, and who it is."""
    of_part = [row for row in rows if row.workload == workload and row.part == part]
    own = next((row for row in of_part if row.ours), None)
    peers = [row for row in of_part if row.reaches and not row.ours and peer(row)]
    if own is None or not own.reaches:
        return (
            None,
            "not measured" if own is None else f"missed: ours does not come to its end, {own.note or own.status}",
        )
    if not peers:
        states = ", ".join(f"{row.library} {row.status}" for row in of_part if not row.ours and peer(row))
        return None, f"met: only ours reaches it ({states})"
    best = min(peers, key=lambda row: row.cpu_s or 0.0)
    ours = own.cpu_s or 0.0
    return (best.cpu_s or 0.0) / ours, f"{ours:.3g} s against {best.cpu_s:.3g} s, {best.library}"


def claims_of(rows: Sequence[Row], warm: Sequence[Warm], products: Sequence[dict[str, float | str]]) -> list[Claim]:
    """Every promise, on every workload that was measured."""
    found: list[Claim] = []
    workloads = sorted({row.workload for row in rows})

    def compare(what: str, wanted: float, part: str, peer: Callable[[Row], bool] = lambda _: True) -> None:
        for name in workloads:
            if any(row.workload == name and row.part == part and row.ours for row in rows):
                found.append(at_least(f"{name}: {what}", wanted, *against_best(rows, part, name, peer)))

    compare("largest eigenvalue to 1e-3, peers at the fewest steps that happen to reach it", 3.0, "1 largest")
    compare("the same, peers stopped by their own rule", 3.0, "1 largest" + OWN_RULE)
    compare("five largest to 1e-3, peers at the fewest steps that happen to reach it", 3.0, "5 largest")
    compare("the same, peers stopped by their own rule", 3.0, "5 largest" + OWN_RULE)
    compare("trace to 1%, against Hutchinson", 10.0, "trace to 1%", lambda row: "Hutchinson" in row.library)
    compare("trace to 1%, against XTrace", 1.5, "trace to 1%", lambda row: "XTrace" in row.library)
    compare("density at equal Wasserstein distance, ours in one process of 40 steps", 1.5, "density")
    compare("the same, ours at its default effort", 1.5, "density, our default")
    compare("whole report, against the sum of the best peers", 4.0, "whole report")
    for row in warm:
        limit = 0.65 if row.scheme == "int8" else 1.0
        what = f"{row.workload}: {row.scheme} from the float model, in cold products"
        found.append(at_most(what, limit, row.warm / row.cold, "of cold"))
    missed = sum(row.missed for row in warm)
    found.append(Claim("eigenvalues missed by warm starts", "0", str(missed), "met" if not missed else "missed"))
    for figures in products:
        if figures["workload"] != "W1":
            found.append(
                at_most(
                    f"{figures['network']}: an HVP that reuses its graph", 2.4, float(figures["reuse"]), "gradients"
                )
            )
    return found
