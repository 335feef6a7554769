"""G12: how long it takes to judge one proposed call when the run has 50 steps behind it.

    python -m tests.benchmarks.policy_latency          DECISIONS=20000 STEPS=50

Measured is everything between the model's proposal and the verdict that is not a query: the arguments are validated
and looked through for secrets, the call is compared with those before it, and the gate judges it. A release with 20
tools and 20 rules; nothing refuses, so every question is asked.
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
TOOLS = 20


def main() -> None:
    with ground.standing():
        ground.emit(benchmark="policy_latency", decisions=DECISIONS, steps=STEPS, tools=TOOLS, rules=TOOLS, **_timed())


def _timed() -> dict[str, Any]:
    from runtime.policies import gating

    judge = _judge()
    assert isinstance(judge(), gating.Allow), judge()
    took = []
    for _ in range(DECISIONS):
        began = time.perf_counter()
        judge()
        took.append(time.perf_counter() - began)
    return {"p50_ms": ground.ms(took, 0.5), "p99_ms": ground.ms(took, 0.99), "max_ms": ground.ms(took, 1.0)}


def _judge() -> Callable[[], Any]:
    from console import redact
    from runtime import toolbox, tools
    from runtime.policies import gating
    from runtime.policies.budgeting import Spent

    @tools.tool(effect="write", retry="idempotent")
    def benchmark_refund(ctx: tools.ToolContext, order_id: str, amount: Decimal, note: str) -> None:
        """Refund part of an order."""

    executable = tools.known()["benchmark_refund"]
    bundle = _bundle(executable.manifest)
    raw = {"order_id": "10482", "amount": "42.00", "note": "The parcel arrived broken. " * 8}
    earlier = {toolbox.fingerprint("benchmark_refund", {**raw, "order_id": str(n)}): 1 for n in range(STEPS // 2)}
    spent = Spent(STEPS, STEPS // 2, 60_000, Decimal("0.4"), timedelta(seconds=30))

    def judge() -> Any:
        prepared = toolbox.prepare(executable, raw)
        facts = gating.Facts(
            tool="benchmark_refund",
            bundle=bundle,
            agent="shop-support",
            switches=(),
            scopes=frozenset({"*"}),
            arguments=prepared.arguments,
            schema_errors=prepared.errors,
            has_secret=redact.has_secret(prepared.arguments),
            spent=spent,
            budgets=bundle.budgets,
            repeats=earlier.get(toolbox.fingerprint("benchmark_refund", prepared.arguments), 0),
            approvals=1,
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
