"""Tools that raise what the interpreter itself raises, or return what no JSON holds: one failed call each."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from console import redact
from runtime import journal, tools
from runtime.messages import Call, Reply
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@tools.tool(effect="read", retry="read", output_trust="trusted")
def foreign_code(ctx: tools.ToolContext, what: str) -> str:
    """Fail with the code that another system has answered."""
    raise tools.ToolError("It was refused.", code="AKIAABCDEFGHIJKLMNOP")


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


RAISED: dict[str, type[BaseException]] = {  # not more than a breaker lets pass
    "the end of the program": SystemExit,
    "a key press": KeyboardInterrupt,
    "the end of an iterator": StopIteration,
    "the end of a task": asyncio.CancelledError,
    "what cannot be put into words": Wordless,
}
RETURNED: dict[str, Any] = {
    "nan": (float("nan"), "NaN"),
    "deep infinities": ({"a": [1.5, float("-inf")], "NaN": "NaN"}, {"a": [1.5, "-Infinity"], "NaN": "NaN"}),
}


@tools.tool(effect="read", retry="read", output_trust="trusted")
def foreign_thread(ctx: tools.ToolContext, what: str) -> str:
    """Raise it in a thread."""
    raise RAISED[what]


@tools.tool(effect="read", retry="read", output_trust="trusted")
async def foreign_loop(ctx: tools.ToolContext, what: str) -> str:
    """Raise it on the loop."""
    raise RAISED[what]


@tools.tool(effect="write", retry="transactional", output_trust="trusted")
def foreign_write(ctx: tools.ToolContext, what: str) -> str:
    """Raise it within the transaction of the result."""
    raise RAISED[what]


@tools.tool(effect="read", retry="read", output_trust="trusted")
def foreign_number(ctx: tools.ToolContext, what: str) -> Any:
    """Return a number that JSON does not know."""
    return RETURNED[what][0]


@tools.tool(effect="read", retry="read", output_trust="trusted")
def foreign_stream(ctx: tools.ToolContext, what: str) -> Any:
    """Return rows, for ever."""
    yield from itertools.count()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def test_what_a_tool_raises_fails_its_call_and_nothing_else():
    names = ("foreign_thread", "foreign_loop", "foreign_write")
    calls = [Call(f"{name}-{place}", name, {"what": what}) for name in names for place, what in enumerate(RAISED)]
    evil = start(a_scripted_release(saying(Reply("", tuple(calls)), "ok"), use=names))
    other = start(a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "Paid.")))

    work_all([evil, other])

    for run in (evil, other):
        run.refresh_from_db()
        assert run.status == RunStatus.SUCCEEDED, run.cause_detail
    assert [step.error for step in evil.steps.filter(kind="tool")] == ["exception"] * len(calls)
    assert len(harness.paid()) == 1


@pytest.mark.parametrize("what", RETURNED)
def test_numbers_that_no_json_holds_are_kept_as_words(what):
    run = work(start(a_scripted_release(saying(calling("foreign_number", what=what), "ok"), use=["foreign_number"])))

    assert run.status == RunStatus.SUCCEEDED
    assert run.steps.get(kind="tool").payload.output["result"] == RETURNED[what][1]


def test_a_stream_is_no_result():
    run = work(start(a_scripted_release(saying(calling("foreign_stream", what=""), "ok"), use=["foreign_stream"])))

    assert run.status == RunStatus.SUCCEEDED
    assert "finished value" in run.steps.get(kind="tool").payload.output["error"]


def test_the_code_of_a_tools_error_holds_no_credential():
    """D42"""
    run = work(start(a_scripted_release(saying(calling("foreign_code", what=""), "ok"), use=["foreign_code"])))

    assert run.steps.get(kind="tool").error == redact.MASK


def test_a_run_whose_step_cannot_be_stored_fails_instead_of_going_round(monkeypatch):
    real = journal._plain_json
    monkeypatch.setattr(journal, "_plain_json", lambda given: "NaN" if given == {"result": "NaN"} else real(given))

    run = work(start(a_scripted_release(saying(calling("foreign_number", what="nan"), "ok"), use=["foreign_number"])))

    assert (run.status, run.cause) == (RunStatus.FAILED, "internal_error")


@pytest.mark.parametrize("text", ["plain", "half a \ud800 pair"])
def test_the_journal_writes_no_number_that_postgresql_refuses(text):
    assert "".join(journal._plain_json({"a": [float("inf"), text]}).split()).startswith('{"a":["Infinity",')
