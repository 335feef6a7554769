"""The recordings of threads in the database: written once, read by providers and tools of any worker."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from runtime.models import Recording, Thread
from runtime.replay import turns
from runtime.replay.turns import Script


class NoRecording(LookupError):
    """The thread replays nothing."""


def keep(thread: Thread, source_id: str, script: Script) -> Recording:
    return Recording.objects.create(thread=thread, source_id=source_id, messages=turns.to_json(script))


@lru_cache(maxsize=64)  # a recording never changes
def of(thread_id: UUID) -> Script:
    """What was recorded for the thread.

    Raises:
        NoRecording: nothing was.
    """
    stored = Recording.objects.filter(thread_id=thread_id).values_list("messages", flat=True).first()
    if stored is None:
        raise NoRecording(f"Thread {thread_id} has no recording. Start it with `manage.py replay`.")
    return turns.from_json(stored)
