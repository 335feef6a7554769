"""A worker process whose queue may call functions that do nothing of the product: what is left is RQ's part.

`python -m tests.runtime.idle_worker <slot> [turns at once]` on the servers of the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

NAME = "tests.runtime.idle_worker"


async def wait(_: str = "") -> None:
    await asyncio.sleep(60)


async def nothing(_: str = "") -> None:
    pass


async def fail(_: str = "") -> None:
    raise ValueError("password=hunter2222 is wrong")


def chore(_: str = "") -> None:
    time.sleep(0.3)


def hang(_: str = "") -> None:
    time.sleep(60)


def freeze(_: str = "") -> None:
    """A chore that stops the loop from ticking."""
    from runtime import worker

    worker.current().loop.call_soon_threadsafe(time.sleep, 60)


ENTRY_POINTS = (wait, nothing, fail, chore, hang, freeze)


def allow() -> None:
    """Let the queue of this process call these functions."""
    from console import queue

    queue.entry_points().update({f"{NAME}.{function.__name__}": function for function in ENTRY_POINTS})


def main(slot: str, turns_at_once: int = 10, **options: Any) -> None:
    import django

    django.setup()
    import django_rq

    from console import queue
    from runtime import intake
    from runtime.worker import AsyncWorker

    intake.WAIT_S = int(os.environ.get("WAIT_S", intake.WAIT_S))
    allow()
    queues = [django_rq.get_queue(name) for name in queue.QUEUES]
    AsyncWorker(
        queues,
        slot=slot,
        turns_at_once=turns_at_once,
        name=slot,
        connection=queues[0].connection,
        job_class=queue.Job,
        queue_class=queue.Queue,
        serializer="rq.serializers.JSONSerializer",
        on_ready=lambda worker: print("ready", worker.life.pk, flush=True),
    ).work()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10)
