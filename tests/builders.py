"""Rows for tests: each builder has sensible defaults, so that a test names only what matters to it.

A builder writes rows as they are, past the verbs; where the verb itself is under test, call the verb.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils.timezone import now

from approvals.models import ApprovalRequest, Decision
from approvals.states import Verdict
from console.actors import Actor
from console.models import RoleGrant, User
from console.roles import Role
from releases import bundles, labels
from releases.models import Agent, KillSwitch, Release
from releases.policies import labelling
from releases.states import Scope, SwitchEffect
from runtime.mcp.models import McpServer, McpTool
from runtime.models import Breaker, Delivery, Memory, Occurrence, Run, RunEvent, Schedule, Step, StepPayload, Thread
from runtime.policies import offering
from runtime.states import FINAL, BreakerKind, BreakerState, DeliveryStatus, RunStatus, StepKind, StepStatus

PASSWORD = "correct horse battery staple"

_numbers = itertools.count(1)


def a_user(
    role: Role | str = Role.OPERATOR, *, agent: str = "", name: str = "", email: str = "", **fields: Any
) -> User:
    """A person with one role, on one agent or on all; `role=""` is somebody without any. Password: PASSWORD."""
    number = next(_numbers)
    name = name or f"Ada Number {number}"
    user = User.objects.create_user(email or f"person{number}@example.test", PASSWORD, name=name, **fields)
    if role:
        RoleGrant.objects.create(user=user, role=role, agent=agent)
    return user


def an_actor(role: Role | str = Role.OPERATOR, *, agent: str = "") -> Actor:
    return a_user(role, agent=agent).actor()


def a_tool(name: str = "issue_refund", **labels: Any) -> dict[str, Any]:
    """The manifest of a tool inside a bundle."""
    fields: dict[str, Any] = {"name": name, "effect": "write", "retry": "transactional", "description": f"Does {name}."}
    return {**fields, **labels}


def a_bundle(version: str = "", **content: Any) -> dict[str, Any]:
    """A valid release bundle of a scripted model with a reading and a writing tool."""
    fields: dict[str, Any] = {
        "version": version or f"1.{next(_numbers)}",
        "model": {"provider": "scripted", "name": "shop-support"},
        "instructions": "Help the customer. Look the order up before you promise anything.",
        "tools": [a_tool("lookup_order", effect="read", retry="read"), a_tool("issue_refund", moves_money=True)],
    }
    return bundles.Bundle.model_validate({**fields, **content}).model_dump(mode="json")


def an_agent(slug: str = "", name: str = "", **fields: Any) -> Agent:
    """An agent without a release; the same slug again gives the same agent."""
    slug = slug or f"agent-{next(_numbers)}"
    agent, _ = Agent.objects.get_or_create(
        slug=slug, defaults={"name": name or slug.replace("-", " ").title(), **fields}
    )
    return agent


def a_release(agent: Agent | None = None, *, is_active: bool = True, note: str = "", **content: Any) -> Release:
    """A release of the agent; unless told otherwise it answers new runs. The code declares its tools' labels."""
    agent = agent or an_agent()
    bundle = a_bundle(**content)
    release = Release(
        agent=agent,
        version=bundle["version"],
        digest=bundles.digest(bundles.Bundle.model_validate(bundle)),
        content=bundle,
        note=note,
        created_by_label="Ines Duarte",
    )
    release.declared = {tool.name: labelling.labels(tool) for tool in release.bundle.tools if tool.labelled}
    labels.seal(release)
    release.save(force_insert=True)
    if is_active:
        agent.active_release = release
        agent.save(update_fields=["active_release"])
    return release


def a_thread(agent: Agent | None = None, **fields: Any) -> Thread:
    agent = agent or an_agent()
    return Thread.objects.create(agent=agent, **{"principal_id": "cust-1001", "principal_label": "Ana Lima", **fields})


