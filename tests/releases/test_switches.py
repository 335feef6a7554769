"""Kill switches: engaging, lifting, and the race against a call that is just starting."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils.timezone import now

from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus
from console import problems
from console.models import AuditEntry
from console.roles import Role
from releases import routing, switches
from releases.models import KillSwitch
from releases.policies import switching
from releases.states import EFFECTS_OF_SCOPE, Scope, SwitchEffect
from tests.builders import a_release, a_tool, an_actor, an_agent, an_approval
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.django_db

TOOL = (Scope.TOOL, SwitchEffect.DISABLE_TOOL, "issue_refund")
WRITES = (Scope.EVERYTHING, SwitchEffect.WRITES_OFF, "")
LEND = a_tool("my_books__lend", retry="unsafe", server="my_books", schema_digest="0" * 64)


@pytest.fixture(autouse=True)
def shop(request):
    """An agent with a tool to switch off; made inside the test for those with real connections."""
    if "transaction" not in (request.node.get_closest_marker("django_db").kwargs or {}):
        return a_shop()
    return None


def a_shop():
    return a_release(
        an_agent("shop-support", "Shop support"), tools=[a_tool("issue_refund"), a_tool("send_reply"), LEND]
    )


def engage(which=TOOL, by=None, reason="Double refunds"):
    return switches.engage(*which, by=by or an_actor(), reason=reason)


def lift(switch, by=None, reason="fixed"):
    return switches.lift(switch.pk, by=by or an_actor(), reason=reason, phrase=switches.lift_phrase(switch))


BLOCKING_SQL = switches.blocking_sql("%(agent)s", "%(tool)s", "%(is_write)s", "%(is_reviewed)s")


def blocking(agent="shop-support", tool="issue_refund", is_write=True, is_reviewed=True):
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {BLOCKING_SQL}",
            {
                "agent": agent,
                "tool": tool,
                "is_write": is_write,
                "is_reviewed": is_reviewed,
            },
        )
        row = cursor.fetchone()
    return row[0] if row else None


def status_of(request):
    request.refresh_from_db()
    return request.status


# Engaging


def test_engage_stops_is_audited_and_raises_the_epoch():
    before, mara = switches.current_epoch(), an_actor()

    switch = engage(by=mara)

    assert switches.current_epoch() == switch.epoch == before + 1
    assert (switch.title, switch.reason, switch.engaged_by_label) == (
        "issue_refund is off",
        "Double refunds",
        mara.label,
    )
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason, entry.changes) == ("switch.engage", "Double refunds", {"state": ["on", "off"]})


def test_engaging_an_engaged_switch_changes_nothing():
    first = engage()

    again = engage(reason="another")

    assert again.pk == first.pk
    assert again.reason == "Double refunds"
    assert switches.current_epoch() == first.epoch
    assert AuditEntry.objects.count() == 1


def test_engage_needs_no_reason_and_the_reason_may_follow_once():
    switch = engage(reason="  ")
    assert switch.reason == switches.NO_REASON

    switches.explain(switch.pk, by=an_actor(), reason="Incident 31")

    switch.refresh_from_db()
    assert switch.reason == "Incident 31"
    with pytest.raises(problems.Conflict, match="has a reason already"):
        switches.explain(switch.pk, by=an_actor(), reason="Something nicer")


@pytest.mark.parametrize(
    ("scope", "effect", "target"),
    [
        (Scope.EVERYTHING, SwitchEffect.DISABLE_TOOL, ""),
        (Scope.EVERYTHING, SwitchEffect.WRITES_OFF, "shop-support"),
        (Scope.AGENT, SwitchEffect.DISABLE_TOOL, "shop-support"),
        (Scope.AGENT, SwitchEffect.PAUSE_RUNS, ""),
        (Scope.TOOL, SwitchEffect.PAUSE_RUNS, "issue_refund"),
        (Scope.TOOL, SwitchEffect.DISABLE_TOOL, ""),
        (Scope.TOOL, SwitchEffect.DISABLE_TOOL, "isue_refund"),
        (Scope.SERVER, SwitchEffect.DISABLE_TOOL, "my_book"),
        (Scope.SERVER, SwitchEffect.PAUSE_RUNS, "my_books"),
        (Scope.AGENT, SwitchEffect.WRITES_OFF, "shop-suport"),
    ],
)
def test_a_switch_that_would_stop_nothing_is_refused(scope, effect, target):
    with pytest.raises(problems.Invalid):
        switches.engage(scope, effect, target, by=an_actor(), reason="now")

    assert not KillSwitch.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.MANAGER, Role.AUDITOR, ""])
def test_who_may_not_engage_or_lift_is_refused(role):
    with pytest.raises(problems.Forbidden):
        engage(by=an_actor(role))
    standing = engage()
    with pytest.raises(problems.Forbidden):
        lift(standing, by=an_actor(role))
    with pytest.raises(problems.Forbidden):
        switches.explain(standing.pk, by=an_actor(role), reason="x")

    standing.refresh_from_db()
    assert standing.lifted_at is None
    assert KillSwitch.objects.count() == 1


def test_an_operator_of_one_agent_reaches_that_agent_only():
    mine = an_actor(Role.OPERATOR, agent="shop-support")
    an_agent("mail-triage")

    switches.engage(Scope.AGENT, SwitchEffect.WRITES_OFF, "shop-support", by=mine, reason="")

    for scope, effect, target in (
        (Scope.AGENT, SwitchEffect.WRITES_OFF, "mail-triage"),
        TOOL,
        (Scope.EVERYTHING, SwitchEffect.PAUSE_RUNS, ""),
    ):
        with pytest.raises(problems.Forbidden):
            switches.engage(scope, effect, target, by=mine, reason="")
    assert KillSwitch.objects.count() == 1


# Lifting


def test_lift_needs_the_phrase_and_a_reason():
    switch = engage()
    assert switches.lift_phrase(switch) == "turn on issue_refund"

    for phrase, reason in (("", "fixed"), ("turn on", "fixed"), ("turn on issue_refund", " ")):
        with pytest.raises(problems.Invalid):
            switches.lift(switch.pk, by=an_actor(), reason=reason, phrase=phrase)
    switch.refresh_from_db()
    assert switch.lifted_at is None

    switches.lift(switch.pk, by=an_actor(), reason="fixed", phrase=" Turn on ISSUE_REFUND ")
    switch.refresh_from_db()
    assert switch.lifted_at is not None
    assert blocking() is None


def test_lifting_twice_changes_nothing_and_engaging_again_is_a_new_switch():
    switch = engage()
    lift(switch)
    epoch = switches.current_epoch()

    lift(switch)
    assert switches.current_epoch() == epoch
    again = engage()

    assert again.pk != switch.pk
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == [
        "switch.engage", "switch.lift", "switch.engage",
    ]  # fmt: skip


# What the starting statement sees


@pytest.mark.parametrize(
    ("scope", "effect"), [(scope, effect) for scope in Scope for effect in sorted(EFFECTS_OF_SCOPE[scope])]
)
@pytest.mark.parametrize("agent", ["shop-support", "mail-triage"])
@pytest.mark.parametrize("tool", ["issue_refund", "lookup_order", "my_books__lend", "myxbooks__lend", "my_books_lend"])
@pytest.mark.parametrize("is_write", [True, False])
def test_the_statement_and_the_policy_agree(scope, effect, agent, tool, is_write):
    targets = {"everything": "", "agent": "shop-support", "tool": "issue_refund", "server": "my_books"}
    engage((scope, effect, targets[scope]))

    stopped = switching.decide_call(switches.engaged(), agent=agent, tool=tool, is_write=is_write)

    found = blocking(agent, tool, is_write)
    assert (str(found) if found else None) == (stopped.id if stopped else None)

    wants_review = switching.decide_review(switches.engaged(), agent=agent, tool=tool) if is_write else None
    found = blocking(agent, tool, is_write, is_reviewed=False)
    assert (str(found) if found else None) == ((stopped or wants_review).id if stopped or wants_review else None)


@pytest.mark.parametrize(
    "which", [(Scope.EVERYTHING, SwitchEffect.PAUSE_RUNS, ""), (Scope.AGENT, SwitchEffect.PAUSE_RUNS, "shop-support")]
)
def test_routing_picks_a_release_also_while_new_runs_are_paused(which):
    """A paused intake holds what is accepted; it refuses nothing."""
    agent, release = routing.pick("shop-support")
    assert agent.active_release == release

    engage(which)

    assert routing.pick("shop-support")[1] == release


# Approvals behind a switch


def test_requests_behind_a_switch_are_frozen_and_thawed_with_their_time():
    refund, mail = an_approval(due_at=now() + timedelta(minutes=20)), an_approval(action="send_reply")

    switch = engage()
    assert (status_of(refund), status_of(mail)) == (ApprovalStatus.FROZEN, ApprovalStatus.PENDING)
    assert refund.events.last().data == {"reason": "issue_refund is off. Double refunds", "url": "/switches/"}

    lift(switch)
    assert status_of(refund) == ApprovalStatus.PENDING
    assert refund.due_at - now() > timedelta(minutes=19)


@pytest.mark.parametrize("effect", [SwitchEffect.PAUSE_RUNS, SwitchEffect.FORCE_REVIEW])
def test_switches_that_stop_no_call_freeze_nothing(effect):
    request = an_approval()

    engage((Scope.EVERYTHING, effect, ""))

    assert status_of(request) == ApprovalStatus.PENDING


def test_a_switch_on_a_server_stops_its_tools_and_freezes_what_waits_for_them():
    """Compared exactly: an underscore in a name stands for itself."""
    lend, other = an_approval(action="my_books__lend"), an_approval(action="myxbooks__lend")
    assert blocking(tool="my_books__lend") is None

    switch = engage((Scope.SERVER, SwitchEffect.DISABLE_TOOL, "my_books"))

    assert switch.title == "MCP server my_books is off"
    assert blocking(tool="my_books__lend") == switch.pk
    assert blocking(tool="myxbooks__lend") is blocking(tool="my_books_lend") is blocking() is None
    assert (status_of(lend), status_of(other)) == (ApprovalStatus.FROZEN, ApprovalStatus.PENDING)

    lift(switch)
    assert (status_of(lend), blocking(tool="my_books__lend")) == (ApprovalStatus.PENDING, None)


def test_lifting_one_switch_leaves_frozen_what_another_still_stops():
    refund, mail = an_approval(), an_approval(action="send_reply")
    tool = engage(TOOL)
    everything = engage(WRITES, reason="Audit")

    lift(everything)
    assert (status_of(refund), status_of(mail)) == (ApprovalStatus.FROZEN, ApprovalStatus.PENDING)

    lift(tool)
    assert status_of(refund) == ApprovalStatus.PENDING


def test_a_request_that_stays_frozen_names_the_switch_that_stops_it_now():
    refund = an_approval()
    tool = engage(TOOL)
    engage((Scope.AGENT, SwitchEffect.WRITES_OFF, "shop-support"), reason="Audit")

    lift(tool)

    assert status_of(refund) == ApprovalStatus.FROZEN
    assert refund.events.last().data["reason"] == "Agent shop-support: write tools are off. Audit"


# A call that starts at the same instant


@pytest.mark.django_db(transaction=True)
def test_no_intent_commits_after_the_switch_without_having_seen_it():
    """Starters write an intent in a statement that asks the switches, which takes the shared lock, as fast as they can.

    Whatever was written has to be visible to the transaction that engaged, or to come from before it. Without the
    lock an intent whose statement ran before the switch's commit can itself commit after it.
    """
    a_shop()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE test_intents (id serial PRIMARY KEY)")
    try:
        for _ in range(6):
            late = race()
            assert late == 0
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE test_intents")


INTENT_SQL = f"""
    INSERT INTO test_intents SELECT nextval('test_intents_id_seq') WHERE {BLOCKING_SQL} IS NULL
