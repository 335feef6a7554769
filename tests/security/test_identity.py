"""For whom a run works, and what it may do then: never more than any of those who stand behind it may (D10)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from console import ids, principals, problems
from console.actors import EVERY_SCOPE, Actor
from console.models import RoleGrant, User
from console.principals import EVERY_END_USER, BadClaim, Grant, Principal, PrincipalKind
from console.roles import Role
from releases import bundles
from runtime import forks, runs, schedules
from runtime.models import Run, Schedule
from runtime.policies import gating
from runtime.policies.budgeting import Spent
from runtime.policies.gating import Allow, Facts, Refuse
from runtime.states import RunStatus
from tests.builders import a_bundle, a_release, a_run, a_thread, a_tool, a_user, an_agent
from tests.programs import Program
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, effects, saying, work

REQUEST = {"agent": "shop-support", "input": "Please refund order 1042."}
ACME = Grant(("acme-*",), {"tier": "*", "tenant": "acme"})


@pytest.fixture
def agent(db: None) -> Any:
    return a_release(an_agent("shop-support")).agent


# Claims


@pytest.mark.parametrize(
    ("pattern", "fits", "not_so"),
    [
        ("acme-*", ["acme-1", "acme-"], ["acm-1", "xacme-1", "ACME-1", "acme"]),
        ("acme-1", ["acme-1"], ["acme-10", "acme-1 ", "acme-１"]),
        ("*-7", ["a-7", "-7"], ["a-77"]),
        ("a*b*c", ["abc", "axxbyyc", "abbc"], ["acb", "ab", "abcd"]),
        ("ab*ba", ["abba", "abxba"], ["aba"]),
        ("a?c[x]", ["a?c[x]"], ["abcx", "abc[x]"]),
    ],
)
def test_a_grant_covers_whole_ids(pattern: str, fits: list[str], not_so: list[str]):
    grant = Grant((pattern,))

    assert [one for one in fits if not grant.covers(one)] == []
    assert [one for one in not_so if grant.covers(one)] == []


@pytest.mark.parametrize(
    "other", ["service:tok_other", "Service:tok_other", " service :tok_me", "staff:usr_1", "STAFF:usr_1"]
)
def test_no_end_user_passes_for_staff_or_for_a_service(other: str):
    """One id never names two principals, so what is kept by id is kept by principal."""
    with pytest.raises(BadClaim):
        principals.claim(Principal(other), itself="service:tok_me", grant=EVERY_END_USER)


@pytest.mark.parametrize("spoilt", ["", " cus_1", "cus_1\n", "cus\u200b_1", "cus_\u202e1", "c" * 121, "cus\0"])
def test_an_id_with_something_hidden_in_it_is_no_id(spoilt: str):
    with pytest.raises(BadClaim):
        principals.claim(Principal(spoilt), itself="", grant=EVERY_END_USER)


@pytest.mark.parametrize(
    ("claimed", "accepted"),
    [
        ({}, {"tenant": "acme"}),
        ({"tier": "gold"}, {"tenant": "acme", "tier": "gold"}),
        ({"tenant": "acme"}, {"tenant": "acme"}),
        ({"tenant": "evil"}, None),
        ({"role": "admin"}, None),
        ({"Tier": "gold"}, None),
        ({"tier": ""}, None),
        ({"tier": "x" * 201}, None),
        ({"tier": "a\u202eb"}, None),
        ({f"a{n}": "x" for n in range(17)}, None),
    ],
)
def test_a_client_says_of_a_principal_only_what_it_was_granted(
    claimed: dict[str, str], accepted: dict[str, str] | None
):
    if accepted is None:
        with pytest.raises(BadClaim):
            principals.claim(Principal("acme-1", attributes=claimed), itself="", grant=ACME)
    else:
        assert principals.claim(Principal("acme-1", attributes=claimed), itself="", grant=ACME).attributes == accepted


@pytest.mark.parametrize(
    ("grant", "body", "status"),
    [
        (EVERY_END_USER, {"user_id": "cus_1"}, 202),
        (EVERY_END_USER, {"principal": {"id": "cus_1", "attributes": {"tier": "gold"}}}, 403),
        (EVERY_END_USER, {"principal": {"kind": "service"}}, 202),
        (EVERY_END_USER, {"principal": {"kind": "service", "id": "service:tok_other"}}, 403),
        (EVERY_END_USER, {"principal": {"kind": "end_user", "id": "service:tok_other"}}, 422),
        (EVERY_END_USER, {"principal": {"kind": "staff", "id": "staff:usr_1"}}, 403),
        (EVERY_END_USER, {"user_id": "cus_1", "principal": {"id": "cus_1"}}, 422),
        (EVERY_END_USER, {}, 422),
        (EVERY_END_USER, {"principal": {"id": ""}}, 422),
        (EVERY_END_USER, {"principal": {"id": "cus_1", "scopes": ["*"]}}, 422),
        (Grant(), {"user_id": "cus_1"}, 403),
        (Grant(), {"principal": {"kind": "service"}}, 202),
        (ACME, {"user_id": "cus_1"}, 403),
        (ACME, {"principal": {"id": "acme-1", "attributes": {"tier": "gold"}}}, 202),
        (ACME, {"principal": {"id": "acme-1", "attributes": {"tenant": "evil"}}}, 403),
    ],
)
def test_a_request_acts_for_somebody_only_within_the_tokens_grant(agent: Any, grant: Grant, body: Any, status: int):
    program = Program(acts_for=grant)

    answer = program.post("/runs", {**REQUEST, **body})

    assert answer.status_code == status, answer.json()
    assert Run.objects.count() == int(status == 202)
    refused = Program(acts_for=grant).post(
        "/schedules", {"agent": "shop-support", "name": "n", "input": "x", "expression": "every day", **body}
    )
    assert (refused.status_code == 201) == (status == 202)


def test_what_was_accepted_is_frozen_on_the_run_and_told(agent: Any):
    program = Program(acts_for=ACME)
    told = program.post("/runs", {**REQUEST, "principal": {"id": "acme-1", "attributes": {"tier": "gold"}}}).json()
    own = program.post("/runs", {**REQUEST, "principal": {"kind": "service"}}).json()

    frozen = {"tenant": "acme", "tier": "gold"}
    assert told["principal"] == {"kind": "end_user", "id": "acme-1", "label": "", "attributes": frozen}
    assert Run.objects.get(principal_id="acme-1").principal_attributes == frozen
    assert own["principal"]["kind"] == "service"
    assert own["principal"]["id"] == f"service:{ids.public('tok', program.token.pk)}"


# What goes on with earlier work


def test_a_conversation_keeps_its_principal_and_at_most_its_scopes(agent: Any):
    """Whoever goes on with it, with whatever rights of their own, it stays as narrow as it began."""
    narrow = Program(tool_scopes=("orders:read",), acts_for=ACME)
    begun = narrow.post("/runs", {**REQUEST, "principal": {"id": "acme-1", "attributes": {"tier": "gold"}}}).json()
    Run.objects.update(status=RunStatus.SUCCEEDED)
    wide = Program(acts_for=Grant(("*",), {"tier": "*"}))
    again = {**REQUEST, "thread_id": begun["thread_id"]}

    raised = wide.post("/runs", {**again, "principal": {"id": "acme-1", "attributes": {"tier": "platinum"}}})
    other = wide.post("/runs", {**again, "user_id": "acme-2"})
    elsewhere = Program(acts_for=Grant(("*",), {"tenant": "evil"})).post("/runs", {**again, "user_id": "acme-1"})
    went_on = wide.post("/runs", {**again, "user_id": "acme-1"}).json()

    assert (raised.status_code, other.status_code, elsewhere.status_code) == (404, 404, 404)
    assert went_on["scopes"] == ["orders:read"]
    assert went_on["principal"]["attributes"] == {"tenant": "acme", "tier": "gold"}


def test_an_operator_who_goes_on_with_a_conversation_brings_no_rights_into_it(agent: Any):
    thread = a_thread(agent, principal_id="acme-1", scopes=["orders:read"], principal_attributes={"tier": "gold"})
    operator = a_user(Role.OPERATOR).actor()

    run, _ = runs.create(
        agent=agent.slug, text="And now?", by=operator, principal_id="acme-1", attributes={"tier": "gold"},
        is_kept=True, thread_id=thread.pk,
    )  # fmt: skip

    assert (run.scopes, run.principal_attributes) == (["orders:read"], {"tier": "gold"})


def test_a_fork_keeps_the_principal_and_has_no_right_that_either_lacks(agent: Any):
    who = {"principal_id": "acme-1", "principal_attributes": {"tier": "gold"}}
    source = a_run(agent=agent, scopes=["orders:read"], thread=a_thread(agent, **who), **who)
    program = Program(acts_for=Grant(("globex-*",)))
    operator = a_user(Role.OPERATOR, tool_scopes=["refunds:write", "orders:read"]).actor()

    refused = program.post(f"/runs/{source.public_id}/fork", {"reason": "again"})
    new, _ = forks.fork(source.pk, by=operator, reason="again", step_id=None)

    assert refused.status_code == 403
    assert (new.principal_id, new.principal_attributes) == ("acme-1", {"tier": "gold"})
    assert new.scopes == ["orders:read"]


def test_a_schedule_keeps_its_principal_and_no_program_outside_of_its_grant_turns_it_on(agent: Any):
    mine = Program(acts_for=ACME).token.actor()
    schedule = schedules.create(
        agent=agent.slug, name="Report", text="Sum up.", principal_id="acme-1", expression="every day", by=mine,
        attributes={"tier": "gold"},
    )  # fmt: skip
    schedules.disable(schedule.pk, by=mine, reason="for now")
    foreign = Program(acts_for=Grant(("globex-*",)))

    refused = foreign.post(f"/schedules/{schedule.public_id}/enable", {})
    started = foreign.post(f"/schedules/{schedule.public_id}/run", {})
    run = schedules.run_now(schedule.pk, by=a_user(Role.OPERATOR).actor())

    assert (refused.status_code, started.status_code) == (403, 403)
    assert Schedule.objects.get().next_at is None
    assert run.principal_attributes == {"tenant": "acme", "tier": "gold"}


# The right of a call: user x token x release x kind x tool


SCOPES: tuple[tuple[str, ...], ...] = ((), ("a:write",), ("b:write",), ("a:write", "b:write"), (EVERY_SCOPE,))
CEILINGS: tuple[dict[str, list[str]], ...] = ({}, {"end_user": []}, {"end_user": ["a:write"]}, {"service": []})


def may(scopes: tuple[str, ...] | list[str], wanted: str) -> bool:
    return EVERY_SCOPE in scopes or wanted in scopes


@pytest.mark.django_db
def test_a_call_has_a_right_only_where_everybody_behind_it_has_it():
    """D10: 5 users x 5 tokens x 5 requests x 4 releases x 3 tools; a tool without a scope stays open to all."""
    offered = [a_tool("do_a", scope="a:write"), a_tool("do_b", scope="b:write"), a_tool("do_any")]
    releases = [bundles.Bundle.model_validate(a_bundle(tools=offered[:2], principal_scopes=one)) for one in CEILINGS]
    seen = set()
    for of_user, of_token, of_request in itertools.product(SCOPES, SCOPES, SCOPES):
        owner = replace(Actor("user", "1", "Ada"), tool_scopes=frozenset(of_user))
        held = principals.narrowed(of_token, owner.tool_scopes)
        frozen = principals.narrowed(of_request, held)
        for bundle, tool in itertools.product(releases, ("do_a", "do_b", "do_any")):
            scope = {"do_a": "a:write", "do_b": "b:write"}.get(tool, "")
            ceiling = bundle.principal_scopes.get(PrincipalKind.END_USER)
            expected = tool != "do_any" and all(
                [may(of_user, scope), may(of_token, scope), may(of_request, scope)]
                + ([may(ceiling, scope)] if ceiling is not None else [])
            )
            verdict = gating.decide_call(facts(bundle, tool, frozen))
            seen.add(type(verdict))
            assert isinstance(verdict, Allow) == expected, (of_user, of_token, of_request, ceiling, tool, verdict)
    assert seen == {Allow, Refuse}


def facts(bundle: bundles.Bundle, tool: str, scopes: list[str]) -> Facts:
    return Facts(
        tool=tool, bundle=bundle, agent="shop", switches=(), scopes=frozenset(scopes), arguments={}, schema_errors={},
        has_secret=False, spent=Spent(0, 0, 0, bundles.Decimal(0), timedelta()), budgets=bundle.budgets, repeats=0,
        approvals=0, principal=Principal("cus_1"),
    )  # fmt: skip


# Runs of staff


@pytest.fixture
def clean(transactional_db: None) -> Iterator[None]:
    yield from harness.fresh()


def for_self(user: User, release: Any) -> Run:
    actor = user.actor()
    run, _ = runs.create(
        agent=release.agent.slug, text="Pay it", by=actor, principal_id=actor.itself, principal_label=user.name
    )
    return run


@pytest.mark.usefixtures("clean")
class TestStaff:
    def paying(self) -> Any:
        return a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "Done."))

    def test_a_member_of_staff_acts_with_his_own_rights(self):
        user = a_user(Role.OPERATOR)
        run = work(for_self(user, self.paying()))

        assert (run.status, len(harness.paid())) == (RunStatus.SUCCEEDED, 1)
        assert run.principal.kind == PrincipalKind.STAFF

    @pytest.mark.parametrize(
        "lose",
        [
            lambda user: RoleGrant.objects.filter(user=user).delete(),
            lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
            lambda user: RoleGrant.objects.filter(user=user).update(role=Role.AUDITOR),
            lambda user: RoleGrant.objects.filter(user=user).update(agent="another-agent"),
        ],
    )
    def test_a_right_that_is_lost_before_the_call_is_lost_for_the_call(self, lose: Any):
        """D10, D23: asked again before every call, not only when the run was started."""
        user = a_user(Role.OPERATOR)
        run = for_self(user, self.paying())
        lose(user)

        run = work(run)

        assert effects == []
        assert run.steps.filter(rule="principal-role").exists()

    def test_a_tool_scope_that_is_lost_before_the_call_is_lost_for_the_call(self):
        user = a_user(Role.OPERATOR)
        run = for_self(user, self.paying())
        User.objects.filter(pk=user.pk).update(tool_scopes=["orders:read"])

        run = work(run)

        assert effects == []
        assert run.steps.filter(rule="principal-scope").exists()

    def test_nobody_acts_for_another_member_of_staff(self):
        one, other = a_user(Role.OPERATOR), a_user(Role.OPERATOR)
        release = self.paying()

        with pytest.raises(problems.Forbidden):
            runs.create(agent=release.agent.slug, text="x", by=one.actor(), principal_id=other.actor().itself)


@pytest.mark.usefixtures("clean")
def test_a_refused_right_reaches_no_tool():
    """D10: the agent has the tool, the program has the scope, the person it works for has not."""
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "Done."))
    run, _ = runs.create(
        agent=release.agent.slug, text="Pay", by=harness.STARTER, principal_id="cus_1", scopes=["orders:read"]
    )

    run = work(run)

    assert effects == []
    assert run.steps.filter(rule="principal-scope").exists()
