"""What this worker relies on of RQ, and what RQ's tools rely on of it. An upgrade of RQ that breaks it fails here."""

from __future__ import annotations

import inspect
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import django_rq
import pytest
import rq
from django.conf import settings
from django.db import connection
from rq.command import send_shutdown_command, send_stop_execution_command, send_stop_job_command
from rq.job import JobStatus
from rq.results import Result
from rq.suspension import resume, suspend
from rq.worker import BaseWorker, SimpleWorker

from console import queue
from runtime.models import Worker
from tests.patience import PATIENCE_S, until
from tests.runtime import idle_worker

pytestmark = pytest.mark.django_db(transaction=True)
SECONDS = PATIENCE_S
# Redis tells what RQ commands a worker across its database numbers: tests side by side need names of their own.
SLOT = f"w1{os.environ.get('PYTEST_XDIST_WORKER', '')}"


class Idle:
    """Worker processes that know the functions of `idle_worker`."""

    def __init__(self) -> None:
        name = connection.settings_dict["NAME"]
        url = urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))
        self.env = os.environ | {"DATABASE_URL": url, "PYTHONPATH": str(settings.BASE_DIR)}
        self.started: list[subprocess.Popen[str]] = []

    def start(self, slot: str = SLOT, turns_at_once: int = 10) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", idle_worker.NAME, slot, str(turns_at_once)]
        process = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        return process

    def stop(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def idle() -> Iterator[Idle]:
    idle_worker.allow()
    found = Idle()
    yield found
    found.stop()
    for function in idle_worker.ENTRY_POINTS:
        queue.entry_points().pop(f"{idle_worker.NAME}.{function.__name__}", None)


def enqueue(function: str, *, name: str = queue.RUNS, **options: Any) -> Any:
    options.setdefault("result_ttl", 0)
    return django_rq.get_queue(name).enqueue_call(f"{idle_worker.NAME}.{function}", args=("x",), **options)


def redis() -> Any:
    return django_rq.get_connection(queue.RUNS)


def standing(*names: str) -> dict[str, Any]:
    """What stands in Redis: each key with its type and fields, whatever ids and names are in it."""
    names_re = re.compile("|".join(map(re.escape, names)))
    found = {}
    for key in redis().keys("rq:*"):
        kind = redis().type(key).decode()
        fields = sorted(field.decode() for field in redis().hkeys(key)) if kind == "hash" else []
        text = names_re.sub("<name>", key.decode())
        found[re.sub(r"[0-9a-f]{32}", "<execution>", text)] = (kind, fields, redis().ttl(key) > 0)
    return found


def is_started(job: Any) -> bool:
    return bool(job.get_status() == JobStatus.STARTED)


def test_the_rq_that_this_was_written_for():
    """Read the changes of RQ, run these tests, then raise the bound in pyproject.toml."""
    assert rq.VERSION.startswith("3.0.")
    assert list(inspect.signature(BaseWorker._finalize_failure).parameters) == [
        "self", "job", "queue", "execution", "exc_info",
    ]  # fmt: skip
    for name in ("work", "handle_payload", "request_stop", "request_stop_execution", "register_birth", "teardown"):
        assert callable(getattr(BaseWorker, name))


def test_a_job_at_work_and_a_job_done_leave_what_rq_itself_leaves(idle, monkeypatch):
    during: list[dict[str, Any]] = []
    monkeypatch.setitem(
        queue.entry_points(), f"{idle_worker.NAME}.nothing", lambda _: during.append(standing("job-1", "theirs"))
    )
    enqueue("nothing", job_id="job-1")
    theirs = SimpleWorker(
        [django_rq.get_queue(queue.RUNS)], name="theirs", connection=redis(), job_class=queue.Job,
        queue_class=queue.Queue, serializer="rq.serializers.JSONSerializer",
    )  # fmt: skip
    theirs.work(burst=True, logging_level="ERROR")
    after_theirs = standing("job-1", "theirs")
    redis().flushdb()

    process = idle.start("ours")
    job = enqueue("wait", job_id="job-1")
    until(lambda: is_started(job), SECONDS)
    ours = standing("job-1", "ours")
    send_stop_job_command(redis(), "job-1", serializer="json")
    until(lambda: job.get_status() == JobStatus.STOPPED, SECONDS)
    redis().delete("rq:failed:" + queue.RUNS, job.key, Result.get_key(job.id))
    enqueue("nothing", job_id="job-1")
    until(lambda: redis().hget("rq:worker:ours", "successful_job_count") == b"1", SECONDS)
    process.terminate()
    process.wait(timeout=SECONDS)

    def of_jobs(found: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in found.items() if not re.match(r"rq:(workers|queues|clean)", key)}

    assert set(of_jobs(ours)) == set(of_jobs(during[0]))
    for key, (kind, fields, expires) in of_jobs(during[0]).items():
        if key != "rq:worker:<name>":
            assert ours[key] == (kind, fields, expires), key
    assert set(during[0]["rq:worker:<name>"][1]) <= {*ours["rq:worker:<name>"][1], "current_job", "birth"}
    assert set(of_jobs(standing("job-1", "ours"))) == set(of_jobs(after_theirs))
    assert redis().scard("rq:workers") == 0


def test_rq_shows_the_worker_and_what_it_executes(idle):
    idle.start()
    job = enqueue("wait")
    until(lambda: is_started(job), SECONDS)

    worker = BaseWorker.find_by_key(f"rq:worker:{SLOT}", connection=redis(), job_class=queue.Job, serializer="json")
    info = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "--url", settings.REDIS_URL, "--raw"],
        capture_output=True, text=True, check=True, timeout=SECONDS,
    )  # fmt: skip

    assert worker is not None and worker.get_state() == "busy"
    assert worker.queue_names() == list(queue.QUEUES)
    assert [execution.job_id for execution in worker.get_current_executions()] == [job.id]
    assert django_rq.get_queue(queue.RUNS).started_job_registry.get_job_ids() == [job.id]
    assert SLOT in info.stdout and queue.RUNS in info.stdout


