"""The program of a plain worker process: `python -m distkeras.runners.worker_process`, with its task on stdin.

Its stdin stays open as long as the process that started it lives. When that is gone, so is the lock on the run's
directory: the worker ends at once, or it would go on to write where another run may have begun.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback

from distkeras.runners.workers import from_values, work


def _end_with_starter() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    task, worker = from_values(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_starter, daemon=True).start()
    code = 0
    try:
        work(task, worker)
    except BaseException as error:
        traceback.print_exc()
        code = getattr(error, "exit_code", 1)
    # Without the libraries' own farewells: some wait for workers that have gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
