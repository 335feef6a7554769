"""When a worker may still act for the runs it holds.

The lease is on the worker's life (its row in `runtime_worker`), and counts by the clock of PostgreSQL alone: `beat`
prolongs it from the moment at which the statement runs there, and only there is it compared with anything. This
process judges its own right to go on by a clock that nobody can set (`CLOCK_BOOTTIME`, which also counts while the
machine sleeps), never by the wall clock. The rules:

1. A beat that was sent at `t` and succeeded gives trust until `t + LEASE - MARGIN`: `t` is read *before* it is sent, so
   the lease in the database ends later than the trust, whatever the way there and back took.
2. Beats are sent by a thread of their own, and only while the loop ticks: a process that does nothing for its runs must
   not keep them. The lease then runs out like that of a dead one.
3. When trust has ended, or the database says that the life has, the process cancels its turns and leaves with
   LOST_LEASE. A second thread watches for that, so that a beat which hangs in the network cannot hold it up. It sleeps
   by the same kind of clock, so a process that was frozen (SIGSTOP, a paused container) leaves as soon as it thaws.
4. Between thaw and leaving, nothing takes effect: every write carries the fence of its claim, and whoever took the run
   over has raised it or put the run back into the queue. Before a call to the outside, `is_trusted` says whether the
   process may still make it.
5. A database whose clock jumps forward ends every lease at once: workers leave and begin new lives. One that jumps back
   makes others wait longer before they take over. Neither lets two workers write.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.db import close_old_connections, connection

from console import alarms
from runtime import workers
from runtime.models import Worker

log = logging.getLogger(__name__)

MARGIN_S = 2.0  # for cancelling and leaving before anybody else may take over
LOOK_S = 0.2
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds that pass on this machine; nobody can set them."""
    return time.clock_gettime(_CLOCK)


class Lease:
    """The lease of one worker life, kept by two threads of this process.

    `ticked_at` says when the loop last ticked (by `clock`); `on_beat` gets what each beat brought; `on_lost` is called
    once, from a thread, when the lease can no longer be trusted, and ends the process.
    """

    def __init__(
        self,
        life: Worker,
        *,
        sent_at: float,
        ticked_at: Callable[[], float],
        on_beat: Callable[[workers.Beat], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self.life = life
        self.trusted_until = sent_at + workers.LEASE.total_seconds() - MARGIN_S
        self._ticked_at = ticked_at
        self._on_beat = on_beat
        self._on_lost = on_lost
        self._over = threading.Event()
        self._due = threading.Event()  # the next beat should not wait for its time
        self._epoch = -1

    def is_trusted(self) -> bool:
        """Whether nobody else can hold this worker's runs yet."""
        return clock() < self.trusted_until

    def keep(self) -> None:
        """Begin to beat and to watch."""
        for name, loop in (("lease", self._beat), ("lease-watch", self._watch)):
            threading.Thread(target=loop, name=name, daemon=True).start()

    def give_up(self) -> None:
        """Beat no more: the life ends in order."""
        self._over.set()
        self._due.set()

    def hurry(self) -> None:
        """Beat now: there is something to be learnt, or to be said. From any thread."""
        self._due.set()

    def _beat(self) -> None:
        stalled = False
        while True:
            self._due.wait(workers.BEAT.total_seconds())
            if self._over.is_set():
                break
            self._due.clear()
            ticks = clock() - self._ticked_at() < workers.LEASE.total_seconds() / 2
            if not ticks and not stalled:
                log.error("The loop has stopped ticking; the lease is left to expire.")
            stalled = not ticks
            if ticks:
                self._prolong()
        connection.close()

    def _prolong(self) -> None:
        sent_at = clock()
        try:
            close_old_connections()
            beat = workers.beat(self.life.pk, self._epoch)
        except Exception as away:
            log.warning("The lease could not be prolonged: %s", away)
            alarms.look_at(away)
            connection.close()
            return
        if self._over.is_set():
            return
        if beat is None:
            self._lose("its life has been ended")
            return
        self.trusted_until = sent_at + workers.LEASE.total_seconds() - MARGIN_S
        self._epoch = beat.epoch
        self._on_beat(beat)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            if not self.is_trusted():
                self._lose("it could not be prolonged in time")

    def _lose(self, why: str) -> None:
        if not self._over.is_set():
            self._over.set()
            self._on_lost(why)
