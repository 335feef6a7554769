"""Tools of an MCP server, called by the real engine over both transports (D14, the rules of MCP)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import OperationalError

from approvals.models import ApprovalRequest
from console.actors import system
from console.models import AuditEntry
from releases import switches
from releases.states import Scope, SwitchEffect
from runtime import runs, threads
from runtime.mcp import connections, servers
from runtime.mcp.models import McpServer, McpTool
from runtime.models import Run, StepPayload
from runtime.states import RunStatus
from tests.builders import an_actor
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, in_background, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)
BOTH = pytest.mark.parametrize("where", ["library", "far_library"])


@pytest.fixture(autouse=True)
def _fresh(transactional_db):
    yield from harness.fresh()


@pytest.fixture
def library_at(request, where):
    return request.getfixturevalue(where)


READ = {"labelled": True, "effect": "read", "retry": "read"}
UNSAFE = {"labelled": True, "effect": "write", "retry": "unsafe", "output_trust": "trusted"}


def a_release(library, *replies, use=("find_book",), labels=READ, **content):
    if not McpTool.objects.exists():
        library.look()
    manifests = [{**manifest, **labels} for manifest in library.review(*use)]
    return a_scripted_release(saying(*replies), use=(), tools=manifests, **content)


def find(title="Emma"):
    return calling("library__find_book", title=title)


def trouble(kind):
    return calling("library__trouble", kind=kind)


def a_troubled_release(library, kind, **labels):
    return a_release(library, trouble(kind), "Done.", use=("trouble",), labels={**READ, **labels})


def result(run):
    return run.steps.get(kind="tool").payload.output


def rules(run):
    return [step.rule for step in run.steps.order_by("seq") if step.rule]


@pytest.mark.parametrize("where", ["library", "packaged_library", "far_library"])
def test_a_tool_is_called_and_its_structure_is_kept(library_at):
    run = work(start(a_release(library_at, find(), "It is there.")))

    assert run.status == RunStatus.SUCCEEDED
    assert result(run)["result"] == {"title": "Emma", "shelf": "B7"}
    assert library_at.done == ["find_book Emma"]


def test_arguments_are_held_to_the_schema_that_was_reviewed(library):
    run = work(start(a_release(library, calling("library__find_book", title=3, also="this"), "No.")))

    assert library.done == []
    assert rules(run)[0] == "schema"


def test_a_tool_that_nobody_has_labelled_asks_a_person(library):
    run = work(start(a_release(library, find(), "It is there.", labels={})))

    assert run.status == RunStatus.WAITING
    assert ApprovalRequest.objects.get().rule == "unlabelled"
    assert library.done == []


@pytest.mark.parametrize(
    ("where", "mood", "says"),
    [
        ("library", "rug-pull", "differently"),
        ("library", "schema", "differently"),
        ("library", "gone", "does not offer"),
        ("library", "twice", "does not offer"),
        ("far_library", "rug-pull", "differently"),
    ],
)
def test_a_tool_that_has_changed_since_its_review_is_refused_and_told(library_at, mood, says):
    """The rug-pull: approved as a harmless tool, it describes itself as another one afterwards."""
    lend = calling("library__lend", book="Emma")
    release = a_release(library_at, lend, "Sorry.", use=("lend",))
    library_at.mood(mood)

    run = work(start(release))

    refused = run.steps.get(rule="mcp-changed")
    assert library_at.done == []
    assert says in refused.payload.output["reason"]
    entry = AuditEntry.objects.get(action="mcp_tool.change")
    assert entry.object_label == "library__lend"
    assert McpTool.objects.get(name="lend").digest != release.bundle.tools[0].schema_digest


def test_what_changes_between_two_calls_of_an_open_connection_is_noticed(library, monkeypatch):
    lend = calling("library__lend", book="Emma")
    again = calling("library__lend", "call-2", book="Persuasion")
    release = a_release(library, lend, again, "Sorry.", use=("lend",))
    monkeypatch.setattr(connections, "LIST_S", 0.0)
    real = connections.Connection.call

    async def call(connection, *args):
        answer = await real(connection, *args)
        library.mood("rug-pull")
        return answer

    monkeypatch.setattr(connections.Connection, "call", call)

    run = work(start(release))

    assert library.done == ["lend Emma"]
    assert "mcp-changed" in rules(run)


@pytest.mark.parametrize("is_changed", [True, False])
def test_what_another_worker_was_told_counts_at_once(library, monkeypatch, is_changed):
    """Each worker relies on its listing for a minute; what anybody has seen since is asked about before a call."""
    lend = calling("library__lend", book="Emma")
    again = calling("library__lend", "call-2", book="Persuasion")
    release = a_release(library, lend, again, "Sorry.", use=("lend",))
    real = connections.Connection.call

    async def call(connection, *args):
        answer = await real(connection, *args)
        if args[1] == {"book": "Emma"}:
            library.mood("rug-pull")
            await threads.run(library.look)
            library.mood("rug-pull" if is_changed else "")
        return answer

    monkeypatch.setattr(connections.Connection, "call", call)

    run = work(start(release))

    assert library.done == (["lend Emma"] if is_changed else ["lend Emma", "lend Persuasion"])
    assert ("mcp-changed" in rules(run)) is is_changed
    assert (McpTool.objects.get(name="lend").digest == release.bundle.tools[0].schema_digest) is not is_changed


def test_it_is_compared_right_before_the_call_goes_out(library, monkeypatch):
    """Also a call that a crash left open, which is not judged again."""
    from runtime.mcp import executing

    release = a_release(library, calling("library__lend", book="Emma"), "Sorry.", use=("lend",))

    async def nothing(call):
        library.mood("rug-pull")

    monkeypatch.setattr(executing.McpCall, "why_not", nothing)

    run = work(start(release))

    step = run.steps.get(kind="tool")
    assert (library.done, step.status, step.error) == ([], "failed", "mcp_changed")


def test_a_database_that_goes_away_before_the_call_goes_out_asks_nobody(library, monkeypatch):
    from runtime.mcp import configuring, executing

    release = a_release(library, calling("library__lend", book="Emma"), "Lent.", use=("lend",), labels=UNSAFE)
    real, failed = configuring.load, []

    async def unchanged(call):
        return None

    def load(name):
        if not failed:
            failed.append(name)
            raise OperationalError("the connection is lost")
        return real(name)

    monkeypatch.setattr(executing.McpCall, "why_not", unchanged)
    monkeypatch.setattr(configuring, "load", load)

    run = work(work(start(release)))

    assert [step.status for step in run.steps.filter(kind="tool").order_by("seq")] == ["failed", "done"]
    assert library.done == ["lend Emma"]
    assert not ApprovalRequest.objects.exists()


def test_a_server_that_is_not_reached_in_time_was_asked_for_nothing(library, monkeypatch):
    from runtime.mcp import executing

    lend, labels = calling("library__lend", book="Emma"), {**UNSAFE, "timeout_s": 0.5}
    release = a_release(library, lend, "Sorry.", use=("lend",), labels=labels)
    library.mood("deaf")

    async def unchanged(call):
        return None

    monkeypatch.setattr(executing.McpCall, "why_not", unchanged)

    run = work(start(release))

    step = run.steps.get(kind="tool")
    assert (run.status, step.status, step.error, library.done) == (RunStatus.SUCCEEDED, "failed", "not_begun", [])


def test_a_reviewed_change_needs_a_release_that_pins_it(library):
    lend = calling("library__lend", book="Emma")
    before = a_release(library, lend, "Lent.", use=("lend",))
    library.mood("rug-pull")
    library.look()
    after = a_release(library, lend, "Lent.", use=("lend",))

    refused, lent = work(start(before)), work(start(after))

    assert rules(refused)[0] == "mcp-changed"
    assert result(lent)["result"] == "Lent for 14 days."


def test_a_pin_that_nobody_has_reviewed_is_refused(library):
    release = a_release(library, find(), "No.")
    from runtime.mcp.models import McpReview

    McpReview.objects.all().delete()

    run = work(start(release))

    assert (rules(run)[0], library.done) == ("mcp-changed", [])


def test_a_changed_tool_raises_no_card(library):
    release = a_release(library, calling("library__lend", book="Emma"), "Sorry.", use=("lend",), labels={})
    library.mood("rug-pull")

    work(start(release))

    assert not ApprovalRequest.objects.exists()


def test_an_approved_call_is_compared_again_before_it_goes_out(library):
    from approvals import requests
    from approvals.states import Verdict

    release = a_release(library, calling("library__lend", book="Emma"), "Sorry.", use=("lend",), labels={})
    run = work(start(release))
    library.mood("rug-pull")
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=system("test"), reason="")

    run = work(run)

    assert library.done == []
    assert "mcp-changed" in rules(run)


def test_no_call_starts_after_the_switch_on_a_server(library):
    release = a_release(library, find(), "Sorry.")

    switches.engage(Scope.SERVER, SwitchEffect.DISABLE_TOOL, "library", by=system("test"), reason="Stop.")
    run = work(start(release))

    assert library.done == []
    assert rules(run) == ["kill_switch"]
    assert run.steps.get(rule="kill_switch").payload.output["reason"] == "Kill switch: MCP server library is off. Stop."


def test_a_switch_on_a_server_is_part_of_the_starting_statement(library, monkeypatch):
    """D15: engaged after the verdict and the comparison with the server, and before the intent."""
    from runtime.mcp import executing

    real = executing.McpCall.why_not

    async def late(call):
        found = await real(call)
        thread = in_background(
            lambda: switches.engage(Scope.SERVER, SwitchEffect.DISABLE_TOOL, "library", by=system("test"), reason="")
        )
        thread.join(timeout=10)
        return found

    monkeypatch.setattr(executing.McpCall, "why_not", late)

    run = work(start(a_release(library, find(), "Sorry.")))

    assert library.done == []
    assert not run.steps.filter(kind="tool").exists()
    assert "kill_switch" in rules(run)


def test_a_server_that_was_turned_off_is_not_started(library):
    release = a_release(library, find(), "Sorry.")
    servers.disable("library", by=an_actor(), reason="Odd answers.")

    run = work(start(release))

    assert rules(run)[0] == "mcp-server-off"
    assert library.done == []


@BOTH
def test_an_answer_of_fifty_megabytes_is_named_and_not_kept(library_at):
    run = work(start(a_troubled_release(library_at, "flood")))

    kept = result(run)["result"]
    assert run.status == RunStatus.SUCCEEDED
    assert kept["left_out"]["bytes"] > 50_000_000
    assert len(kept["left_out"]["sha256"]) == 64
    assert StepPayload.objects.filter(step__run=run).count()
    assert len(str(kept)) < 1000


@pytest.mark.parametrize(("where", "kind"), [("library", "hang"), ("library", "stream"), ("far_library", "stream")])
def test_a_call_that_never_ends_ends_with_its_time(library_at, kind):
    began = time.monotonic()

    run = work(start(a_troubled_release(library_at, kind, timeout_s=0.7)))

    assert time.monotonic() - began < 15
    step = run.steps.get(kind="tool")
    assert (run.status, step.status) == (RunStatus.SUCCEEDED, "failed")
    assert step.error == "timeout" or "bytes in one message" in step.summary


def test_a_late_call_that_may_have_happened_is_for_a_person_to_settle(library):
    labels = {"effect": "egress", "retry": "unsafe"}

    run = work(start(a_troubled_release(library, "hang", timeout_s=0.7, **labels)))

    assert run.status == RunStatus.WAITING
    assert run.steps.get(kind="tool").status == "unknown"


def test_a_cancelled_run_tells_the_server_to_let_go(library):
    run = start(a_troubled_release(library, "hang"))

    def cancel() -> None:
        until = time.monotonic() + 15
        while library.done != ["trouble hang"] and time.monotonic() < until:
            time.sleep(0.05)
        runs.cancel(run.pk, by=harness.STARTER, reason="enough")

    cancelling = in_background(cancel)
    began = time.monotonic()
    done = work_until_cancelled(run, lambda: "let go" in library.done)
    cancelling.join()

    assert done.status == RunStatus.CANCELLED
    assert time.monotonic() - began < 30
    assert library.done == ["trouble hang", "let go"]


def work_until_cancelled(run: Run, is_over: Callable[[], bool]) -> Run:
    """As `work`, with the engine looking for requests the way a worker's heartbeat makes it, until that is so."""
    import asyncio

    from runtime import toolbox, worker, workers
    from runtime.engine import Engine

    life = workers.register("test")

    async def go() -> None:
        pool = worker.open_pool(4)
        await pool.open(wait=True)
        engine = Engine(pool, life.pk)

        async def look() -> None:
            while True:
                await engine.look_for_requests()
                await asyncio.sleep(0.1)

        looking = asyncio.create_task(look())
        try:
            await engine.run_turn(run.pk)
            await engine.settle()
            until = time.monotonic() + 10
            while not is_over() and time.monotonic() < until:  # noqa: ASYNC110  # another process says it in a file
                await asyncio.sleep(0.05)
        finally:
            looking.cancel()
            await toolbox.aclose_all()
            await pool.close()

    asyncio.run(go())
    return Run.objects.get(pk=run.pk)


