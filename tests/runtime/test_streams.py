"""A run followed as server-sent events: in order, nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.db import connection, transaction
from django.test import AsyncClient
from django.utils.timezone import now

from console import live, stopping
from console.models import RoleGrant
from console.roles import Role
from runtime import drafts, events, streams
from runtime.models import Draft, Run, Step
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import a_run, a_step, an_event
from tests.patience import PATIENCE_S
from tests.programs import API, Program

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(streams, "LOOK_NO_SOONER_S", 0.0)
    yield
    # A look that is still under way would hold tables that the next test wants empty.
    everybody = threading.Barrier(streams.LOOKERS)
    list(streams._lookers.map(lambda _: everybody.wait(timeout=PATIENCE_S), range(streams.LOOKERS)))
    # Views of the asynchronous client run in this thread; its connection would keep the test database from going.
    SyncToAsync.single_thread_executor.submit(lambda: connection.close()).result()


class Listener:
    """Reads a stream as a client does: fields into events, comments aside."""

    def __init__(self, program: Program, run: Run, **headers: str) -> None:
        self.path = f"{API}/runs/{run.public_id}/events/stream"
        self.headers = {**program.headers, **headers}
        self.comments: list[str] = []
        self.client = AsyncClient()

    async def __aenter__(self):
        self.response = await self.client.get(self.path, headers=self.headers)
        assert self.response.status_code == 200
        self.pieces = aiter(self.response.streaming_content)
        return self

    async def __aexit__(self, *_):
        await self.pieces.aclose()

    async def next(self, within: float = PATIENCE_S) -> dict[str, Any] | None:
        """The next event, or None when the stream has ended."""
        async with asyncio.timeout(within):
            async for piece in self.pieces:
                fields = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
                if "event" in fields:
                    return {"name": fields["event"], "id": fields.get("id"), "data": json.loads(fields["data"])}
                self.comments.append(piece.decode())
        return None

    async def rest(self) -> list[dict[str, Any]]:
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


def listen(program: Program, run: Run, **headers: str) -> list[dict[str, Any]]:
    async def main():
        async with Listener(program, run, **headers) as listener:
            return await listener.rest()

    return asyncio.run(main())


async def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do it in another thread on a connection of its own, as a worker would."""

    def on_its_own():
        try:
            return work(*arguments)
        finally:
            connection.close()

    return await asyncio.to_thread(on_its_own)


async def hang_up(reading: asyncio.Future[Any]) -> None:
    """What a closed connection does to whoever is writing to it."""
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading


def a_story(status: RunStatus = RunStatus.SUCCEEDED) -> Run:
    """created 1, input 2, model 3 to 4, tool 5, tool 6 begun, event 7, tool 6 done as 8, finished 9."""
    run = a_run(status, answer="Refunded.")
    an_event(run, "run.created", data={"release": "1.0"})
    a_step(run, StepKind.INPUT, "Message received")
    a_step(run, StepKind.MODEL, "gpt", seq=3, done_seq=4)
    a_step(run, name="lookup_order", seq=5)
    a_step(run, name="issue_refund", seq=6, done_seq=8, input={"secret": "payload"})
    an_event(run, "approval.decided", seq=7)
    an_event(run, "run.finished", seq=9, data={"status": status})
    Run.objects.filter(pk=run.pk).update(seq=9)
    return run


STORY = [
    ("1", "run.created"),
    ("2", "step.finished"),
    ("3", "step.started"),
    ("4", "step.finished"),
    ("5", "step.finished"),
    ("6", "step.started"),
    ("7", "approval.decided"),
    ("8", "step.finished"),
    ("9", "run.finished"),
]


def names(found):
    return [(event["id"], event["name"]) for event in found]


