"""What is done to the processes, in an order that a seed decides."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import redis
from django.conf import settings

from console.embedded.postgres import Postgres
from console.embedded.valkey import Valkey
from runtime.chaos.crew import Crew

AFTER_LEASE_S = (0.5, 3.0)  # how long after the end of its lease a frozen worker is thawed
BRIEFLY_S = (0.2, 2.0)  # a freeze that ends before the lease does
AWAY_S = (0.0, 3.0)  # how long a server stays away


class Faults:
    """Injects faults, and mends later what mends itself in real life: frozen workers thaw, servers come back."""

    def __init__(self, crew: Crew, *, seed: int, lease_s: float) -> None:
        self.crew = crew
        self.chance = random.Random(seed)
        self.lease_s = lease_s
        self.counts: Counter[str] = Counter()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._away: set[str] = set()
        self._waiting: Callable[[], bool] | None = None
        self._kinds: list[tuple[int, Callable[[], bool]]] = [
            (60, self._kill_worker),
            (4, self._kill_scheduler),
            (8, self._freeze_until_taken_over),
            (5, self._freeze_briefly),
            (8, self._flush),
        ]
        if crew.valkey:
            self._kinds.append((4, self._kill_valkey))
        if crew.postgres:
            self._kinds.append((4, self._restart_postgres))

    @property
    def kills(self) -> int:
        """Processes ended from outside so far."""
        return sum(count for name, count in self.counts.items() if name.startswith("kill "))

    def inject(self) -> bool:
        """One fault of a kind that chance picks. False: there is nobody yet to do it to, and it is still due."""
        act = self._waiting or self.chance.choices([a for _, a in self._kinds], [w for w, _ in self._kinds])[0]
        done = act()
        self._waiting = None if done else act
        return done

    def mend_due(self) -> None:
        """Let come back what has been away for long enough."""
        moment = time.monotonic()
        due = [mend for at, mend in self._later if at <= moment]
        self._later = [(at, mend) for at, mend in self._later if at > moment]
        for mend in due:
            mend()

    def mend_all(self) -> None:
        """The faults are over: everything thaws and comes back now."""
        waiting, self._later = self._later, []
        for _, mend in waiting:
            mend()

    def is_frozen(self) -> bool:
        return any(member.is_frozen for member in self.crew.members)

    def _kill_worker(self) -> bool:
        """One of them, and now and then all at once."""
        able = self.crew.at_work()
        self.chance.shuffle(able)
        for member in able[: self.chance.choice((1, 1, 1, 1, 1, 1, 1, 10))]:
            member.kill()
            self.counts["kill worker"] += 1
        return bool(able)

    def _kill_scheduler(self) -> bool:
        if not self.crew.scheduler().is_alive:
            return False
        self.crew.scheduler().kill()
        self.counts["kill scheduler"] += 1
        return True

    def _freeze_until_taken_over(self) -> bool:
        return self._freeze("freeze past the lease", self.lease_s + self.chance.uniform(*AFTER_LEASE_S))

    def _freeze_briefly(self) -> bool:
        return self._freeze("freeze briefly", self.chance.uniform(*BRIEFLY_S))

    def _freeze(self, name: str, seconds: float) -> bool:
        """One worker at a time, so that others can take over. While one is frozen, nothing is done instead."""
        if self.is_frozen():
            return True
        able = self.crew.at_work()
        if not able:
            return False
        member = self.chance.choice(able)
        frozen = member.process
        member.freeze()
        self.counts[name] += 1
        self._after(seconds, lambda: member.thaw() if member.process is frozen else None)
        return True

    def _flush(self) -> bool:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2) as connection:
            try:
                connection.flushall() if self.crew.valkey else connection.flushdb()
            except redis.RedisError:
                return False  # it is away at the moment
        self.counts["flush redis"] += 1
        return True

    def _kill_valkey(self) -> bool:
        assert self.crew.valkey is not None
        return self._end_server(self.crew.valkey, signal.SIGKILL, "kill redis")

    def _restart_postgres(self) -> bool:
        """SIGQUIT: every backend ends at once, and the next start recovers from the write-ahead log."""
        assert self.crew.postgres is not None
        return self._end_server(self.crew.postgres, signal.SIGQUIT, "kill postgres")

    def _end_server(self, server: Postgres | Valkey, how: signal.Signals, name: str) -> bool:
        if server.name in self._away or server.process is None:
            return False
        server.process.send_signal(how)
        server.process.wait()
        self._away.add(server.name)
        self.counts[name] += 1
        self._after(self.chance.uniform(*AWAY_S), lambda: self._return(server))
        return True

    def _return(self, server: Postgres | Valkey) -> None:
        self.crew.start_server(server)
        self._away.discard(server.name)

    def _after(self, seconds: float, mend: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, mend))
