"""G12: how long it takes to judge one proposed call when the run has 50 steps behind it.

    python -m tests.benchmarks.policy_latency          DECISIONS=20000 STEPS=50

Measured is everything between the model's proposal and the verdict that is not a query: the arguments are validated
and looked through for secrets, the call is compared with those before it, and the gate judges it. A release with 20
tools and 20 rules; nothing refuses, so every question is asked.

`clean` has read nothing of an outsider. `tainted` has: each verdict takes in one more result of 1 kB and looks where
every value comes from. `resumed` is the first verdict after a restart, which takes in all the steps at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.benchmarks import ground

DECISIONS = ground.knob("DECISIONS", 20_000)
STEPS = ground.knob("STEPS", 50)
TAINTED = max(1, DECISIONS // 10)
TOOLS = 20
USER = "Order 10482 arrived broken, please refund 42.00 EUR to me."


def main() -> None:
    with ground.standing():
        ground.emit(benchmark="policy_latency", decisions=DECISIONS, steps=STEPS, tools=TOOLS, rules=TOOLS, **_timed())


def _timed() -> dict[str, Any]:
    from runtime.policies import gating, recalling

    judge, labels = _judge(), recalling.labels(_reading())
    nothing_read = _knowing(labels, 0)

    def one(known: Any, more: int = 0) -> float:
        began = time.perf_counter()
        if more:
            known.read(STEPS, labels, {"query": "x"}, _result(STEPS + more))
        verdict = judge(known)
        took = time.perf_counter() - began
        assert isinstance(verdict, gating.Allow), verdict
        return took

    clean = [one(nothing_read) for _ in range(DECISIONS)]
    tainted = [one(_caught_up(_knowing(labels, STEPS // 2)), more=number) for number in range(1, TAINTED + 1)]
    resumed = [one(_knowing(labels, STEPS // 2)) for _ in range(TAINTED)]
    return {
        f"{name}_{share}": ground.ms(took, at)
        for name, took in (("clean", clean), ("tainted", tainted), ("resumed", resumed))
        for share, at in (("p50_ms", 0.5), ("p99_ms", 0.99))
    }


def _knowing(labels: Any, reads: int) -> Any:
    """What a run knows after the user's message and so many results that an outsider may have written."""
    from runtime.messages import UserText
    from runtime.policies import recalling

    known = recalling.begin([UserText(USER)], own="cus_1", is_tainted=False)
    for number in range(reads):
        known.read(2 * number + 1, labels, {"query": "x"}, _result(number))
    return known


def _caught_up(known: Any) -> Any:
    known.catch_up()
    return known


def _result(number: int) -> dict[str, Any]:
    """About 1 kB in which there is something of every kind to find."""
    return {
        "id": f"M-{number}",
        "from": f"person{number}@example.com",
        "on": "2026-11-28",
        "text": f"See https://example.com/{number}, invoice {number} of 1,249.00 EUR. {'The parcel was late. ' * 40}",
    }


def _reading() -> Any:
    from releases.bundles import ToolManifest

    return ToolManifest(name="tool_0", effect="read", retry="read")


def _judge() -> Callable[[Any], Any]:
    from runtime import toolbox, tools
    from runtime.policies import gating, recalling
    from runtime.policies.budgeting import Spent

    classes: dict[str, Any] = {"order_id": "target", "amount": "amount", "note": "label"}

    @tools.tool(effect="write", retry="idempotent", arguments=classes)
    def benchmark_refund(ctx: Any, order_id: str, amount: Decimal, note: str) -> None:
        """Refund part of an order."""

    executable = tools.known()["benchmark_refund"]
    bundle, labels = _bundle(executable.manifest), recalling.labels(executable.manifest)
    raw = {"order_id": "10482", "amount": "42.00", "note": "The parcel arrived broken. " * 8}
    earlier = {toolbox.fingerprint("benchmark_refund", {**raw, "order_id": str(n)}): 1 for n in range(STEPS // 2)}
    spent = Spent(STEPS, STEPS // 2, 60_000, Decimal("0.4"), timedelta(seconds=30))

    def judge(known: Any) -> Any:
        prepared = toolbox.prepare(executable, raw)
        facts = gating.Facts(
            tool="benchmark_refund",
            bundle=bundle,
            agent="shop-support",
            switches=(),
            scopes=frozenset({"*"}),
            arguments=prepared.arguments,
            schema_errors=prepared.errors,
            has_secret=prepared.has_secret,
            spent=spent,
            budgets=bundle.budgets,
            repeats=earlier.get(toolbox.fingerprint("benchmark_refund", prepared.arguments), 0),
            approvals=1,
            known=known,
            labels=labels,
        )
        return gating.decide_call(facts)

    return judge


def _bundle(manifest: Any) -> Any:
    from releases import bundles

    others = [{"name": f"tool_{n}", "effect": "write", "retry": "idempotent"} for n in range(TOOLS - 1)]
    conditions = [{"argument": "amount", "op": "gt", "value": 100}, {"argument": "order_id", "op": "present"}]
    rules = [
        {"id": f"rule-{n}", "tool": "benchmark_refund", "when": conditions, "then": "ask", "reason": "Above the limit."}
        for n in range(TOOLS)
    ]
    return bundles.Bundle.model_validate(
        {
            "version": "1",
            "model": {"provider": "scripted", "name": "none"},
            "instructions": "Help.",
            "tools": [manifest, *others],
            "rules": rules,
            "budgets": {"max_steps": 1000, "max_tool_calls": 500, "max_tokens": 10_000_000, "max_cost_usd": "100"},
        }
    )


if __name__ == "__main__":
    main()