def test_a_finished_run_is_told_in_order_and_the_stream_closes():
    run = a_story()

    told = listen(Program("runs.read"), run)

    assert names(told) == STORY
    assert told[2]["data"]["status"] == "started"  # as it was then, though it has ended since
    assert told[3]["data"]["status"] == "done"
    assert told[-1]["data"]["answer"] == "Refunded."
    assert told[-1]["data"]["status"] == "succeeded"
    assert told[7]["data"]["payload"] is None  # fetched from the steps when it is wanted


@pytest.mark.parametrize(("role", "told"), [(Role.SUPPORT, "ana@example.com"), (Role.AUDITOR, "•••")])
def test_personal_data_is_masked_for_those_who_only_look_on(role, told):
    run = a_run(answer="Written to ana@example.com")
    a_step(run, summary="ana@example.com")
    an_event(run, "run.note", data={"to": "ana@example.com"})

    events = listen(Program(role=role), run)

    assert [events[0]["data"]["summary"], events[1]["data"]["to"]] == [told, told]
    assert events[2]["data"]["answer"] == f"Written to {told}"


def test_resuming_anywhere_loses_nothing_and_repeats_nothing(monkeypatch):
    run, program = a_story(), Program("runs.read")
    monkeypatch.setattr(streams, "BATCH", 2)

    for place in range(len(STORY)):
        told = listen(program, run, **{"Last-Event-ID": str(place)})

        assert names(told) == STORY[place:]


def test_a_stream_that_was_told_everything_is_not_opened_again():
    run, program = a_story(), Program("runs.read")

    answer = program.get(f"/runs/{run.public_id}/events/stream", **{"Last-Event-ID": "9"})

    assert (answer.status_code, answer.content) == (204, b"")


def test_an_end_that_no_event_tells_of_is_told_once():
    run, program = a_run(RunStatus.CANCELLED, cause="cancelled"), Program("runs.read")
    an_event(run, "run.created")

    told = listen(program, run)
    again = program.get(f"/runs/{run.public_id}/events/stream", **{"Last-Event-ID": told[-1]["id"]})

    assert names(told) == [("1", "run.created"), ("2", "run.finished")]
    assert told[-1]["data"]["cause"] == "cancelled"
    assert again.status_code == 204


@pytest.mark.parametrize("place", ["x", "-1", "99999999999"])
def test_a_place_that_is_no_number_is_refused(place):
    run = a_story()

    answer = Program().get(f"/runs/{run.public_id}/events/stream", **{"Last-Event-ID": place})

    assert answer.status_code == 422


def test_the_query_says_where_to_begin_and_the_header_goes_first():
    run, program = a_story(), Program("runs.read")

    async def first(query, **headers):
        listener = Listener(program, run, **headers)
        listener.path += query
        async with listener:
            return await listener.next()

    assert asyncio.run(first("?after=7"))["id"] == "8"
    assert asyncio.run(first("?after=7", **{"Last-Event-ID": "3"}))["id"] == "4"


def test_what_happens_is_told_at_once_when_it_is_announced(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_ANYWAY_S", 3600.0)  # by itself it would never look
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")

    def a_worker_writes():
        a_step(run, name="lookup_order")
        live.announce(f"run:{run.public_id}")

    async def main():
        async with Listener(program, run) as listener:
            waiting = asyncio.ensure_future(listener.next(within=PATIENCE_S))
            await asyncio.sleep(0.5)
            assert not waiting.done()
            await apart(a_worker_writes)
            return await waiting

    event = asyncio.run(main())

    assert event["data"]["name"] == "lookup_order"


def test_without_redis_it_is_told_by_looking(settings):
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]},
        }
    }
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")

    async def main():
        async with Listener(program, run) as listener:
            waiting = asyncio.ensure_future(listener.next(within=PATIENCE_S))
            await asyncio.sleep(0.3)
            await apart(a_step, run)
            return await waiting

    assert asyncio.run(main())["name"] == "step.finished"


