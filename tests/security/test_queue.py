"""Whoever writes to Redis gains no execution and stops no worker (D44, D16)."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path

import django_rq
import pytest
from django.conf import settings
from rq.exceptions import NoSuchJobError

from console import queue
from releases import switches
from releases.states import Scope, SwitchEffect
from runtime.models import Run
from runtime.states import FINAL
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start
from tests.runtime.test_workers import Processes, a_chaos_release, processes, until  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "run_" + "0" * 26
RECORD = {"created_at": "2026-11-24T08:00:00.000000Z", "status": "queued", "origin": queue.RUNS, "timeout": "3600"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def asking(function, args, kwargs=None) -> bytes:
    return zlib.compress(json.dumps([function, None, args, kwargs or {}]).encode())


def forged(mark: Path) -> dict[str, dict]:
    sweep = asking("runtime.jobs.sweep_callbacks", [])
    return {
        "pickle": {**RECORD, "data": zlib.compress(pickle.dumps(("os.system", None, (f"touch {mark}",), {})))},
        "bomb": {**RECORD, "data": pickle.dumps(Bomb(mark))},
        "system": {**RECORD, "data": asking("os.system", [f"touch {mark}"])},
        "verb": {**RECORD, "data": asking("releases.switches.lift", [NOBODY])},
        "private": {**RECORD, "data": asking("runtime.jobs.callbacks.deliver", [NOBODY])},
        "extra": {**RECORD, "data": asking("runtime.jobs.run_turn", [NOBODY], {"run": NOBODY})},
        "no argument": {**RECORD, "data": asking("runtime.jobs.run_turn", [])},
        "no id": {**RECORD, "data": asking("runtime.jobs.run_turn", ["x"])},
        "nobody": {**RECORD, "data": asking("runtime.jobs.run_turn", [NOBODY])},
        "garbage": {**RECORD, "data": b"garbage"},
        "list": {**RECORD, "data": b"[[[["},
        "timeout": {**RECORD, "data": sweep, "timeout": "abc"},
        "date": {**RECORD, "data": sweep, "created_at": "never"},
        "status": {**RECORD, "data": sweep, "status": "owned"},
        "callback": {**RECORD, "data": sweep, "success_callback_name": "os.abort", "success_callback_timeout": "x"},
        "called back": {**RECORD, "data": sweep, "success_callback_name": "os.abort"},
        "repeats": {**RECORD, "data": sweep, "repeats_left": "5", "repeat_intervals": "[0]"},
        "retries": {**RECORD, "data": asking("os.system", ["x"]), "retries_left": "5", "retry_intervals": "[0]"},
        "webhook": {**RECORD, "data": sweep, "webhooks": json.dumps([{"url": "http://127.0.0.1:9/"}])},
    }


def test_forged_records_run_nothing_and_stop_no_worker(processes: Processes, tmp_path):  # noqa: F811
    """D44: each forged record once, then a real run, which the same worker life still executes."""
    mark = tmp_path / "executed"
    redis = django_rq.get_connection(queue.RUNS)
    process = processes.start()
    redis.rpush(f"rq:queue:{queue.RUNS}", b"\xff\xfe", "no-such-job")
    for name, record in forged(mark).items():
        redis.hset(f"rq:job:forged {name}", mapping=record)
        redis.rpush(f"rq:queue:{queue.RUNS}", f"forged {name}")
    run = start(a_chaos_release())

    until(lambda: Run.objects.get(pk=run.pk).status in FINAL and redis.llen(f"rq:queue:{queue.RUNS}") == 0)

    assert process.poll() is None
    assert not mark.exists()
    assert len(harness.paid()) == 1


@pytest.mark.parametrize("name", ["pickle", "bomb", "garbage", "list", "timeout", "date", "status", "callback"])
def test_a_record_that_cannot_be_read_is_no_job(name, tmp_path):
    """D44: and reading it executes nothing."""
    redis = django_rq.get_connection(queue.RUNS)
    redis.hset("rq:job:forged", mapping=forged(tmp_path / "executed")[name])

    with pytest.raises(NoSuchJobError):
        queue.Job.fetch("forged", connection=redis, serializer="json")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("data", [b"[" * 16_000, b'{"a":' * 3_000, zlib.compress(b"[" * 10_000_000)])
def test_what_is_nested_without_end_is_forged_like_the_rest(data):
    """D44: the jobs that were taken together with it are begun."""
    with pytest.raises(queue.ForgedJob):
        queue.asked("forged", data)


@pytest.mark.parametrize("name", ["repeats", "retries", "called back", "webhook"])
def test_a_record_cannot_ask_for_more_than_one_call(name, tmp_path):
    """D44: no repetition, no callback, no dependency, whatever the record says."""
    redis = django_rq.get_connection(queue.RUNS)
    redis.hset("rq:job:forged", mapping=forged(tmp_path / "executed")[name])

    job = queue.Job.fetch("forged", connection=redis, serializer="json")

    assert (job.repeats_left, job.retries_left, job.success_callback) == (None, None, None)


def test_nothing_that_is_stored_outside_of_the_database_is_pickled():
    """D44: sessions, cache and queue."""
    assert settings.SESSION_ENGINE.endswith(".db")
    assert settings.SESSION_SERIALIZER.endswith("JSONSerializer")
    assert all("redis" not in cache["BACKEND"].lower() for cache in settings.CACHES.values())
    assert {each["SERIALIZER"] for each in settings.RQ_QUEUES.values()} == {"rq.serializers.JSONSerializer"}


def test_a_switch_outlives_a_flushed_redis_and_new_workers(processes: Processes):  # noqa: F811
    """D16: what is stopped is written in PostgreSQL; the count of calls it stopped too."""
    release = a_chaos_release()
    switches.engage(Scope.EVERYTHING, SwitchEffect.WRITES_OFF, "", by=harness.DECIDER, reason="stop")
    django_rq.get_connection(queue.RUNS).flushall()
    runs = [start(release, f"run {number}") for number in range(5)]
    first = processes.start()
    first.kill()
    first.wait()
    django_rq.get_connection(queue.RUNS).flushall()
    processes.start()

    until(lambda: not Run.objects.filter(pk__in=[run.pk for run in runs]).exclude(status__in=FINAL).exists())

    assert harness.paid() == []
    assert Run.objects.filter(steps__rule="kill_switch").distinct().count() == 5


def test_a_queued_run_is_stopped_by_a_switch_engaged_while_it_waited():
    """D15: twenty in the queue, and nothing of them is dispatched after the switch."""
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "Off."))
    runs = [start(release) for _ in range(20)]
    switches.engage(Scope.AGENT, SwitchEffect.WRITES_OFF, release.agent.slug, by=harness.DECIDER, reason="stop")

    harness.work_all(runs)

    assert harness.paid() == [] and harness.effects == []
    assert Run.objects.filter(steps__rule="kill_switch").distinct().count() == 20
