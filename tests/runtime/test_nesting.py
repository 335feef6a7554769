"""Values of strangers that are nested deeply, or are no JSON: kept as far as possible, and never an error of ours."""

from __future__ import annotations

from typing import Any

import pytest

from runtime import toolbox, tools
from runtime.policies.nesting import DEEPEST, is_too_deep
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)
returned: list[Any] = []


@tools.tool(effect="egress", retry="unsafe", output_trust="trusted")
def spy_return(ctx: tools.ToolContext) -> Any:
    """Send something, and return what the test wants."""
    return returned[-1]


@pytest.fixture(autouse=True)
def _fresh(transactional_db):
    yield from harness.fresh()


def nested(levels: int, *, in_lists: bool) -> Any:
    value: Any = "core"
    for _ in range(levels):
        value = [value] if in_lists else {"a": value}
    return value


@pytest.mark.parametrize("in_lists", [True, False])
def test_containers_in_each_other_are_counted_however_many_there_are(in_lists):
    assert not is_too_deep(nested(DEEPEST, in_lists=in_lists))
    assert is_too_deep(nested(DEEPEST + 1, in_lists=in_lists))
    assert is_too_deep(nested(100_000, in_lists=in_lists))
    assert not is_too_deep([[]] * 1000)
    assert not is_too_deep("[" * 1000)


def circular() -> Any:
    value: dict[str, Any] = {}
    value["itself"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [nested(DEEPEST + 1, in_lists=True), nested(400, in_lists=False), circular(), b"\xff\xfe"],
    ids=["too deep for us", "too deep for all", "circular", "no text"],
)
def test_a_call_whose_result_cannot_be_kept_has_happened_and_the_run_goes_on(value):
    returned.append(value)
    manifest = tools.known()["spy_return"].manifest.model_dump(mode="json")

    run = work(start(a_scripted_release(saying(calling("spy_return"), "Sent."), use=(), tools=[manifest])))

    step = run.steps.get(kind="tool")
    assert (run.status, step.status) == (RunStatus.SUCCEEDED, "done")
    assert step.payload.output["result"] == toolbox.NOT_KEPT


def test_a_deep_result_that_can_be_kept_is_kept_whole():
    returned.append(nested(DEEPEST, in_lists=True))
    manifest = tools.known()["spy_return"].manifest.model_dump(mode="json")

    run = work(start(a_scripted_release(saying(calling("spy_return"), "Sent."), use=(), tools=[manifest])))

    assert run.status == RunStatus.SUCCEEDED
    assert run.steps.get(kind="tool").payload.output["result"] == returned[-1]