def test_a_step_is_told_when_it_begins_and_when_its_result_comes(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_ANYWAY_S", 0.05)
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")
    step = a_step(run, name="issue_refund", status=StepStatus.STARTED)

    def finish():
        number = events.next_seq(run.pk)
        Step.objects.filter(pk=step.pk).update(status=StepStatus.DONE, finished_at=now(), done_seq=number)

    def end():
        Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, finished_at=now())
        events.append(run, "run.finished")

    async def main():
        async with Listener(program, run) as listener:
            begun = await listener.next()
            await apart(finish)
            done = await listener.next()
            await apart(end)
            return [begun, done, *await listener.rest()]

    told = asyncio.run(main())

    assert names(told) == [("1", "step.started"), ("2", "step.finished"), ("3", "run.finished")]
    assert told[0]["data"]["step_id"] == told[1]["data"]["step_id"] == step.public_id


def test_nothing_is_lost_while_the_journal_is_being_written(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_ANYWAY_S", 0.001)
    monkeypatch.setattr(streams, "BATCH", 7)
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")
    rounds = 60

    def a_worker_writes():
        for _ in range(rounds):
            with transaction.atomic():
                begun = events.next_seq(run.pk)
                step = a_step(run, seq=begun, status=StepStatus.STARTED)
                events.append(run, "run.note")
            with transaction.atomic():
                done = events.next_seq(run.pk)
                Step.objects.filter(pk=step.pk).update(status=StepStatus.DONE, finished_at=now(), done_seq=done)
        with transaction.atomic():
            Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, finished_at=now())
            events.append(run, "run.finished")

    async def main():
        async with Listener(program, run) as listener:
            writing = asyncio.ensure_future(apart(a_worker_writes))
            told = await listener.rest()
            await writing
            return told

    told = asyncio.run(main())

    assert [int(event["id"]) for event in told] == list(range(1, 3 * rounds + 2))


def assembled(told: list[dict[str, Any]]) -> str:
    """The text as a client puts it together."""
    text = ""
    for event in told:
        if event["name"] == "draft":
            text = text[: event["data"]["at"]] + event["data"]["text"]
    return text


def write(run: Run, text: str) -> None:
    Draft.objects.update_or_create(run=run, defaults={"text": text, "updated_at": now()})
    live.announce(drafts.topic(run.public_id))


