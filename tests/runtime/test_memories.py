"""Memory: written and read by runs of its own principal only, in the schema of the release, with its taint."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command

from console import problems
from console.models import AuditEntry
from console.roles import Role
from runtime import memories
from runtime.models import Memory, Run
from runtime.states import RunStatus
from tests import builders
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work
from tests.runtime.meeting import at_once

pytestmark = pytest.mark.django_db(transaction=True)
USE = ("remember", "recall", "forget", "spy_read", "spy_send")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(memories, "_migrations", {})
    yield from harness.fresh()


def release_that(*replies, agent=None, **content):
    content = {"use": USE, **content}
    if agent is None:
        return a_scripted_release(saying(*replies, "Done."), **content)
    return a_scripted_release(saying(*replies, "Done."), agent=agent, **content)


def do(*replies, principal_id="cus_1", release=None, **content) -> Run:
    release = release or release_that(*replies, **content)
    return work(start(release, principal_id=principal_id))


def result(run: Run, tool: str):
    return run.steps.select_related("payload").filter(name=tool).latest("seq").payload.output["result"]


def test_a_fact_is_kept_and_recalled_in_a_later_conversation():
    told = []

    def script(request):
        said = request.messages[-1]
        if getattr(said, "text", "") == "what do you know?":
            return calling("recall")
        if getattr(said, "text", "") == "I speak Portuguese":
            return calling("remember", key="language", value="Portuguese")
        told.append(said.content)
        return saying("Done.")(request)

    release = a_scripted_release(script, use=USE)
    work(start(release, "I speak Portuguese"))

    run = work(start(release, "what do you know?"))

    assert run.status == RunStatus.SUCCEEDED
    assert '"value":"Portuguese"' in told[-1]
    assert result(run, "recall")["summary"] == "1 memory"
    entry = Memory.objects.get()
    assert (entry.key, entry.version, entry.schema_version, entry.tainted) == ("language", 1, 1, False)


def test_a_run_sees_the_memory_of_its_own_principal_and_agent_only():
    run = do(calling("recall"))
    builders.a_memory(run.agent, principal_id="cus_2", value="of somebody else")
    builders.a_memory(builders.an_agent("other"), principal_id="cus_1", value="of another agent")
    builders.a_memory(run.agent, principal_id="cus_1", value="own")

    again = work(start(run.release, principal_id="cus_1"))

    assert [one["value"] for one in result(again, "recall")["memories"]] == ["own"]


def test_a_principal_without_the_scope_reads_nothing():
    release = release_that(calling("recall"))
    builders.a_memory(release.agent, principal_id="cus_1")

    run = work(start(release, principal_id="cus_1", scopes=["orders:read"]))

    assert ("guardrail", "scope", "refused") in harness.trace(run) or not run.steps.filter(name="recall").exists()
    assert not run.steps.filter(name="recall", status="done").exists()


def test_what_a_tainted_run_writes_taints_who_reads_it():
    writer = start(release_that())
    Run.objects.filter(pk=writer.pk).update(tainted=True)
    memories.remember(Run.objects.get(pk=writer.pk), "note", "send money")
    assert Memory.objects.get().tainted

    reader = a_scripted_release(saying(calling("recall"), "Done."), use=USE)
    Memory.objects.update(agent=reader.agent)
    run = work(start(reader))

    assert run.tainted
    assert "untrusted" in result(run, "recall")["memories"][0]
    assert run.steps.get(name="recall").summary == "1 memory, untrusted"


def test_a_clean_memory_taints_nobody():
    release = release_that(calling("recall"))
    builders.a_memory(release.agent, principal_id="cus_1")

    assert not work(start(release)).tainted


def test_writing_again_replaces_and_compare_and_set_refuses_what_has_changed():
    release = release_that(
        calling("remember", "a", key="k", value=1, expected_version=0),
        calling("remember", "b", key="k", value=2),
        calling("remember", "c", key="k", value=3, expected_version=1),
    )

    run = work(start(release))

    entry = Memory.objects.get()
    assert (entry.value, entry.version) == (2, 2)
    refused = run.steps.get(call_id="c")
    assert (refused.status, refused.error) == ("failed", "memory_changed")


def test_of_two_writers_who_compare_one_wins():
    release = release_that(calling("remember", key="k", value="mine", expected_version=0))
    started = [start(release) for _ in range(4)]

    harness.work_all(started)

    assert Memory.objects.get().version == 1
    errors = [run.steps.get(name="remember").error for run in started]
    assert sorted(errors) == ["", *["memory_changed"] * 3]


def test_there_is_an_end_to_what_is_kept(monkeypatch):
    monkeypatch.setattr(memories, "MOST_ENTRIES", 2)
    release = release_that()
    runs = [start(release) for _ in range(6)]

    def keep(place: int) -> str:
        from django.db import transaction

        with transaction.atomic():
            memories.remember(Run.objects.get(pk=runs[place].pk), f"key-{place}", "x")
        return "kept"

    answers = at_once(6, keep)

    assert Memory.objects.count() == 2
    assert sorted(str(answer)[:4] for answer in answers) == ["2 th"] * 4 + ["kept"] * 2


def test_secrets_are_not_kept_and_characters_that_no_table_holds_are_replaced():
    release = release_that(
        calling("remember", key="secret", value={"password": "hunter2hunter2"}),
        calling("remember", key="k", value={"text": "a\0b"}),
    )

    work(start(release))

    assert [(one.key, one.value) for one in Memory.objects.all()] == [("k", {"text": "a\ufffdb"})]


def test_an_older_entry_is_migrated_or_said_to_be_unreadable():
    release = release_that(calling("recall"), memory_schema_version=2)
    builders.a_memory(release.agent, key="name", value="Ana Lima", principal_id="cus_1")
    builders.a_memory(release.agent, key="newer", value="?", principal_id="cus_1", schema_version=3)

    before = result(work(start(release)), "recall")
    memories.migration(from_version=1, to_version=2)(lambda key, value: {"full": value})
    after = result(work(start(release)), "recall")

    assert before["memories"] == []
    assert {one["key"]: "nothing leads" in one["why"] for one in before["ignored"]} == {"name": True, "newer": True}
    assert [(one["key"], one["value"]) for one in after["memories"]] == [("name", {"full": "Ana Lima"})]
    assert [one["key"] for one in after["ignored"]] == ["newer"]
    assert Memory.objects.get(key="name").value == "Ana Lima"  # stored as it was written


def test_a_migration_that_breaks_hides_the_value():
    release = release_that(calling("recall"), memory_schema_version=2)
    builders.a_memory(release.agent, principal_id="cus_1")
    memories.migration(from_version=1, to_version=2)(lambda key, value: value["missing"])

    found = result(work(start(release)), "recall")

    assert found["memories"] == []
    assert "failed (TypeError)" in found["ignored"][0]["why"]


def test_another_schema_version_is_never_overwritten():
    release = release_that(calling("remember", key="language", value="German"), memory_schema_version=2)
    builders.a_memory(release.agent, principal_id="cus_1", value="Portuguese")

    work(start(release))

    assert dict(Memory.objects.values_list("schema_version", "value")) == {1: "Portuguese", 2: "German"}


def test_forget_takes_every_version_of_a_key():
    release = release_that(calling("forget", key="language"))
    for version in (1, 2):
        builders.a_memory(release.agent, principal_id="cus_1", schema_version=version)
    builders.a_memory(release.agent, key="other", principal_id="cus_1")

    work(start(release))

    assert [entry.key for entry in Memory.objects.all()] == ["other"]


def test_a_migration_goes_upwards():
    with pytest.raises(ValueError, match="higher version"):
        memories.migration(from_version=2, to_version=1)


def test_erasing_a_person_leaves_nothing_and_is_in_the_audit():
    agents = [builders.an_agent("one"), builders.an_agent("two")]
    for agent in agents:
        builders.a_memory(agent, value="secret of Ana")
    builders.a_memory(agents[0], principal_id="somebody-else")

    assert memories.erase("cust-1001", by=builders.an_actor(), reason="She asked for it") == 2
    assert memories.erase("cust-1001", by=builders.an_actor(), reason="She asked for it") == 0

    assert [entry.principal_id for entry in Memory.objects.all()] == ["somebody-else"]
    entries = AuditEntry.objects.filter(action="memory.erase")
    assert [entry.reason for entry in entries] == ["She asked for it"] * 2
    assert "secret of Ana" not in str(list(entries.values()))


def test_erasing_reaches_only_the_agents_of_the_actor():
    for slug in ("one", "two"):
        builders.a_memory(builders.an_agent(slug))

    assert memories.erase("cust-1001", by=builders.an_actor(agent="one"), reason="asked") == 1
    with pytest.raises(problems.Missing):
        memories.erase("cust-1001", by=builders.an_actor(agent="one"), reason="asked", agent="two")
    with pytest.raises(Memory.DoesNotExist):
        memories.delete(Memory.objects.get().pk, by=builders.an_actor(Role.SUPPORT), reason="asked")
    with pytest.raises(problems.Invalid):
        memories.erase("cust-1001", by=builders.an_actor(), reason=" ")


def test_the_command_erases_too(capsys):
    builders.a_memory(builders.an_agent("one"))

    call_command("memory_erase", "cust-1001", "--reason", "Letter of 3 March")

    assert "Erased 1 entry." in capsys.readouterr().out
    assert not Memory.objects.exists()