def a_run(status: RunStatus = RunStatus.SUCCEEDED, *, agent: Agent | None = None, **fields: Any) -> Run:
    """A run of the agent's active release (made when there is none), in a thread of its own unless one is given."""
    moment = fields.get("created_at") or now()
    release = fields.pop("release", None)
    agent = agent or (release.agent if release else an_agent())
    release = release or agent.active_release or a_release(agent)
    who = {"principal_id": "cust-1001", "principal_label": "Ana Lima"}
    who |= {name: fields[name] for name in who if name in fields}
    values: dict[str, Any] = {
        "title": "Refund for order 1042",
        "input_text": "Please refund order 1042, it arrived broken.",
        "scopes": ["*"],
        "started_by_kind": "user",
        "started_by_label": "Ada Number 1",
        "budgets": release.bundle.budgets.model_dump(mode="json"),
        "created_at": moment,
        "started_at": None if status == RunStatus.QUEUED else moment,
        "waiting_since": moment if status == RunStatus.WAITING else None,
        "finished_at": moment + timedelta(seconds=4) if status in FINAL else None,
        "cause": "answered" if status == RunStatus.SUCCEEDED else "",
        **who,
        **fields,
    }
    values.setdefault("thread", None)
    values["thread"] = values["thread"] or a_thread(agent, **who)
    return Run.objects.create(agent=agent, release=release, status=status, **values)