def test_text_that_is_being_written_comes_in_pieces_without_a_number(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_ANYWAY_S", 3600.0)  # by itself it would never look
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")
    Draft.objects.create(run=run, text="I will")

    async def main():
        async with Listener(program, run) as listener:
            told = [await listener.next()]
            for text in ("I will refund", "I will refund it\nnow 🎉"):
                await asyncio.sleep(0.05)
                await apart(write, run, text)
                told.append(await listener.next())
            return told

    told = asyncio.run(main())

    assert names(told) == [(None, "draft")] * 3
    assert [event["data"] for event in told] == [
        {"at": 0, "text": "I will"},
        {"at": 6, "text": " refund"},
        {"at": 13, "text": " it\nnow 🎉"},
    ]


def test_after_a_reconnect_the_whole_text_comes_once(monkeypatch):
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")
    write(run, "I will refund it")

    async def first():
        async with Listener(program, run) as listener:
            return await listener.next()

    for _ in range(2):
        assert asyncio.run(first())["data"] == {"at": 0, "text": "I will refund it"}


def test_a_text_begins_anew_with_the_next_call_of_the_model(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_ANYWAY_S", 0.05)
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")
    write(run, "I will look it up")

    def the_step_ends():
        with transaction.atomic():
            a_step(run, StepKind.MODEL, "gpt")
            Draft.objects.filter(run=run).delete()
        write(run, "I will pay")

    async def main():
        async with Listener(program, run) as listener:
            told = [await listener.next()]
            await apart(the_step_ends)
            return [*told, await listener.next(), await listener.next()]

    told = asyncio.run(main())

    assert [event["name"] for event in told] == ["draft", "step.finished", "draft"]
    assert told[-1]["data"] == {"at": 0, "text": "I will pay"}


def test_what_is_masked_later_is_taken_back(monkeypatch):
    monkeypatch.setattr(streams, "LOOK_ANYWAY_S", 0.05)
    run, program = a_run(RunStatus.RUNNING), Program(role=Role.AUDITOR)
    write(run, "Write to ana@exam")

    async def main():
        async with Listener(program, run) as listener:
            told = [await listener.next()]
            await apart(write, run, "Write to ana@example.com today")
            return [*told, await listener.next()]

    told = asyncio.run(main())

    assert assembled(told) == "Write to ••• today"


def test_a_quiet_stream_shows_that_it_lives(monkeypatch):
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")

    async def main():
        async with Listener(program, run) as listener:
            with pytest.raises(TimeoutError):
                await listener.next(within=1)
            return listener.comments

    comments = asyncio.run(main())

    assert comments[0].startswith("retry:")
    assert comments.count(": keep-alive\n\n") >= 2


@pytest.mark.parametrize("what", ["token", "role"])
def test_a_stream_ends_when_the_right_to_it_ends(monkeypatch, what):
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")

    def take_away():
        if what == "token":
            program.set(revoked_at=now())
        else:
            RoleGrant.objects.filter(user=program.owner).update(role=Role.SUPPORT, agent="another-agent")

    async def main():
        async with Listener(program, run) as listener:
            waiting = asyncio.ensure_future(listener.rest())
            await asyncio.sleep(0.3)
            assert not waiting.done()
            await apart(take_away)
            return await asyncio.wait_for(waiting, PATIENCE_S)

    told = asyncio.run(main())

    assert names(told) == [(None, "stream.closed")]


def test_a_stream_ends_when_the_server_stops(monkeypatch):
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")

    async def main():
        async with Listener(program, run) as listener:
            waiting = asyncio.ensure_future(listener.rest())
            await asyncio.sleep(0.3)
            assert not waiting.done()
            monkeypatch.setattr(stopping, "is_asked", lambda: True)
            return await asyncio.wait_for(waiting, PATIENCE_S)

    assert asyncio.run(main()) == []


def test_a_token_holds_only_so_many_streams_and_gets_a_place_back(settings):
    settings.API_STREAMS_PER_TOKEN = 1
    run, program, other = a_run(RunStatus.RUNNING), Program("runs.read"), Program("runs.read")

    async def open_one(who):
        return await AsyncClient().get(f"{API}/runs/{run.public_id}/events/stream", headers=who.headers)

    async def main():
        async with Listener(program, run) as listener:
            reading = asyncio.ensure_future(listener.next(within=PATIENCE_S))
            await asyncio.sleep(0.2)
            refused = await open_one(program)
            others = await open_one(other)
            await hang_up(reading)
        return refused, others, await open_one(program)

    refused, others, afterwards = asyncio.run(main())

    assert (refused.status_code, others.status_code, afterwards.status_code) == (429, 200, 200)
    assert int(refused["Retry-After"]) > 0
    assert refused["Content-Type"] == "application/problem+json"


def test_many_listeners_share_a_few_database_connections(settings):
    settings.API_STREAMS_PER_TOKEN = 50
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")

    def others():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return cursor.fetchone()[0]

    async def main():
        before = await apart(others)
        async with contextlib.AsyncExitStack() as stack:
            listeners = [await stack.enter_async_context(Listener(program, run)) for _ in range(12)]
            reading = [asyncio.ensure_future(listener.next(within=PATIENCE_S)) for listener in listeners]
            await asyncio.sleep(1)
            during = await apart(others)
            await apart(a_step, run)
            told = await asyncio.gather(*reading)
        return before, during, told

    before, during, told = asyncio.run(main())

    assert during <= before + streams.LOOKERS
    assert {event["id"] for event in told} == {"1"}
