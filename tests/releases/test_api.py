"""Agents, releases and kill switches as programs see them."""

from __future__ import annotations

import pytest

from console.models import AuditEntry
from releases.models import KillSwitch
from releases.states import Scope, SwitchEffect
from tests.builders import a_release, a_switch, an_agent
from tests.programs import Program

pytestmark = pytest.mark.django_db

ENGAGE = {"scope": "tool", "effect": "disable_tool", "target": "issue_refund", "reason": "Refunds go out twice."}


@pytest.fixture
def agent():
    agent = an_agent("shop-support", "Shop support")
    a_release(agent, version="1.0")
    a_release(agent, version="1.1")
    return agent


def test_an_agent_names_the_release_that_answers(agent):
    a_release(an_agent("other"))

    listed = Program("releases.read", agent="shop-support").get("/agents").json()["items"]

    assert [item["agent"] for item in listed] == ["shop-support"]
    assert listed[0]["active_release"] == "1.1"
    assert listed[0]["active_release_digest"] == agent.active_release.digest


def test_releases_come_newest_first_and_whole_on_demand(agent):
    program = Program()

    listed = program.get("/agents/shop-support/releases").json()["items"]
    whole = program.get(f"/releases/{listed[0]['release_id']}").json()

    assert [(item["version"], item["is_active"]) for item in listed] == [("1.1", True), ("1.0", False)]
    assert "content" not in listed[0]
    assert listed[0]["tools"] == ["lookup_order", "issue_refund"]
    assert whole["content"]["instructions"]


def test_engage_stops_the_tool_once_and_says_who_and_why(agent):
    program = Program()

    first, again = (program.post("/switches", ENGAGE) for _ in range(2))

    told = first.json()
    assert (first.status_code, told["title"], told["is_engaged"]) == (200, "issue_refund is off", True)
    assert told["switch_id"] == again.json()["switch_id"]
    assert KillSwitch.objects.count() == 1
    entry = AuditEntry.objects.get(action="switch.engage")
    assert (entry.actor_id, entry.reason) == (str(program.token.pk), "Refunds go out twice.")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"scope": "planet"}, "scope"),
        ({"effect": "explode"}, "effect"),
        ({"engaged_at": "2020-01-01T00:00:00Z"}, "engaged_at"),
        ({"effect": "pause_runs"}, None),
        ({"target": ""}, None),
        ({"target": "no_such_tool"}, None),
    ],
)
def test_a_switch_that_cannot_be_engaged_is_refused(agent, change, field):
    answer = Program().post("/switches", {**ENGAGE, **change})

    assert answer.status_code == 422
    assert field is None or field in answer.json()["errors"]
    assert not KillSwitch.objects.exists()


def test_lifting_needs_a_reason_and_the_phrase():
    switch, program = a_switch(), Program()
    path = f"/switches/{switch.public_id}/lift"
    phrase = program.get("/switches").json()["items"][0]["lift_phrase"]

    wrong = program.post(path, {"reason": "Fixed.", "phrase": "yes"})
    right = program.post(path, {"reason": "Fixed.", "phrase": phrase})

    assert (wrong.status_code, wrong.json()["errors"].keys()) == (422, {"phrase"})
    assert (right.status_code, right.json()["is_engaged"], right.json()["lift_reason"]) == (200, False, "Fixed.")


def test_switches_can_be_listed_by_what_stops_something_now():
    stands, lifted = a_switch(target="issue_refund"), a_switch(target="send_reply")
    program = Program()
    program.post(f"/switches/{lifted.public_id}/lift", {"reason": "Fixed.", "phrase": "turn on send_reply"})

    def found(**query):
        return [item["switch_id"] for item in program.get("/switches", query).json()["items"]]

    assert found(engaged="true") == [stands.public_id]
    assert found(engaged="false") == [lifted.public_id]
    assert len(found()) == 2


def test_a_token_of_one_agent_pulls_that_agents_switches_only(agent):
    a_release(an_agent("other"))
    program = Program(agent="shop-support")

    own = program.post("/switches", {**ENGAGE, "scope": "agent", "effect": "writes_off", "target": "shop-support"})
    others = program.post("/switches", {**ENGAGE, "scope": "agent", "effect": "writes_off", "target": "other"})
    everything = program.post("/switches", {"scope": "everything", "effect": "pause_runs", "reason": "A test."})

    assert (own.status_code, others.status_code, everything.status_code) == (200, 403, 403)
    assert [(s.scope, s.effect) for s in KillSwitch.objects.all()] == [(Scope.AGENT, SwitchEffect.WRITES_OFF)]
