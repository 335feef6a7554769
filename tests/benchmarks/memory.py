"""Whether a worker's memory stays steady: its resident size after 1,000, 5,000 and 10,000 runs.

    python tests/benchmarks/memory.py [runs]

starts servers of its own and prints one JSON line. A run is one answer of a scripted model, without tools.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.benchmarks import ground

MARKS = (100, 1000, 5000, 10_000)


def rss_mb() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return round(int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


def one(runs: int) -> None:
    import django

    django.setup()
    import django_rq
    from django.db import connection

    from console import queue
    from runtime import queueing, worker
    from runtime.models import Run, Thread
    from runtime.providers import scripted
    from runtime.states import FINAL
    from tests import builders
    from tests.runtime.harness import saying

    scripted.register("answer", saying("Done."))
    release = builders.a_release(model={"provider": "scripted", "name": "answer"}, tools=[])
    who = {"principal_id": "cus_1", "principal_label": "Ana"}
    threads = Thread.objects.bulk_create([Thread(agent=release.agent, **who) for _ in range(runs)], 1000)
    budgets = release.bundle.budgets.model_dump(mode="json")
    made = [
        Run(agent=release.agent, release=release, thread=thread, title="x", input_text="x", budgets=budgets, **who)
        for thread in threads
    ]
    Run.objects.bulk_create(made, 1000)
    queueing.enqueue_runs([(run.pk, 0, run.priority) for run in made])
    del threads, made
    queues = [django_rq.get_queue(name) for name in queue.QUEUES]
    works = worker.AsyncWorker(
        queues, slot="memory", name="memory", connection=queues[0].connection, job_class=queue.Job,
        queue_class=queue.Queue, serializer="rq.serializers.JSONSerializer",
    )  # fmt: skip
    found: dict[str, Any] = {"start": rss_mb()}

    def watch() -> None:
        left = [mark for mark in MARKS if mark <= runs]
        while left:
            time.sleep(0.2)
            if Run.objects.filter(status__in=FINAL).count() >= left[0]:
                found[str(left.pop(0))] = rss_mb()
        connection.close()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    began = time.monotonic()
    works.work(burst=True)
    took = time.monotonic() - began
    watching.join(30)
    ended = Run.objects.filter(status="succeeded").count()
    print(json.dumps({"rss_mb": found, "succeeded": ended, "runs_per_s": round(runs / took)}), flush=True)
    os._exit(0)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with ground.standing():
        ran = subprocess.run([sys.executable, __file__, "one", str(runs)], stdout=-1, check=True)
        print(json.dumps({"bench": "memory", "runs": runs, **json.loads(ran.stdout.splitlines()[-1])}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(int(sys.argv[2]))
    else:
        main()
