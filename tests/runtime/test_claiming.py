"""Claims that are asked for twice, or whose database goes away: who holds the run afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Any
from uuid import UUID

import pytest
from django.db import OperationalError

from runtime import admission, worker, workers
from runtime.engine import Engine
from runtime.messages import Reply
from runtime.models import Run, RunEvent
from runtime.providers.base import ModelRequest
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, start

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def test_a_turn_under_way_keeps_its_run_when_it_is_delivered_again_as_the_database_goes_away(monkeypatch):
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    async def script(request: ModelRequest) -> Reply:
        is_asked.set()
        await may_answer.wait()
        return Reply("Done.")

    def away(run_ids: Collection[UUID]) -> Any:
        raise OperationalError("The server closed the connection.")

    run, life = start(a_scripted_release(script)), workers.register("test")

    async def go() -> None:
        pool = worker.open_pool(4)
        await pool.open(wait=True)
        engine = Engine(pool, life.pk)
        turn = asyncio.create_task(engine.run_turn(run.pk))
        await is_asked.wait()
        monkeypatch.setattr(admission, "knock", away)
        with pytest.raises(OperationalError):
            await engine.run_turn(run.pk)
        may_answer.set()
        await turn
        await engine.settle()
        await pool.close()

    asyncio.run(go())

    run = Run.objects.get(pk=run.pk)
    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "Done.")
    assert not RunEvent.objects.filter(run=run, kind="run.yielded").exists()
