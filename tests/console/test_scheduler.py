from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import django_rq
import pytest
from django.conf import settings
from rq.cron import CronScheduler

from console import queue
from console.embedded import ports
from console.management.commands import scheduler
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.django_db


def a_scheduler() -> scheduler.Scheduler:
    return scheduler.Scheduler(django_rq.get_connection(queue.CHORES))


def test_every_periodic_function_is_an_entry_point_of_the_queue():
    functions = {function for function, _ in scheduler.periodic_work()}

    assert functions
    assert functions <= set(queue.entry_points().values())


def test_due_work_goes_through_our_queue_as_json(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        due = a_scheduler().enqueue_jobs()

    jobs = django_rq.get_queue(queue.CHORES).get_jobs()
    assert sorted(job.func_name for job in jobs) == sorted(job.func_name for job in due)
    assert all(isinstance(job, queue.Job) for job in jobs)
    assert all(job.func in queue.entry_points().values() for job in jobs)


def test_work_that_still_waits_is_not_enqueued_again(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        a_scheduler().enqueue_jobs()
    before = len(django_rq.get_queue(queue.CHORES))

    with django_capture_on_commit_callbacks(execute=True):
        a_scheduler().enqueue_jobs()

    assert len(django_rq.get_queue(queue.CHORES)) == before > 0


def test_work_that_a_flush_forgot_is_enqueued_again(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        a_scheduler().enqueue_jobs()
    before = len(django_rq.get_queue(queue.CHORES))
    django_rq.get_connection(queue.CHORES).flushdb()

    with django_capture_on_commit_callbacks(execute=True):
        a_scheduler().enqueue_jobs()

    assert len(django_rq.get_queue(queue.CHORES)) == before


def start(redis_url: str) -> subprocess.Popen[str]:
    command = [sys.executable, settings.BASE_DIR / "manage.py", "scheduler"]
    env = os.environ | {"REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_it_registers_itself_and_stops_cleanly():
    process = start(os.environ["REDIS_URL"])
    connection = django_rq.get_connection(queue.CHORES)
    end = time.monotonic() + PATIENCE_S
    while not CronScheduler.all(connection) and time.monotonic() < end and process.poll() is None:
        time.sleep(0.1)
    known = CronScheduler.all(connection)

    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=PATIENCE_S)

    assert len(known) == 1, said
    assert process.returncode == 0, said
    assert CronScheduler.all(connection) == []


def test_it_outlives_an_absent_redis():
    with socket.create_server((ports.LOOPBACK, 0)) as nobody:
        port = nobody.getsockname()[1]
    process = start(f"redis://{ports.LOOPBACK}:{port}/0")

    said = ""
    while "Redis does not answer" not in said and process.poll() is None:
        said += process.stdout.readline()

    assert process.poll() is None, said
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    process.stdout.close()