def test_a_failed_job_is_kept_with_its_error(idle):
    idle.start()
    job = enqueue("fail")

    until(lambda: job.id in django_rq.get_queue(queue.RUNS).failed_job_registry.get_job_ids(), SECONDS)

    assert "ValueError" in job.latest_result().exc_string
    assert redis().hget(f"rq:worker:{SLOT}", "failed_job_count") == b"1"
    assert redis().zcard(f"rq:wip:{queue.RUNS}") == 0


def test_a_result_that_is_to_be_kept_is_left_to_rq(idle):
    idle.start()
    job = enqueue("nothing", result_ttl=60)

    until(lambda: job.get_status() == JobStatus.FINISHED, SECONDS)

    assert redis().zcard(f"rq:finished:{queue.RUNS}") == 1


@pytest.mark.parametrize("command", ["job", "execution"])
def test_a_command_stops_one_job_and_leaves_the_others(idle, command):
    idle.start()
    stopped, other = enqueue("wait"), enqueue("wait")
    until(lambda: is_started(stopped) and is_started(other), SECONDS)

    if command == "job":
        send_stop_job_command(redis(), stopped.id, serializer="json")
    else:
        send_stop_execution_command(redis(), stopped.id, stopped.get_executions()[0].id)

    until(lambda: stopped.get_status() == JobStatus.STOPPED, SECONDS)
    assert is_started(other)


def test_commands_that_cannot_be_read_stop_nothing(idle):
    process = idle.start()
    for forged in (b"", b"[]", b"{}", b'{"command": "stop-job", "job_id": {"a": 1}}', b"\xff", b'{"command": 1}'):
        redis().publish(f"rq:pubsub:{SLOT}", forged)
    job = enqueue("nothing", result_ttl=60)

    until(lambda: job.get_status() == JobStatus.FINISHED, SECONDS)
    assert process.poll() is None


def test_a_suspended_worker_takes_nothing_until_it_is_resumed(idle):
    idle.start()
    suspend(redis())
    until(lambda: redis().hget(f"rq:worker:{SLOT}", "state") == b"suspended", SECONDS)
    job = enqueue("nothing", result_ttl=60)
    time.sleep(1.5)
    assert job.get_status() == JobStatus.QUEUED

    resume(redis())

    until(lambda: job.get_status() == JobStatus.FINISHED, SECONDS)