def test_a_tool_that_says_it_failed_is_an_error_of_the_tool(library):
    run = work(start(a_troubled_release(library, "error")))

    step = run.steps.get(kind="tool")
    assert (step.status, step.error, step.summary) == ("failed", "tool_error", "No such book.")
    assert run.status == RunStatus.SUCCEEDED


def test_an_answer_that_is_no_result_is_none_and_a_question_of_the_server_is_refused(library):
    run = work(start(a_troubled_release(library, "garbage")))
    step = run.steps.get(kind="tool")
    assert (step.status, step.error, step.summary) == (
        "failed",
        "exception",
        "BadReply: The MCP server answered something that is no result.",
    )

    run = work(start(a_troubled_release(library, "asks")))
    assert result(run)["result"] == "asks"
    assert 'answered "Sampling not supported"' in library.done


@pytest.mark.parametrize(
    ("kind", "why"),
    [("deep 200", "recursion limit"), ("deep 50000", "recursion limit"), ("half a letter", "Invalid JSON")],
)
def test_an_answer_that_cannot_be_read_is_told_at_once_and_the_run_goes_on(library, kind, why):
    release = a_release(
        library, trouble(kind), find(), "Done.", use=("trouble", "find_book"), labels={**READ, "timeout_s": 60.0}
    )

    run = work(start(release))

    bad, good = run.steps.filter(kind="tool").order_by("seq")
    assert (bad.status, bad.error) == ("failed", "exception")
    assert bad.summary.startswith("BadReply: The answer cannot be read: ")
    assert why in bad.summary
    assert good.status == "done"
    assert run.working_ms < 30_000