def a_step(
    run: Run,
    kind: StepKind = StepKind.TOOL,
    name: str = "lookup_order",
    *,
    status: StepStatus = StepStatus.DONE,
    took: timedelta = timedelta(milliseconds=400),
    input: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Step:
    """The next step of the run, right after the one before it. `input` and `output` become its payload."""
    seq = fields.pop("seq", None) or _next_seq(run)
    before = run.steps.order_by("seq").last()
    began = fields.pop("started_at", None) or (before and before.finished_at) or run.started_at or run.created_at
    ended = None if status == StepStatus.STARTED else began + took
    step = Step.objects.create(
        run=run,
        seq=seq,
        done_seq=fields.pop("done_seq", None if ended is None else seq),
        kind=kind,
        name=name,
        status=status,
        started_at=began,
        finished_at=fields.pop("finished_at", ended),
        **fields,
    )
    if input is not None or output is not None:
        StepPayload.objects.create(step=step, input=dict(input or {}), output=dict(output or {}))
    return step


def an_event(run: Run, kind: str = "run.created", **fields: Any) -> RunEvent:
    return RunEvent.objects.create(run=run, seq=fields.pop("seq", None) or _next_seq(run), kind=kind, **fields)


def a_delivery(run: Run, kind: str = "run.finished", **fields: Any) -> Delivery:
    """A message about the run that was given up, with the event that it tells of."""
    event = an_event(run, kind)
    values = {"status": DeliveryStatus.GIVEN_UP, "attempts": 1, "next_at": None, "happened_at": event.at, **fields}
    return Delivery.objects.create(run=run, seq=event.seq, kind=kind, **values)


def an_approval(run: Run | None = None, **fields: Any) -> ApprovalRequest:
    """An open request to call issue_refund, about a run when one is given."""
    subject = {"subject_kind": "tool_call", "subject_id": run.public_id if run else f"subject-{next(_numbers)}"}
    about = {"agent": run.agent.slug, "agent_name": run.agent.name, "release": run.release.version} if run else {}
    if run:
        about["subject_url"] = f"/runs/{run.public_id}/"
    values: dict[str, Any] = {
        **subject,
        "digest": "0" * 64,
        "title": "Refund $129.00 for order 1042",
        "action": "issue_refund",
        "agent": "shop-support",
        "agent_name": "Shop support",
        "release": "1.0",
        "requested_for": "Ana Lima",
        "risk": "high",
        "amount_usd": Decimal("129.00"),
        "arguments": {"order_id": "1042", "amount": "129.00"},
        "fields": [
            {"name": "order_id", "label": "Order", "value": "1042", "editable": False},
            {"name": "amount", "label": "Amount", "value": "129.00", "editable": True, "type": "amount"},
        ],
        "rule": "refund-limit",
        "rule_version": "1",
        "why": "The refund of $129.00 is above the $100.00 limit.",
        "due_at": now() + timedelta(minutes=30),
        **about,
        **fields,
    }
    return ApprovalRequest.objects.create(**values)


def a_breaker(name: str = "issue_refund", state: BreakerState = BreakerState.OPEN, **fields: Any) -> Breaker:
    """An open breaker of a tool; its time is over in a minute."""
    moment = now()
    waits = {"opened_at": moment, "open_until": moment + timedelta(minutes=1)} if state != BreakerState.CLOSED else {}
    values = {"kind": BreakerKind.TOOL, "failures": 5, "calls": 5, "openings": 1, "last_error": "timeout", **waits}
    return Breaker.objects.create(name=name, state=state, **{**values, **fields})


def a_memory(agent: Agent | None = None, key: str = "language", value: Any = "Portuguese", **fields: Any) -> Memory:
    """Something remembered of cust-1001, in schema version 1."""
    values = {"principal_id": "cust-1001", "schema_version": 1, "size_bytes": len(str(value)), **fields}
    return Memory.objects.create(agent=agent or an_agent(), key=key, value=value, **values)


def a_schedule(agent: Agent | None = None, **fields: Any) -> Schedule:
    """A schedule of the system that is on and due in an hour."""
    values: dict[str, Any] = {
        "name": "Morning report",
        "input_text": "Sum up what was refunded yesterday.",
        "principal_id": "cust-1001",
        "scopes": ["*"],
        "expression": "every day",
        "next_at": now() + timedelta(hours=1),
        "created_by_kind": "system",
        "created_by_id": "test",
        "created_by_label": "system (test)",
        **fields,
    }
    return Schedule.objects.create(agent=agent or an_agent(), **values)


def an_occurrence(schedule: Schedule, run: Run | None = None, **fields: Any) -> Occurrence:
    """A time at which the schedule came up."""
    values = {"due_at": now() - timedelta(minutes=next(_numbers)), "outcome": "started" if run else "skipped", **fields}
    return Occurrence.objects.create(schedule=schedule, run=run, **values)


def a_decision(request: ApprovalRequest, verdict: Verdict = Verdict.APPROVE, **fields: Any) -> Decision:
    values = {"arguments": request.arguments, "by_kind": "user", "by_id": "1", "by_label": "Mara Okafor", **fields}
    return Decision.objects.create(request=request, verdict=verdict, **values)


def a_switch(
    effect: SwitchEffect = SwitchEffect.DISABLE_TOOL,
    scope: Scope = Scope.TOOL,
    target: str = "issue_refund",
    **fields: Any,
) -> KillSwitch:
    """An engaged kill switch."""
    values = {"reason": "Refunds went out twice.", "engaged_by_id": "1", "engaged_by_label": "Mara Okafor", **fields}
    return KillSwitch.objects.create(effect=effect, scope=scope, target=target, epoch=next(_numbers), **values)


def an_mcp_server(name: str = "library", **fields: Any) -> McpServer:
    """An MCP server that answers; nothing is behind its address."""
    values = {"transport": "http", "url": "https://mcp.example.com/mcp", "created_by_label": "Ada Admin", **fields}
    return McpServer.objects.create(name=name, **{"seen_at": now(), **values})


def an_mcp_tool(server: str = "library", name: str = "find_book", **offer: Any) -> McpTool:
    """A tool that an MCP server offers, never reviewed; the server is made if need be."""
    row = McpServer.objects.filter(name=server).first() or an_mcp_server(server)
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    content = {"name": name, "description": "Find a book.", "input_schema": schema, **offer}
    return McpTool.objects.create(server=row, name=name, offer=content, digest=offering.digest(content))


def _next_seq(run: Run) -> int:
    """`seq` counts every write of the run, steps and events alike."""
    run.seq += 1
    Run.objects.filter(pk=run.pk).update(seq=run.seq)
    return run.seq
