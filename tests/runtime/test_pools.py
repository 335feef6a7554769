"""The engine's connections when the database takes a statement and does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, InterfaceError, connection, transaction

from runtime import admission, claiming, pools, worker, workers
from runtime.committing import FLUSHERS, Committer
from runtime.journal import Lease, Write, operation
from runtime.models import Run
from runtime.states import RunStatus
from tests.patience import PATIENCE_S
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, saying, start

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


@asynccontextmanager
async def a_pool() -> AsyncIterator[Any]:
    async with worker.open_pool(FLUSHERS + 1) as pool:
        yield pool


def locked(run: Run, has_locked: asyncio.Event, may_end: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Somebody who holds a run and does not go on."""
    try:
        with transaction.atomic():
            Run.objects.select_for_update().get(pk=run.pk)
            loop.call_soon_threadsafe(has_locked.set)
            asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result()
    finally:
        connection.close()


@asynccontextmanager
async def held(run: Run) -> AsyncIterator[None]:
    has_locked, may_end = asyncio.Event(), asyncio.Event()
    holding = asyncio.create_task(
        asyncio.to_thread(locked, run, has_locked, may_end, asyncio.get_running_loop()),
    )
    await has_locked.wait()
    try:
        yield
    finally:
        may_end.set()
        await holding


def test_writes_that_are_never_answered_do_not_hold_all_that_come_after(monkeypatch):
    """One stuck statement for each flusher: nothing of this worker would be written any more."""
    monkeypatch.setattr(pools, "ANSWER_S", 0.3)
    stuck, other = (start(a_scripted_release(saying("Done."))) for _ in range(2))
    life = workers.register("test")

    async def story() -> None:
        async with a_pool() as pool:
            claimer, committer = claiming.Claimer(pool, life.pk), Committer(pool)
            for run in (stuck, other):
                await claimer.claim(run.pk)
            async with held(stuck):
                for _ in range(FLUSHERS):
                    with pytest.raises(psycopg.OperationalError, match="has not answered"):
                        await committer.write(operation(Lease(stuck.pk, 1), [Write()]))
                ended = operation(Lease(other.pk, 1), [Write(status=RunStatus.FAILED, cause="test")])
                await committer.write(ended)

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))

    assert Run.objects.get(pk=other.pk).status == RunStatus.FAILED


def test_a_claim_that_is_never_answered_does_not_hold_all_that_come_after(monkeypatch):
    monkeypatch.setattr(pools, "ANSWER_S", 0.3)
    stuck, other = (start(a_scripted_release(saying("Done."))) for _ in range(2))
    life = workers.register("test")

    async def story() -> Any:
        async with a_pool() as pool:
            claimer = claiming.Claimer(pool, life.pk)
            async with held(stuck):
                with pytest.raises(psycopg.OperationalError, match="has not answered"):
                    await claimer.claim(stuck.pk)
                return await claimer.claim(other.pk)

    assert asyncio.run(asyncio.wait_for(story(), PATIENCE_S)) is not None
    assert Run.objects.get(pk=stuck.pk).status == RunStatus.QUEUED


def test_a_run_that_somebody_has_locked_holds_up_no_other_in_its_statement(monkeypatch):
    monkeypatch.setattr(pools, "LOCKED_S", 0.3)
    stuck, other, later = (start(a_scripted_release(saying("Done."))) for _ in range(3))
    life = workers.register("test")

    def end(run: Run) -> Any:
        return operation(Lease(run.pk, 1), [Write(status=RunStatus.FAILED, cause="test")])

    async def story() -> tuple[list[Any], list[Any]]:
        async with a_pool() as pool:
            claimer, committer = claiming.Claimer(pool, life.pk), Committer(pool)
            assert await claimer.claim(stuck.pk)
            async with held(stuck), held(later):
                claimed = await asyncio.gather(claimer.claim(later.pk), claimer.claim(other.pk))
                writes = (committer.write(end(stuck)), committer.write(end(other)))
                return claimed, await asyncio.gather(*writes, return_exceptions=True)

    claimed, written = asyncio.run(asyncio.wait_for(story(), PATIENCE_S))

    assert claimed[0] is None and claimed[1].run_id == other.pk
    assert isinstance(written[0], psycopg.errors.LockNotAvailable)
    assert Run.objects.get(pk=other.pk).status == RunStatus.FAILED
    assert Run.objects.get(pk=later.pk).status == RunStatus.QUEUED


def patience(fileno: int) -> dict[str, int]:
    """What the system does on our behalf about an other end that says nothing."""
    with socket.socket(fileno=os.dup(fileno)) as ours:
        return {
            "idle_s": ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            "unanswered_ms": ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        }


def test_either_end_of_every_connection_notices_that_the_other_has_gone_without_a_word():
    ask = "SELECT current_setting('tcp_keepalives_idle')::int, current_setting('tcp_user_timeout')::int"

    async def engines() -> tuple[dict[str, int], Any]:
        async with a_pool() as pool, pool.connection() as ours:
            return patience(ours.pgconn.socket), await (await ours.execute(ask)).fetchone()

    with connection.cursor() as cursor:
        cursor.execute(ask)
        of_django = patience(connection.connection.pgconn.socket), cursor.fetchone()

    assert of_django == asyncio.run(engines()) == ({"idle_s": 30, "unanswered_ms": 60_000}, (30, 60_000))


def test_what_a_frozen_process_has_locked_is_free_again(monkeypatch):
    """As with SIGSTOP in the middle of a transaction: the system goes on answering for it, so no keep-alive notices."""
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "options", options["options"].replace("session_timeout=120000", "session_timeout=300"))
    has_locked, may_end = threading.Event(), threading.Event()

    def freeze() -> None:
        with contextlib.suppress(DatabaseError, InterfaceError), transaction.atomic():
            connection.cursor().execute("SELECT pg_advisory_xact_lock(%s)", [admission.ADMISSION_LOCK])
            has_locked.set()
            may_end.wait()
        connection.close()

    frozen = harness.in_background(freeze)
    has_locked.wait()
    filling = harness.in_background(lambda: (admission.fill(), connection.close()))
    filling.join(PATIENCE_S)
    was_free = not filling.is_alive()
    may_end.set()
    frozen.join()
    filling.join()

    assert was_free
