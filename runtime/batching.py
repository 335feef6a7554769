"""RQ's records of many jobs at once: taken, kept alive and ended in one round trip each.

RQ's own worker spends about ten round trips on a job. Here a script takes as many jobs as there is room for and
registers their executions in the same moment, so that no job is ever out of its queue and not yet in a registry; that
is also why the intermediate lists of RQ stay empty. The keys and fields are those of `rq>=3.0,<3.1`; the contract tests
in tests/runtime/test_worker.py compare them with what RQ's own worker writes.

The scripts read and write what stands in Redis through `pcall`: whatever somebody put there, they go on.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis import Redis
from rq.defaults import RQ_KEY_PREFIX
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job
from rq.queue import Queue
from rq.registry import StartedJobRegistry
from rq.results import Result
from rq.suspension import WORKERS_SUSPENDED
from rq.utils import now, utcformat
from rq.worker import BaseWorker

EXECUTION_TTL_S = 120  # without a sign of life for so long, RQ calls the job abandoned
MOST_AT_ONCE = 500  # jobs per script: Redis answers nobody else meanwhile

_RESULTS = str(Result.get_key(""))  # type: ignore[no-untyped-call]  # rq leaves it untyped
NAMES = f"""
local job_prefix, execution_prefix = '{Job.key_for("")}', '{RQ_KEY_PREFIX}:execution:'
local registry_prefix, results_prefix = '{ExecutionRegistry("", Redis()).key}', '{_RESULTS}'
local worker, executions, bell = KEYS[1], KEYS[2], KEYS[3]
"""
# ARGV: worker's name, time stamp, time as text, worker's TTL, execution's TTL, start of new ids, place and id of a job
# that was popped already, turns running, number of run queues, then a limit per queue; KEYS from 4: queue and
# registry of started jobs, in turn. A limit counts for its queue and the run queues after it.
TAKE = (
    NAMES
    + f"""
local name, stamp, text, worker_ttl, ttl, base = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local handed, handed_id, running, chained = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local function give_back() if handed > 0 then redis.pcall('LPUSH', KEYS[2 + 2 * handed], handed_id) end end
redis.call('DEL', bell)
if redis.call('EXISTS', worker) == 0 then give_back() return {{'unknown'}} end
redis.call('HSET', worker, 'last_heartbeat', text)
redis.call('EXPIRE', worker, worker_ttl)
if redis.call('EXISTS', '{WORKERS_SUSPENDED}') == 1 then
    give_back() redis.call('HSET', worker, 'state', 'suspended') return {{'suspended'}}
