"""What a turn holds of budgets for the call it is about to make, and what it is charged after.

The run's own limits are compared in memory: its one worker does one thing at a time. The day's are rows shared by
all workers (`ledgers`); a release without daily limits never asks them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

from console import ids
from releases.bundles import ModelSpec
from runtime import ledgers
from runtime.journal import NewStep
from runtime.messages import Cost, Reply, Usage
from runtime.policies import budgeting, daily, settling
from runtime.policies.budgeting import Exhausted, Reserve
from runtime.policies.daily import Amounts
from runtime.policies.settling import Implausible, Settled
from runtime.providers import prices
from runtime.providers.base import ProviderError
from runtime.turns import Shell, Turn


@dataclass(frozen=True)
class Held:
    """What is held for one call. `step_id` is the step it becomes; `is_daily`: the ledgers hold it as well."""

    step_id: UUID
    usage: Usage
    is_daily: bool = False


async def hold_model_call(
    engine: Shell, turn: Turn, spec: ModelSpec, *, characters: int | None = None
) -> Held | Exhausted:
    """Hold what the next model call may use, or say which budget has no room for it.

    `characters` is what the model reads; left out, it is asked to go on with the conversation.
    """
    if characters is None:
        characters = turn.bundle.characters + settling.characters(turn.state.messages)
    usage = settling.reserve(characters, spec.parameters)
    cost = prices.cost(spec, usage, "")
    reserve = Reserve(1, 0, usage.input_tokens, usage.output_tokens, cost.usd)
    room = budgeting.decide_budget(turn.budgets, turn.spent(), reserve)
    if isinstance(room, Exhausted):
        return room
    wanted = Amounts(usd=cost.usd, tokens=reserve.tokens, model_calls=1)
    return await _hold(engine, turn, Held(ids.new(), usage), wanted, daily.OF_A_MODEL_CALL)


async def hold_tool_call(engine: Shell, turn: Turn) -> Held | Exhausted:
    """Hold one tool call of the day; the gate has compared the run's own limits."""
    return await _hold(engine, turn, Held(ids.new(), Usage()), Amounts(tool_calls=1), daily.OF_A_TOOL_CALL)


async def settle(engine: Shell, held: Held, step: NewStep | None) -> None:
    """Replace what is held of the day by what the step has used; without a step the call was not made."""
    if not held.is_daily:
        return
    used = Amounts()
    if step is not None and step.status == "started":
        used = Amounts(tool_calls=1)
    elif step is not None:
        used = Amounts(usd=step.cost_usd, tokens=step.input_tokens + step.output_tokens, model_calls=1)
    await ledgers.settle(engine.pool, held.step_id, used)


def charged(spec: ModelSpec, reply: Reply, held: Held) -> tuple[Reply, str]:
    """The reply with what it is charged, and a note where that is not what its provider reports.

    Raises:
        ProviderError: the report is beyond any plausibility; nothing this provider says can be accounted for.
    """
    said = len(reply.text) + settling.of_calls(reply.calls)
    decided = settling.decide_settlement(reply.usage, reply.cost, held.usage, reply_characters=said)
    if isinstance(decided, Settled):
        return reply, ""
    cost = _estimated(prices.cost(spec, decided.usage, ""))
    if isinstance(decided, Implausible):
        raise ProviderError(
            "usage_implausible",
            f"{decided.reason} Its usage cannot be accounted for, so the reply is not used.",
            retry=False,
            usage=decided.usage,
            cost=cost,
        )
    return replace(reply, usage=decided.usage, cost=cost), f"{decided.reason} The reserve was charged instead."


def charge_failure(spec: ModelSpec, failure: ProviderError, held: Held) -> None:
    """Correct what a failed call says that it used, where that makes no sense."""
    decided = settling.decide_failure(failure.usage, failure.cost, held.usage)
    if not isinstance(decided, Settled):
        failure.usage, failure.cost = decided.usage, _estimated(prices.cost(spec, decided.usage, ""))


def _estimated(cost: Cost) -> Cost:
    return replace(cost, basis="estimated") if cost.basis == "exact" else cost


async def _hold(engine: Shell, turn: Turn, held: Held, wanted: Amounts, names: tuple[str, ...]) -> Held | Exhausted:
    limits = turn.bundle.daily
    if limits is None or not daily.is_limited(limits, names):
        return held
    holder = ledgers.Holder(
        turn.run_id, turn.lease.fence, held.step_id, turn.row["agent_id"], str(turn.row["principal_id"])
    )
    refused = await ledgers.reserve(engine.pool, holder, limits, wanted)
    return refused or replace(held, is_daily=True)
