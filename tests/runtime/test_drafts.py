"""The text that a model is writing: seen while it grows, gone when its step is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from console import ids
from runtime import drafts
from runtime.models import Draft
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, in_background, saying, start

TEXT = " ".join(f"word{number}" for number in range(60))


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_change_turns_what_is_known_into_what_is_there(known, text):
    change = drafts.change(known, text)

    if change is None:
        assert known == text
    else:
        assert known[: change[0]] + change[1] == text


@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_what_only_grew_is_sent_without_what_was_there(known, rest):
    assert drafts.change(known, known + rest) == (len(known), rest)


@pytest.fixture
def world():
    yield from harness.fresh()


@pytest.mark.django_db(transaction=True)
def test_a_text_is_seen_growing_and_leaves_nothing_behind(world, monkeypatch):
    monkeypatch.setattr(drafts, "EVERY_S", 0.05)
    release = a_scripted_release(saying(TEXT), model={"parameters": {"delay_ms": 60}})
    run = start(release)
    seen: list[str] = []

    def work():
        harness.work(run)
        connection.close()

    thread = in_background(work)
    while thread.is_alive():
        text = drafts.read(run.pk)
        if text and (not seen or text != seen[-1]):
            seen.append(text)
        thread.join(0.02)

    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED
    assert run.answer == TEXT
    assert len(seen) > 5
    assert all(TEXT.startswith(text) for text in seen)
    assert seen == sorted(seen, key=len)
    assert not Draft.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_comes_at_once_is_never_kept_as_a_draft(world, monkeypatch):
    monkeypatch.setattr(drafts, "KEEP_SQL", "this would fail")
    run = start(a_scripted_release(saying("Done.")))

    assert harness.work(run).status == RunStatus.SUCCEEDED


@pytest.mark.django_db(transaction=True)
def test_a_draft_that_cannot_be_kept_does_not_hurt_the_run(world, monkeypatch):
    monkeypatch.setattr(drafts, "EVERY_S", 0.02)
    monkeypatch.setattr(drafts, "KEEP_SQL", "this is no SQL %s %s")
    run = start(a_scripted_release(saying(TEXT), model={"parameters": {"delay_ms": 20}}))

    assert harness.work(run).status == RunStatus.SUCCEEDED


async def test_a_redis_that_does_not_answer_does_not_hold_up_the_reply(monkeypatch):
    monkeypatch.setattr(drafts, "EVERY_S", 0)
    monkeypatch.setattr(drafts, "TOLD_WITHIN_S", 0.05)
    is_asked = asyncio.Event()

    async def never(*topics: str) -> None:
        is_asked.set()
        await asyncio.Future()

    class Connection:
        async def execute(self, *statement: Any) -> None:
            """Takes anything."""

        @contextlib.asynccontextmanager
        async def transaction(self) -> AsyncIterator[None]:
            yield

    class Engine:
        @property
        def pool(self) -> Any:
            return self

        @contextlib.asynccontextmanager
        async def connection(self) -> AsyncIterator[Connection]:
            yield Connection()

    monkeypatch.setattr(drafts.live, "publish", never)
    turn = SimpleNamespace(run_id=ids.new(), public_id="run_1", has_draft=False)

    async def reply() -> None:
        async with drafts.Writing(cast(Any, Engine()), cast(Any, turn)) as draft:
            await draft.add("The text so far.")
            await is_asked.wait()

    await asyncio.wait_for(reply(), 5)