def test_the_shutdown_command_ends_the_worker_in_order(idle):
    process = idle.start()
    until(lambda: redis().exists(f"rq:worker:{SLOT}") == 1, SECONDS)
    until(lambda: redis().pubsub_numsub(f"rq:pubsub:{SLOT}")[0][1] == 1, SECONDS)

    send_shutdown_command(redis(), SLOT)

    assert process.wait(timeout=SECONDS) == 0
    assert redis().hexists(f"rq:worker:{SLOT}", "death")
    assert not Worker.objects.filter(ended_at__isnull=True).exists()


def test_a_worker_that_redis_has_forgotten_introduces_itself_again(idle):
    idle.start()
    until(lambda: redis().exists(f"rq:worker:{SLOT}") == 1, SECONDS)
    redis().flushdb()
    job = enqueue("nothing", result_ttl=60)

    until(lambda: job.get_status() == JobStatus.FINISHED, SECONDS)

    assert redis().hexists(f"rq:worker:{SLOT}", "birth")
    assert redis().smembers("rq:workers") == {f"rq:worker:{SLOT}".encode()}


def test_chores_neither_starve_nor_take_the_places_of_runs(idle):
    idle.start(turns_at_once=2)
    running = [enqueue("wait") for _ in range(2)]
    until(lambda: all(map(is_started, running)), SECONDS)
    waiting = enqueue("wait")

    chores = [enqueue("chore", name=queue.CHORES, result_ttl=60) for _ in range(10)]

    until(lambda: all(chore.get_status() == JobStatus.FINISHED for chore in chores), SECONDS)
    assert waiting.get_status() == JobStatus.QUEUED


def test_callbacks_that_hang_hold_up_no_chore(idle):
    idle.start()
    hanging = [enqueue("hang", name=queue.CALLBACKS) for _ in range(20)]
    until(lambda: sum(map(is_started, hanging)) == 16, SECONDS)

    chore = enqueue("chore", name=queue.CHORES, result_ttl=60)

    until(lambda: chore.get_status() == JobStatus.FINISHED, SECONDS)
    assert sum(map(is_started, hanging)) == 16


def test_a_burst_of_evaluations_does_not_delay_an_interactive_run(idle):
    """The worker is full of evaluations; the interactive run still starts at once, on a place kept for it."""
    idle.start(turns_at_once=10)
    burst = [enqueue("wait", name=queue.EVALUATION) for _ in range(30)]
    until(lambda: sum(map(is_started, burst)) == 8, SECONDS)

    background = [enqueue("wait", name=queue.BACKGROUND) for _ in range(3)]
    until(lambda: sum(map(is_started, background)) == 1, SECONDS)
    interactive = enqueue("wait")

    until(lambda: is_started(interactive), SECONDS)
    assert (sum(map(is_started, burst)), sum(map(is_started, background))) == (8, 1)
    send_stop_job_command(redis(), burst[0].id, serializer="json")
    time.sleep(1)  # what becomes free belongs to those before: all ten places minus both reserves are taken
    assert sum(map(is_started, [*burst, *background])) in (8, 9)


def test_a_place_that_becomes_free_is_taken_at_once(idle):
    idle.env["WAIT_S"] = "3600"  # by itself, the worker would look only then
    idle.start(turns_at_once=1)
    first, second = enqueue("wait"), enqueue("wait")
    until(lambda: is_started(first), SECONDS)
    assert second.get_status() == JobStatus.QUEUED

    send_stop_job_command(redis(), first.id, serializer="json")

    until(lambda: is_started(second), SECONDS)


def test_a_long_job_stays_registered(idle):
    """Without a sign of life RQ calls a job abandoned and marks it failed."""
    from runtime.batching import Batches, Taken

    idle.start()
    job = enqueue("wait")
    until(lambda: is_started(job), SECONDS)
    registry = django_rq.get_queue(queue.RUNS).started_job_registry
    execution = job.get_executions()[0]
    member = execution.composite_key
    redis().zadd(registry.key, {member: 1})
    redis().expire(execution.key, 5)
    worker = BaseWorker.find_by_key(f"rq:worker:{SLOT}", connection=redis(), job_class=queue.Job, serializer="json")
    batches = Batches(worker, [django_rq.get_queue(name) for name in queue.QUEUES], chained=3)

    batches.keep([Taken(0, job.id, execution.id, b"", "0"), Taken(0, "gone", "0" * 32, b"", "0")])

    assert redis().zscore(registry.key, member) > time.time() + 60
    assert redis().ttl(execution.key) > 60
    assert not redis().exists("rq:execution:gone:" + "0" * 32, "rq:job:gone")