"""


def race():
    """Returns how many intents committed after the switch did."""
    is_over, has_begun = threading.Event(), threading.Barrier(4)

    def start_calls():
        has_begun.wait(timeout=PATIENCE_S)
        while not is_over.is_set():
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(
                    INTENT_SQL, {"agent": "shop-support", "tool": "issue_refund", "is_write": True, "is_reviewed": True}
                )
                cursor.execute("SELECT pg_sleep(0.002)")  # the moment between statement and commit
        connection.close()

    starters = [threading.Thread(target=start_calls) for _ in range(3)]
    for starter in starters:
        starter.start()
    has_begun.wait(timeout=PATIENCE_S)
    switch = engage()
    seen = count_intents()
    is_over.wait(timeout=0.1)
    is_over.set()
    for starter in starters:
        starter.join(timeout=PATIENCE_S)
    late = count_intents() - seen
    lift(switch)
    return late


def count_intents():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM test_intents")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_engaged_twice_at_the_same_instant_is_one_switch():
    a_shop()
    actors, gate, answers = [an_actor(), an_actor()], threading.Barrier(2), []

    def pull(actor):
        try:
            connection.ensure_connection()
            gate.wait(timeout=PATIENCE_S)
            answers.append(engage(by=actor).pk)
        except Exception as wrong:
            answers.append(wrong)
        finally:
            connection.close()

    threads = [threading.Thread(target=pull, args=[actor]) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)

    assert len(set(answers)) == 1, answers
    assert KillSwitch.objects.count() == 1


def test_blocked_calls_are_counted():
    switch = engage()

    switches.count_blocked(switch.pk)
    switches.count_blocked(switch.pk)

    switch.refresh_from_db()
    assert switch.blocked_calls == 2
    assert not ApprovalRequest.objects.exists()
