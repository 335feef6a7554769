"""Tools of an MCP server, called by the real engine over both transports."""

from __future__ import annotations

import pytest

from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh(transactional_db):
    yield from harness.fresh()


def labelled(manifest: dict, **labels) -> dict:
    return {**manifest, "labelled": True, "effect": "read", "retry": "read", **labels}


def a_release(library, *replies, use=("find_book",), **labels):
    library.look()
    manifests = [labelled(manifest, **labels) for manifest in library.review(*use)]
    return a_scripted_release(saying(*replies), use=(), tools=manifests)


@pytest.mark.parametrize("where", ["library", "far_library"])
def test_a_tool_is_called(request, where):
    library = request.getfixturevalue(where)
    release = a_release(library, calling("library__find_book", title="Emma"), "It is there.")

    run = work(start(release))

    step = run.steps.get(kind="tool")
    assert run.status == RunStatus.SUCCEEDED
    assert step.payload.output["result"] == {"title": "Emma", "shelf": "B7"}
    assert library.done == ["find_book Emma"]
