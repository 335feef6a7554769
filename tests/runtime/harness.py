"""Running the real engine in a test: a worker's life, a pool, a loop, scripts and tools that leave traces."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import django_rq
import psycopg
import pytest
from django.conf import settings
from django.db import connection

from console import live, queue
from console.actors import EVERY_SCOPE, Actor, system
from releases import bundles
from releases.models import Release
from runtime import runs, toolbox, tools, worker, workers
from runtime.engine import Engine
from runtime.journal import LeaseLost
from runtime.messages import Call, ModelReply, Reply, ToolResult
from runtime.models import Run
from runtime.providers import scripted
from runtime.providers.base import ModelRequest
from runtime.states import RunStatus
from tests import builders

STARTER = Actor(
    kind="user",
    id="0199-starter",
    label="Sam Starter",
    rights=frozenset({("runs.create", "*"), ("runs.cancel", "*"), ("runs.read", "*")}),
    tool_scopes=frozenset({EVERY_SCOPE}),
)

# A person decides about larger payments.
OVER_100 = {
    "id": "refund-limit",
    "tool": "spy_pay",
    "when": [{"argument": "amount", "op": "gt", "value": 100}],
    "then": "ask",
    "reason": "Refunds over $100 need a person.",
}

effects: list[tuple[str, dict[str, Any]]] = []  # what the spy tools did, in order
hooks: dict[str, Callable[[], None]] = {}  # called inside a spy tool, before its effect


def _spy(name: str, **seen: Any) -> None:
    if name in hooks:
        hooks[name]()
    effects.append((name, seen))


@tools.tool(effect="read", output_trust="trusted", arguments={"order_id": "target"})
def spy_read(ctx: tools.ToolContext, order_id: str) -> dict[str, str]:
    """Look something up."""
    _spy("spy_read", order_id=order_id, key=ctx.idempotency_key)
    return {"order": order_id, "total": "129.00"}


@tools.tool(
    effect="write",
    retry="transactional",
    output_trust="trusted",
    moves_money=True,
    scope="refunds:write",
    title="Pay ${amount}",
    arguments={"order_id": "target", "amount": "amount"},
)
def spy_pay(ctx: tools.ToolContext, order_id: str, amount: Decimal) -> dict[str, str]:
    """Pay money back; the effect is a row in the table `spy`, so it commits with its step."""
    _spy("spy_pay", order_id=order_id, amount=str(amount), key=ctx.idempotency_key)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO spy (key, amount) VALUES (%s, %s)", [ctx.idempotency_key, amount])
    return {"paid": str(amount)}


@tools.tool(effect="egress", retry="unsafe", output_trust="untrusted")
def spy_send(ctx: tools.ToolContext, text: str) -> str:
    """Send something to the outside; nobody can take it back or look it up."""
    _spy("spy_send", text=text, key=ctx.idempotency_key)
    return "sent"


@tools.tool(effect="write", retry="idempotent", timeout_s=0.3)
async def spy_slow(ctx: tools.ToolContext, seconds: float) -> str:
    """Take some time."""
    await asyncio.sleep(seconds)
    _spy("spy_slow", key=ctx.idempotency_key)
    return "done"


TOOLS = ("spy_read", "spy_pay", "spy_send", "spy_slow", "refuse")


def a_scripted_release(script: Callable[[ModelRequest], Reply], **content: Any) -> Release:
    """An active release whose model is the given function, with every spy tool."""
    name = f"script-{len(scripted._scripts)}"
    scripted.register(name, script)
    manifests = [tools.known()[tool].manifest.model_dump(mode="json") for tool in content.pop("use", TOOLS)]
    manifests += content.pop("tools", [])
    content.setdefault("budgets", bundles.Budgets().model_dump(mode="json"))
    model = {"provider": "scripted", "name": name, **content.pop("model", {})}
    return builders.a_release(model=model, tools=manifests, **content)


def saying(*replies: Reply | str) -> Callable[[ModelRequest], Reply]:
    """A model that says these things in order, whatever it is told."""

    def script(request: ModelRequest) -> Reply:
        said = sum(isinstance(message, ModelReply) for message in request.messages[request.history :])
        reply = replies[min(said, len(replies) - 1)]
        return Reply(reply) if isinstance(reply, str) else reply

    return script


def calling(name: str, call_id: str = "", **arguments: Any) -> Reply:
    return Reply("", (Call(call_id or f"call-{name}", name, arguments),))


def told(request: ModelRequest) -> Sequence[str]:
    return [
        m.content if isinstance(m, ToolResult) else m.text for m in request.messages if not isinstance(m, ModelReply)
    ]


def start(release: Release, text: str = "Please refund order 10482", **options: Any) -> Run:
    run, _ = runs.create(
        agent=release.agent.slug, text=text, by=STARTER, principal_id=options.pop("principal_id", "cus_1"), **options
    )
    return run


def work(run: Run, *, slot: str = "test", turns: int = 1) -> Run:
    """Execute up to `turns` turns of the run with a fresh worker life; returns it as it is then."""
    life = workers.register(slot)

    async def go() -> None:
        pool = worker.open_pool(4)
        await pool.open(wait=True)
        engine = Engine(pool, life.pk)
        try:
            for _ in range(turns):
                await engine.run_turn(run.pk)
            await engine.settle()
        finally:
            await toolbox.aclose_all()
            await pool.close()

    asyncio.run(go())
    return Run.objects.get(pk=run.pk)


def work_all(started: Sequence[Run], *, slot: str = "test") -> None:
    """Execute one turn of each, all at once in one worker life."""
    life = workers.register(slot)

    async def go() -> None:
        pool = worker.open_pool(8)
        await pool.open(wait=True)
        engine = Engine(pool, life.pk)
        try:
            await asyncio.gather(*(engine.run_turn(run.pk) for run in started))
            await engine.settle()
        finally:
            await toolbox.aclose_all()
            await pool.close()

    asyncio.run(go())


def vanishing(monkeypatch: pytest.MonkeyPatch, when: Callable[[Any], bool]) -> None:
    """Let the worker vanish without a trace, once something is so of its turn: what it holds is lost."""
    perform, done = Engine._perform, list[bool]()

    async def watched(self: Any, turn: Any) -> bool:
        if not done and when(turn):
            done.append(True)
            turn.held.clear()
            raise LeaseLost
        return await perform(self, turn)

    monkeypatch.setattr(Engine, "_perform", watched)


def taken_over(run: Run) -> Run:
    """What the reconciler and another worker do with a run whose worker vanished."""
    Run.objects.filter(pk=run.pk).update(status=RunStatus.QUEUED, worker_id=None)
    return work(Run.objects.get(pk=run.pk), slot="second")


def in_background(function: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def is_heard(topic: str) -> bool:
    """Whether somebody in earshot of this process listens to the topic; before that, he is told in vain."""
    prefix = settings.CHANNEL_LAYERS["default"]["CONFIG"].get("prefix", "asgi")
    return bool(django_rq.get_connection(queue.RUNS).pubsub_channels(f"{prefix}__group__{live.group(topic)}"))


def trace(run: Run) -> list[tuple[str, str, str]]:
    return [(step.kind, step.name, step.verdict or step.status) for step in run.steps.order_by("seq")]


def paid() -> list[tuple[str, Decimal]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT key, amount FROM spy ORDER BY key")
        return list(cursor.fetchall())


def fresh() -> Iterator[None]:
    """What a test of the engine needs around it: the spy table, no old effects."""
    effects.clear()
    hooks.clear()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS spy (key text PRIMARY KEY, amount numeric)")
        cursor.execute("TRUNCATE spy")
    yield


DECIDER = system("test")


def _chaos(request: ModelRequest) -> Reply:
    """Look up, pay, answer: slow enough that a worker can be killed anywhere in it."""
    time.sleep(0.02)
    return saying(calling("spy_read", order_id="1"), calling("spy_pay", order_id="1", amount="5.00"), "Paid.")(request)


def _unsafe_chaos(request: ModelRequest) -> Reply:
    return saying(calling("unsafe_send", text="hi"), "Sent.")(request)


@tools.tool(effect="egress", retry="unsafe", output_trust="untrusted")
def unsafe_send(ctx: tools.ToolContext, text: str) -> str:
    """Leave a mark outside of any transaction, then take long enough to be killed before the result is known."""
    with psycopg.connect(worker.conninfo(), autocommit=True) as outside:
        outside.execute("INSERT INTO spy_sent (key) VALUES (%s)", [ctx.idempotency_key])
    time.sleep(0.5)
    return "sent"


scripted.register("chaos", _chaos)
scripted.register("unsafe-chaos", _unsafe_chaos)
