"""The lanes of one worker's callbacks: what is on its way, what waits for that, and which receivers answer quickly.

What waits holds no thread and no job: its run is remembered here, and put into the queue again when there is room. All
of it may be lost. The rows are the truth, and the sweep asks for whatever is due.
"""

from __future__ import annotations

import threading
from urllib.parse import urlsplit
from uuid import UUID

from runtime.policies import lanes
from runtime.policies.lanes import Lane

MOST_WAITING = 10_000  # runs that are remembered; what is beyond waits for the sweep
MOST_KNOWN = 10_000  # lanes whose quickness is remembered


def lane_of(client: str, url: str) -> Lane:
    return Lane(client, urlsplit(url).netloc.rpartition("@")[2].lower())


class Lanes:
    """Used by the threads that send. `enter` before, `leave` after."""

    def __init__(self) -> None:
        self.is_closed = False
        self._lock = threading.Lock()
        self._under_way: list[Lane] = []
        self._quick: dict[Lane, None] = {}  # in the order in which it was last found out
        self._waiting: dict[Lane, dict[UUID, None]] = {}

    def enter(self, lane: Lane, run_id: UUID) -> bool:
        """Take a place for what is due of the run. False: there is none now, and its run waits for one."""
        with self._lock:
            if self.is_closed:
                return False
            if lanes.decide_start(lane, self._under_way, self._quick):
                self._under_way.append(lane)
                return True
            if sum(map(len, self._waiting.values())) < MOST_WAITING:
                self._waiting.setdefault(lane, {})[run_id] = None
            return False

    def tell(self, lane: Lane, took_s: float) -> None:
        """An attempt is over: this is how long the receiver has held a thread."""
        with self._lock:
            self._quick.pop(lane, None)
            if took_s < lanes.QUICK_S:
                self._quick[lane] = None
                if len(self._quick) > MOST_KNOWN:
                    del self._quick[next(iter(self._quick))]

    def leave(self, lane: Lane) -> list[UUID]:
        """Give the place back. Returns the runs for which there is room now; they wait here no longer."""
        with self._lock:
            self._under_way.remove(lane)
            return [] if self.is_closed else self._released()

    def close(self) -> None:
        """Send nothing more; what is on its way goes on."""
        self.is_closed = True

    def _released(self) -> list[UUID]:
        """As many as fit. A lane that had its turn comes after those that had not."""
        released: list[UUID] = []
        then = list(self._under_way)
        for lane in list(self._waiting):
            waiting, count = self._waiting[lane], len(released)
            while waiting and lanes.decide_start(lane, then, self._quick):
                run_id = next(iter(waiting))
                del waiting[run_id]
                released.append(run_id)
                then.append(lane)
            if len(released) > count:
                del self._waiting[lane]
                if waiting:
                    self._waiting[lane] = waiting
        return released


OURS = Lanes()