end
local queues, limits, taken = (#KEYS - 3) / 2, {{}}, {{'ok'}}
for place = 1, queues do limits[place] = tonumber(ARGV[10 + place]) end
local function start(place, id)
    local record = job_prefix .. id
    local found = redis.pcall('HMGET', record, 'data', 'result_ttl')
    if found.err or not found[1] then return 0 end
    local execution = base .. string.format('%08x', #taken)
    local member, registry = id .. ':' .. execution, registry_prefix .. id
    local score = tonumber(stamp) + ttl
    redis.pcall('HSET', execution_prefix .. member, 'id', execution, 'job_id', id, 'created_at', stamp,
        'last_heartbeat', stamp, 'worker_name', name)
    redis.pcall('EXPIRE', execution_prefix .. member, ttl)
    redis.pcall('ZADD', registry, score + 60, execution)
    redis.pcall('EXPIRE', registry, ttl + 60)
    redis.pcall('ZADD', KEYS[3 + 2 * place], score, member)
    redis.pcall('SADD', executions, member)
    redis.pcall('HSET', record, 'last_heartbeat', text, 'status', 'started', 'started_at', text, 'worker_name', name)
    redis.pcall('PERSIST', record)
    taken[#taken + 1] = {{place, id, execution, found[1], found[2] or ''}}
    return 1
end
if handed > 0 then
    local count = start(handed, handed_id)
    for above = 1, queues do
        if above == handed or above < handed and handed <= chained then limits[above] = limits[above] - count end
    end
end
for place = 1, queues do
    while #taken <= {MOST_AT_ONCE} do
        local room = limits[place]
        if place <= chained then for above = 1, place do room = math.min(room, limits[above]) end end
        if room < 1 then break end
        local popped = redis.pcall('LPOP', KEYS[2 + 2 * place], math.min(room, {MOST_AT_ONCE}))
        if not popped or popped.err or #popped == 0 then break end
        for _, id in ipairs(popped) do
            local count = start(place, id)
            if place <= chained then for above = 1, place do limits[above] = limits[above] - count end
            else limits[place] = limits[place] - count end
        end
    end
end
redis.call('HSET', worker, 'state', (running + #taken > 1) and 'busy' or 'idle')
redis.pcall('EXPIRE', executions, ttl + 60)
return taken
"""
)
# ARGV: 1 to ring the bell, jobs done well, seconds they took; then registry of started jobs, id and execution of each.
# A job that was queued again in the meantime keeps its record.
END = (
    NAMES
    + """
for place = 4, #ARGV, 3 do
    local registry, id, execution = ARGV[place], ARGV[place + 1], ARGV[place + 2]
    local member, record = id .. ':' .. execution, job_prefix .. id
    redis.pcall('DEL', execution_prefix .. member)
    redis.pcall('ZREM', registry, member)
    redis.pcall('SREM', executions, member)
    if redis.pcall('HGET', record, 'status') == 'queued' then redis.pcall('ZREM', registry_prefix .. id, execution)
    else redis.call('DEL', record, record .. ':dependents', job_prefix .. ':' .. id .. ':dependencies',
        results_prefix .. id, registry_prefix .. id) end
end
if redis.call('EXISTS', worker) == 1 and tonumber(ARGV[2]) > 0 then
    redis.pcall('HINCRBY', worker, 'successful_job_count', ARGV[2])
    redis.pcall('HINCRBYFLOAT', worker, 'total_working_time', ARGV[3])
    if redis.pcall('SCARD', executions) == 0 then redis.pcall('HSET', worker, 'state', 'idle') end
end
if ARGV[1] == '1' then redis.pcall('RPUSH', bell, '1') redis.pcall('EXPIRE', bell, 60) end
"""
)
# ARGV: time stamp, time as text, execution's TTL; then as in END. What was removed meanwhile is not made anew.
KEEP = (
    NAMES
    + """
local stamp, text, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
for place = 4, #ARGV, 3 do
    local registry, id, execution = ARGV[place], ARGV[place + 1], ARGV[place + 2]
    local key, record = execution_prefix .. id .. ':' .. execution, job_prefix .. id
    if redis.call('EXISTS', key) == 1 then
        redis.pcall('HSET', key, 'last_heartbeat', stamp)
        redis.pcall('EXPIRE', key, ttl)
        redis.pcall('ZADD', registry, 'XX', tonumber(stamp) + ttl, id .. ':' .. execution)
        redis.pcall('ZADD', registry_prefix .. id, 'XX', tonumber(stamp) + ttl + 60, execution)
        redis.pcall('EXPIRE', registry_prefix .. id, ttl + 60)
        if redis.call('EXISTS', record) == 1 then redis.pcall('HSET', record, 'last_heartbeat', text) end
    end
end
redis.pcall('EXPIRE', executions, ttl + 60)
"""
)


class Taken(NamedTuple):
    """A job that this worker has started. `place` is the place of its queue among the worker's, from 0."""

    place: int
    id: str
    execution: str
    data: bytes
    result_ttl: str


@dataclass(frozen=True)
class Batch:
    """`answer`: ok; suspended: workers are to rest; unknown: Redis has forgotten this worker."""

    answer: str
    jobs: Sequence[Taken] = ()


class Batches:
    """The records of one worker's jobs. Used by its threads at once; each call is one round trip."""

    def __init__(self, worker: BaseWorker, queues: Sequence[Queue], *, chained: int) -> None:
        """The first `chained` queues share the worker's places; the others have places of their own."""
        self.worker = worker
        self.queues = list(queues)
        self.chained = chained
        self.bell = f"steadyhand:bell:{worker.name}"
        self._registries = [StartedJobRegistry(queue=queue).key for queue in queues]
        self._own = [worker.key, worker.executions_key, self.bell]
        pairs = zip((queue.key for queue in queues), self._registries, strict=True)
        self._keys = [*self._own, *(key for pair in pairs for key in pair)]
        self._places = {queue.key.encode(): place for place, queue in enumerate(queues)}
        connection: Redis = worker.connection
        self._take, self._end, self._keep = (connection.register_script(script) for script in (TAKE, END, KEEP))

    def take(self, limits: Sequence[int], running: int, handed: tuple[int, bytes] | None = None) -> Batch:
        """Take jobs as far as the limits go; see TAKE. `handed` is what `wait` has popped."""
        moment = now()
        place, job_id = (handed[0] + 1, handed[1]) if handed else (0, b"")
        answer, *jobs = self._take(
            self._keys,
            [
                self.worker.name, repr(moment.timestamp()), utcformat(moment), self.worker.worker_ttl + 60,
                EXECUTION_TTL_S, uuid.uuid4().hex[:24], place, job_id, running, self.chained, *limits,
            ],
        )  # fmt: skip
        taken = [_taken(job) for job in jobs]
        return Batch(answer.decode(), [job for job in taken if job is not None])

    def wait(self, open_places: Iterable[int], seconds: int) -> tuple[int, bytes] | None:
        """Wait until a job comes into one of these queues, or the bell rings; a job that came is popped.

        What dies before it hands that job to `take` has lost it for Redis; the sweep finds its run again.
        """
        keys = [self.bell, *(self.queues[place].key for place in open_places)]
        found: Any = self.worker.connection.blpop(keys, timeout=seconds)
        if found is None or found[0] not in self._places:
            return None
        return self._places[found[0]], found[1]

    def push_back(self, place: int, job_id: bytes) -> None:
        self.worker.connection.lpush(self.queues[place].key, job_id)

    def end(self, jobs: Sequence[Taken], *, well: int, seconds: float, ring: bool) -> None:
        """Remove jobs that have ended. `well` of them count as done, and took so many seconds together."""
        self._end(self._own, [int(ring), well, round(seconds, 6), *self._flat(jobs)])

    def ring(self) -> None:
        """End the waiting of `wait`, also if it begins only afterwards."""
        self._end(self._own, [1, 0, 0])

    def keep(self, jobs: Sequence[Taken]) -> None:
        """Say that these jobs are still being executed."""
        moment = now()
        for first in range(0, len(jobs), MOST_AT_ONCE):
            batch = self._flat(jobs[first : first + MOST_AT_ONCE])
            self._keep(self._own, [repr(moment.timestamp()), utcformat(moment), EXECUTION_TTL_S, *batch])

    def execution(self, job: Taken) -> Execution:
        return Execution(job.execution, job.id, self.worker.connection, self.worker.name)

    def _flat(self, jobs: Iterable[Taken]) -> list[str]:
        return [text for job in jobs for text in (self._registries[job.place], job.id, job.execution)]


def _taken(raw: Sequence[Any]) -> Taken | None:
    """A job as the script tells of it; None when its id is no text (it was forged)."""
    place, job_id, execution, data, result_ttl = raw
    try:
        return Taken(int(place) - 1, job_id.decode(), execution.decode(), data, result_ttl.decode())
    except UnicodeDecodeError:
        return None
