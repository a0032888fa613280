"""How long Ray Train waits, and for what: every default, set on purpose.

| environment variable | Ray's default | here | what it is |
|---|---|---|---|
| RAY_TRAIN_HEALTH_CHECK_INTERVAL_S | 2 s | 0.5 s | between two looks at the workers: a lost one is found by the next |
| RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S | 600 s | 120 s | a worker that does not answer at all is taken for dead |
| RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S | 60 s | 60 s | for room on the cluster, before the next try |
| RAY_TRAIN_COLLECTIVE_TIMEOUT_S | for ever | `timeout_seconds` | for the other workers in `ray.train.report` |
| RAY_TRAIN_COLLECTIVE_WARN_INTERVAL_S | 60 s | 60 s | between two lines that say who is missing there |

What Ray's configs set: `FailureConfig.max_failures` is 0 by default, no restart; `controller_failure_limit` is -1, so
that a group that finds no room is tried for ever (`distkeras train` sets 0). What TensorFlow waits for is set in
`distribution/collectives.py`.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager

WAITS: Mapping[str, str] = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
    "RAY_TRAIN_COLLECTIVE_WARN_INTERVAL_S": "60",
}


@contextmanager
def with_waits(timeout_seconds: float) -> Generator[None]:
    """Sets Ray Train's waits while a block runs, but for those that the user has set.

    Ray hands these variables on from the process that calls `fit` to its controller and its workers.

    Args:
        timeout_seconds: Longest that a worker waits for the others in one operation of Ray Train.
    """
    with with_environment({**WAITS, "RAY_TRAIN_COLLECTIVE_TIMEOUT_S": str(timeout_seconds)}):
        yield


@contextmanager
def with_environment(values: Mapping[str, str]) -> Generator[None]:
    """Sets environment variables while a block runs, but for those that are set already."""
    missing = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)
