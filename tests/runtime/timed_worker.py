"""A worker process with other times than in production, so that only one of its mechanisms can be what did something.

`python -m tests.runtime.timed_worker` on the servers of the environment; the arguments are those of `worker`. The times
are in WORKER_TIMES, a JSON object: seconds by the names of `runtime.worker`, or LEASE and BEAT of `runtime.workers`.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta

NAME = "tests.runtime.timed_worker"


def main() -> None:
    import django

    from tests import servers

    django.setup()
    servers.own_channels()
    from django.core.management import call_command

    from runtime import worker, workers

    for name, seconds in json.loads(os.environ["WORKER_TIMES"]).items():
        if hasattr(workers, name):
            setattr(workers, name, timedelta(seconds=seconds))
        else:
            assert hasattr(worker, name), name
            setattr(worker, name, seconds)
    call_command("worker", *sys.argv[1:])


if __name__ == "__main__":
    main()