def test_a_server_that_dies_is_started_again(library):
    retries = {"attempts": 2, "base_s": 0.01, "on": ["unavailable"]}
    release = a_release(library, trouble("exit"), find(), "Done.", use=("trouble", "find_book"))

    run = work(start(a_troubled_release(library, "exit", retries=retries)))
    assert [step.status for step in run.steps.filter(kind="tool")] == ["failed", "failed"]

    run = work(start(release))
    assert [step.status for step in run.steps.filter(kind="tool").order_by("seq")] == ["failed", "done"]


def test_a_server_that_cannot_be_reached_is_unavailable_and_says_why(library):
    release = a_release(library, find(), "Sorry.")
    library.mood("complains")

    run = work(start(release))

    step = run.steps.get(kind="tool")
    assert (step.status, step.error) == ("failed", "mcp_away")
    error = McpServer.objects.get().error
    assert "is wrong" in error
    assert "hunter2" not in error + step.summary + str(step.payload.output)


def test_binary_content_is_named_by_its_digest(library):
    run = work(start(a_troubled_release(library, "image")))

    image = result(run)["result"]["content"][1]
    assert image == {
        "type": "image",
        "mime": "image/png",
        "bytes": 5,
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    }


def test_a_child_gets_nothing_of_our_environment_and_no_secret_of_it_is_kept(library, monkeypatch):
    monkeypatch.setenv("MCP_LIBRARY_TOKEN", "quetzal-feather-77")
    monkeypatch.setenv("OPENAI_API_KEY", "not for others")
    McpServer.objects.update(environment={"LIBRARY_TOKEN": "MCP_LIBRARY_TOKEN"})

    run = work(start(a_troubled_release(library, "environment")))

    said = result(run)["result"]
    names = {line.partition("=")[0] for line in said.splitlines()}
    assert names - {"LC_CTYPE"} == {"PATH", "HOME", "LANG", "LIBRARY_TOKEN"}
    assert "quetzal-feather-77" not in said
    assert f"HOME={library.folder}/mcp/library" in said


def test_nothing_of_a_server_is_left_when_the_worker_is_gone(library):
    """Neither the child, nor what it started itself, nor a zombie."""
    library.mood("grandchild")
    release = a_release(library, find(), "Done.")

    work(start(release))

    until = time.monotonic() + 15
    while (processes_of(library.folder) or zombies()) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(library.folder) == []
    assert zombies() == []


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that work in a directory below the folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if str(each.joinpath("cwd").readlink()).startswith(str(folder)):
                found.append(each.joinpath("cmdline").read_text())
        except OSError:
            continue
    return found


def zombies() -> list[str]:
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and int(fields[1]) == os.getpid():
            found.append(str(each))
    return found
