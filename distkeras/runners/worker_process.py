"""The program of a plain worker process: `python -m distkeras.runners.worker_process`, with its task on stdin."""

from __future__ import annotations

import json
import sys

from distkeras.errors import DistkerasError
from distkeras.runners.workers import from_values, work

if __name__ == "__main__":
    try:
        work(*from_values(json.load(sys.stdin)))
    except DistkerasError as error:
        sys.exit(error.exit_code)
