"""Agents and releases: created once, activated with a reason, never changed."""

from __future__ import annotations

import threading

import pytest
from django.db import close_old_connections, connection

from console import problems
from console.models import AuditEntry
from console.roles import Role
from releases import releases
from releases.models import Activation, Release
from releases.policies.diff import changes
from tests.builders import a_bundle, a_release, a_tool, an_actor, an_agent
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.django_db


def test_create_stores_the_bundle_with_its_digest():
    agent, ines = an_agent(), an_actor(Role.OPERATOR)

    release = releases.create(agent, a_bundle("1.0"), by=ines, note="first")

    assert (release.version, len(release.digest), release.created_by_label) == ("1.0", 64, ines.label)
    assert release.bundle.version == "1.0"
    assert AuditEntry.objects.get().action == "release.create"
    agent.refresh_from_db()
    assert agent.active_release is None


def test_the_same_content_again_is_the_same_release():
    agent, ines = an_agent(), an_actor()
    first = releases.create(agent, a_bundle("1.0"), by=ines)

    again = releases.create(agent, a_bundle("1.0"), by=ines, note="another note")

    assert again.pk == first.pk
    assert AuditEntry.objects.count() == 1


def test_a_version_label_is_taken_by_its_content_for_good():
    agent = an_agent()
    releases.create(agent, a_bundle("1.0"), by=an_actor())

    with pytest.raises(problems.Conflict, match="choose a new version"):
        releases.create(agent, a_bundle("1.0", instructions="Something else."), by=an_actor())

    assert Release.objects.count() == 1


def test_two_agents_may_use_the_same_version_and_content():
    releases.create(an_agent("shop"), a_bundle("1.0"), by=an_actor())
    releases.create(an_agent("mail"), a_bundle("1.0"), by=an_actor())

    assert Release.objects.count() == 2


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"version": "1"}, "model"),
        ([], "bundle"),
        ("text", "bundle"),
        (None, "bundle"),
        ({**a_bundle("1"), "budgets": {"max_steps": "many"}}, "budgets.max_steps"),
    ],
)
def test_a_bundle_that_breaks_its_schema_is_refused_with_the_place(content, place):
    with pytest.raises(problems.Invalid) as refused:
        releases.create(an_agent(), content, by=an_actor())

    assert place in refused.value.extra["errors"]
    assert not Release.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.MANAGER, Role.AUDITOR, ""])
def test_who_may_not_create_or_activate_is_refused(role):
    agent = an_agent()
    release, actor = a_release(agent, is_active=False), an_actor(role)

    with pytest.raises(problems.Forbidden):
        releases.create(agent, a_bundle("9.9"), by=actor)
    with pytest.raises(problems.Forbidden):
        releases.activate(release.pk, by=actor, reason="because")

    agent.refresh_from_db()
    assert agent.active_release is None
    assert not AuditEntry.objects.exists()


def test_a_right_on_another_agent_is_no_right_here():
    release = a_release(an_agent("shop"), is_active=False)

    with pytest.raises(problems.Forbidden):
        releases.activate(release.pk, by=an_actor(Role.OPERATOR, agent="mail"), reason="because")


def test_activate_changes_what_answers_and_keeps_the_history():
    agent, ines = an_agent(), an_actor()
    old, new = a_release(agent), a_release(agent, is_active=False)

    releases.activate(new.pk, by=ines, reason="clearer")

    agent.refresh_from_db()
    assert agent.active_release == new
    activation = Activation.objects.get()
    assert (activation.release, activation.previous, activation.reason) == (new, old, "clearer")
    assert AuditEntry.objects.get().changes == {"active release": [old.version, new.version]}


def test_returning_to_an_earlier_release_is_the_same_verb():
    agent, ines = an_agent(), an_actor()
    old, new = a_release(agent), a_release(agent, is_active=False)
    releases.activate(new.pk, by=ines, reason="clearer")

    releases.activate(old.pk, by=ines, reason="it was worse")

    agent.refresh_from_db()
    assert agent.active_release == old
    assert [a.release for a in Activation.objects.order_by("pk")] == [new, old]


def test_activating_the_active_release_changes_nothing():
    release = a_release()

    releases.activate(release.pk, by=an_actor(), reason="again")

    assert not Activation.objects.exists()
    assert not AuditEntry.objects.exists()


def test_activate_needs_a_reason():
    release = a_release(is_active=False)

    with pytest.raises(problems.Invalid, match="Say why"):
        releases.activate(release.pk, by=an_actor(), reason="  ")

    release.agent.refresh_from_db()
    assert release.agent.active_release is None


def test_a_release_with_unreviewed_labels_cannot_be_activated():
    release = a_release(is_active=False, tools=[a_tool("delete_account", labelled=False)])

    with pytest.raises(problems.Invalid, match="delete_account"):
        releases.activate(release.pk, by=an_actor(), reason="because")

    assert "delete_account" in releases.why_not(release, by=an_actor())
    release.agent.refresh_from_db()
    assert release.agent.active_release is None


def test_why_not_says_what_the_verb_would_say():
    agent = an_agent()
    active, other = a_release(agent), a_release(agent, is_active=False)

    assert releases.why_not(other, by=an_actor()) == ""
    assert "is active" in releases.why_not(active, by=an_actor())
    assert "may not" in releases.why_not(other, by=an_actor(Role.SUPPORT))


def test_register_agent_twice_is_one_agent():
    first = releases.register_agent("shop", "Shop", by=an_actor())
    again = releases.register_agent("shop", "Other name", by=an_actor())

    assert first.pk == again.pk
    assert again.name == "Shop"
    assert AuditEntry.objects.count() == 1


def test_what_is_stored_differs_in_nothing_from_what_was_given():
    release = releases.create(an_agent(), a_bundle("1.0"), by=an_actor())

    stored = Release.objects.get(pk=release.pk).bundle

    assert changes(stored, release.bundle) == []


@pytest.mark.django_db(transaction=True)
def test_the_same_bundle_stored_twice_at_the_same_instant_is_one_release():
    agent, content = an_agent(), a_bundle("1.0")
    actors = [an_actor(), an_actor()]
    gate, answers = threading.Barrier(2), []

    def store(actor):
        try:
            connection.ensure_connection()
            gate.wait(timeout=PATIENCE_S)
            answers.append(releases.create(agent, content, by=actor).pk)
        except Exception as wrong:
            answers.append(wrong)
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=store, args=[actor]) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)

    assert len(set(answers)) == 1, answers
    assert Release.objects.count() == 1
