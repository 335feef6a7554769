"""What RQ's bookkeeping costs per job: admitting, registering, ending. No run is executed, so nothing else is in it.

    python tests/benchmarks/queue_overhead.py [jobs]

starts servers of its own and prints one JSON line: milliseconds of CPU per job, of this process and of Valkey, with 1,
100 and 2,000 jobs in flight.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import ground

IN_FLIGHT = {1: 0.0, 100: 0.02, 2000: 0.5}  # how long each job is in flight, in seconds
ENTRY_POINT = "tests.benchmarks.queue_overhead.idle"  # known to this process only

_hold = 0.0
_began: list[float] = []
_most = 0
_now = 0


async def idle(_: str) -> None:
    global _most, _now
    if not _began:
        _began.append(time.process_time())
    _now += 1
    _most = max(_most, _now)
    await asyncio.sleep(_hold)
    _now -= 1


def measure(in_flight: int, jobs: int) -> dict[str, Any]:
    """Execute the jobs in a worker with so many places, in this process."""
    global _hold, _most
    from console import queue

    _hold, _most = IN_FLIGHT[in_flight], 0
    _began.clear()
    worker = _worker(in_flight)
    redis = worker.connection
    redis.flushdb()
    waiting = worker.queues[0]
    pipe = redis.pipeline()
    for number in range(jobs):
        waiting.enqueue_call(ENTRY_POINT, args=(f"job-{number}",), result_ttl=0, pipeline=pipe)
    pipe.execute()
    queue.entry_points()[ENTRY_POINT] = idle
    server, wall = _cpu(redis), time.monotonic()

    worker.work(burst=True, logging_level="ERROR")

    took = time.process_time() - _began[0]
    return {
        "cpu_ms_per_job": round(took / jobs * 1000, 4),
        "valkey_ms_per_job": round((_cpu(redis) - server) / jobs * 1000, 4),
        "most_in_flight": _most,
        "wall_s": round(time.monotonic() - wall, 2),
        "left": redis.llen(waiting.key),
    }


def _worker(in_flight: int) -> Any:
    import django_rq

    from console import queue
    from runtime import worker

    names = getattr(queue, "RUN_QUEUES", None) or (queue.RUNS,)
    queues = [django_rq.get_queue(name) for name in (*names, queue.CHORES)]
    options: dict[str, Any] = {"turns_at_once": in_flight} if hasattr(queue, "RUN_QUEUES") else {}
    if not options:
        worker.TURNS_AT_ONCE = in_flight
    return worker.AsyncWorker(
        queues,
        slot="bench",
        name=f"bench-{in_flight}-{time.monotonic_ns()}",
        connection=queues[0].connection,
        job_class=queue.Job,
        queue_class=queue.Queue,
        serializer="rq.serializers.JSONSerializer",
        **options,
    )


def _cpu(redis: Any) -> float:
    found = redis.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    with ground.standing():
        found = {}
        for places in IN_FLIGHT:  # a worker is a process, and ends with it
            ran = subprocess.run([sys.executable, __file__, "one", str(places), str(jobs)], stdout=-1)
            found[str(places)] = json.loads(ran.stdout.splitlines()[-1])
        print(json.dumps({"bench": "queue_overhead", "jobs": jobs, "in_flight": found}), flush=True)


def one(in_flight: int, jobs: int) -> None:
    import django

    django.setup()
    print(json.dumps(measure(in_flight, jobs)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
