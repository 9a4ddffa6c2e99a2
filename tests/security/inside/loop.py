"""For ever."""

from worker.sandbox.plan import Plan


def prepare(plan: Plan) -> None:
    """Nothing."""


def main(plan: Plan) -> None:
    while True:
        pass
