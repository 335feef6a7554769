"""The recordings of threads in the database: written once, read by providers and tools of any worker."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from runtime import threads
from runtime.models import Recording, Thread
from runtime.replay import turns
from runtime.replay.turns import Script

MOST_KEPT = 64

_kept: OrderedDict[UUID, Script] = OrderedDict()  # a recording never changes, so one read once stays true


class NoRecording(LookupError):
    """The thread replays nothing."""


def keep(thread: Thread, source_id: str, script: Script) -> Recording:
    return Recording.objects.create(thread=thread, source_id=source_id, messages=turns.to_json(script))


async def of(thread_id: UUID) -> Script:
    """What was recorded for the thread. Called on the event loop only.

    Raises:
        NoRecording: nothing was.
    """
    script = _kept.get(thread_id)
    if script is None:
        script = _kept[thread_id] = await threads.run(_load, thread_id)
        if len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    else:
        _kept.move_to_end(thread_id)
    return script


def _load(thread_id: UUID) -> Script:
    stored = Recording.objects.filter(thread_id=thread_id).values_list("messages", flat=True).first()
    if stored is None:
        raise NoRecording(f"Thread {thread_id} has no recording. Start it with `manage.py replay`.")
    return turns.from_json(stored)
