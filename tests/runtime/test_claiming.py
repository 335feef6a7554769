"""Claims that are asked for twice, or whose database goes away: who holds the run afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Any, cast
from uuid import UUID

import pytest
from django.db import OperationalError

from console import ids
from runtime import admission, claiming, worker, workers
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


class Slow(claiming.Claimer):
    """Its claims are answered when they are let."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None), ids.new())
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def _together(self, run_ids: list[UUID]) -> dict[UUID, claiming.Claimed]:
        self.has_begun.set()
        await self.may_end.wait()
        return {run_id: ({"id": run_id}, []) for run_id in run_ids}


@pytest.mark.parametrize("when", ["while it is claimed", "right after"])
async def test_a_run_whose_turn_is_cancelled_during_its_claim_is_given_back(monkeypatch, when):
    given_back: list[UUID] = []
    answer = claiming._answer

    async def give_back(pool: Any, worker_id: UUID, run_ids: Collection[UUID]) -> None:
        given_back.extend(run_ids)

    def answer_and_cancel(*about: Any) -> None:
        answer(*about)
        turn.cancel()

    monkeypatch.setattr(claiming, "give_back", give_back)
    claimer, run_id = Slow(), ids.new()
    turn = asyncio.create_task(claimer.claim(run_id))
    await claimer.has_begun.wait()
    if when == "right after":
        monkeypatch.setattr(claiming, "_answer", answer_and_cancel)
    else:
        turn.cancel()
    claimer.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert claimer.claiming is not None
    await claimer.claiming

    assert given_back == [run_id]
    assert not claimer.asked
