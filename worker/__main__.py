"""``python -m worker runs``: a worker of these queues, with settings from the environment."""

from __future__ import annotations

import sys

from worker.serve import run_worker
from worker.store.capabilities import QUEUES

if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:] or QUEUES))
