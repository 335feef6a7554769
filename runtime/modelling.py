"""One model call: ask the provider, stream its text into the live trace, commit the reply or the failed attempt."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from console import ids, redact
from releases.bundles import ModelSpec
from runtime import attempts, drafts, flights, providers, spending, texts
from runtime.circuits import Open, Outcome
from runtime.flights import Interrupted
from runtime.journal import NewStep, Write
from runtime.messages import Call, Reply, Usage
from runtime.policies import budgeting, folding, retrying
from runtime.policies.commands import CallModel
from runtime.policies.waiting import Reason
from runtime.providers import prices
from runtime.providers.base import ModelRequest, ProviderError
from runtime.spending import Held
from runtime.states import StepKind, StepStatus
from runtime.turns import Shell, Turn


def spec_for(turn: Turn, command: CallModel) -> ModelSpec:
    return turn.bundle.fallback_model if command.fallback and turn.bundle.fallback_model else turn.bundle.model


async def call(
    engine: Shell, turn: Turn, command: CallModel, held: Held, outcome: Outcome
) -> tuple[Write, ProviderError | None]:
    """Make one attempt. Returns what to write of it, and the failure when there was one.

    Raises:
        Interrupted: the run is to stop or to rest, and nothing was asked yet.
    """
    spec = spec_for(turn, command)
    request = _request(turn, spec)
    started = datetime.now(UTC)
    try:
        with flights.under_way(turn, on_pause=True):
            answer = await _ask(engine, turn, request)
        reply, note = spending.charged(spec, answer, held)
    except Interrupted as stopped:
        if not stopped.is_made:
            raise
        return Write(steps=[_failed(turn, spec, command, started, _broken_off(spec, held), held)]), None
    except ProviderError as failure:
        spending.charge_failure(spec, failure, held)
        outcome.say(retrying.classify(failure.code, may_pass=failure.retry), str(failure))
        return Write(steps=[_failed(turn, spec, command, started, failure, held)]), failure
    outcome.say()
    reply, found = await texts.look_first(turn, reply)
    return Write(steps=[_answered(turn, spec, command, started, reply, held, note), *found], model_calls=1), None


def not_asked(turn: Turn, command: CallModel, found: Open) -> Write:
    """The attempt that an open breaker has refused. It counts as one, so that a run does not wait for ever."""
    failure, moment = attempts.out_of_order(found), datetime.now(UTC)
    held = Held(ids.new(), failure.usage)
    step = _failed(turn, spec_for(turn, command), command, moment, failure, held)
    turn.waits_for = Reason.BREAKER
    return Write(steps=[replace(step, rule=attempts.MODEL_RULE)])


def _broken_off(spec: ModelSpec, held: Held) -> ProviderError:
    """A call that somebody let go of has been read by the vendor: its input is charged, as we estimate it."""
    usage = Usage(input_tokens=held.usage.input_tokens, is_estimated=True)
    cost = replace(prices.cost(spec, usage, ""), basis="estimated")
    why = "Broken off: the run was stopped or paused. Its input is charged by estimate."
    return ProviderError(folding.BROKEN_OFF, why, retry=True, usage=usage, cost=cost)


async def _ask(engine: Shell, turn: Turn, request: ModelRequest) -> Reply:
    """The provider's reply within its time-out and what is left of the run's working time and of its deadline.

    The provider keeps its own time-out, and then knows what a reply that broke off has cost; ours is the backstop.
    """
    left = budgeting.left(turn.budgets, turn.spent()).total_seconds()
    limit = max(0.1, min(request.model.timeout_s + 1, left))
    try:
        async with drafts.Writing(engine, turn, texts.watched(turn)) as draft, asyncio.timeout(limit):
            return await providers.get(request.model).reply(request, draft.add)
    except TimeoutError as late:
        raise ProviderError("timeout", f"No answer within {limit:g} s.", retry=True) from late


def _request(turn: Turn, spec: ModelSpec) -> ModelRequest:
    return ModelRequest(
        model=spec,
        instructions=turn.bundle.instructions,
        messages=turn.state.messages,
        tools=tuple(turn.bundle.tools),
        run_id=turn.run_id,
        thread_id=turn.row["thread_id"],
        turn=turn.turns_before,
        history=turn.history,
    )


def _answered(
    turn: Turn, spec: ModelSpec, command: CallModel, started: datetime, reply: Reply, held: Held, note: str
) -> NewStep:
    calls = [_proposed(call) for call in reply.calls]
    output: dict[str, Any] = {
        "text": reply.text[: drafts.LONGEST_TEXT],
        "calls": calls,
        "stop_reason": reply.stop_reason,
        "model": reply.model,
        "usage_estimated": reply.usage.is_estimated,
    }
    if reply.opaque:
        output["opaque"] = list(reply.opaque)
    if note:
        output["usage_note"] = note
    names = ", ".join(call.name for call in reply.calls)
    return NewStep(
        StepKind.MODEL,
        reply.model or spec.name,
        StepStatus.DONE,
        started,
        datetime.now(UTC),
        id=held.step_id,
        summary=f"proposes {names}" if names else " ".join(reply.text.split())[:120],
        attempt=command.attempt,
        input_tokens=reply.usage.input_tokens,
        cached_tokens=reply.usage.cached_tokens,
        output_tokens=reply.usage.output_tokens,
        cost_usd=reply.cost.usd,
        cost_basis="estimated" if reply.usage.is_estimated and reply.cost.basis == "exact" else reply.cost.basis,
        input=_input(turn, spec, command),
        output=output,
    )


def _proposed(call: Call) -> dict[str, Any]:
    """The call as it is kept, and whether a credential in its arguments will be masked.

    What JSON cannot hold, such as an infinite number, stays visible as text, which the schema then refuses.
    """
    kept: dict[str, Any] | str = call.arguments
    try:
        text = json.dumps(kept, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        kept = text = str(kept)[: drafts.LONGEST_TEXT]
    said: dict[str, Any] = {"id": call.id, "name": call.name, "arguments": kept}
    if redact.may_hold_secret(text) and redact.has_secret(kept):
        said["masked"] = True
    return said


def _failed(
    turn: Turn, spec: ModelSpec, command: CallModel, started: datetime, failure: ProviderError, held: Held
) -> NewStep:
    """The failed attempt, with how long the next one waits; the turn waits that long."""
    wait_s = attempts.model_wait_s(turn, command, failure)
    if wait_s is not None:
        turn.not_before = time.monotonic() + wait_s
        turn.why_not_before = str(failure)[:280]
        turn.waits_for = attempts.waits_for(retrying.classify(failure.code, may_pass=failure.retry))
    return NewStep(
        StepKind.MODEL,
        spec.name,
        StepStatus.FAILED,
        started,
        datetime.now(UTC),
        id=held.step_id,
        summary=str(failure)[:280],
        error=failure.code,
        attempt=command.attempt,
        input_tokens=failure.usage.input_tokens,
        cached_tokens=failure.usage.cached_tokens,
        output_tokens=failure.usage.output_tokens,
        cost_usd=failure.cost.usd,
        cost_basis=failure.cost.basis,
        input=_input(turn, spec, command),
        output={"retry": failure.retry, "retry_after_s": failure.retry_after_s, "message": str(failure)}
        | ({"waits_s": round(wait_s, 3)} if wait_s is not None else {})
        | ({"ends": failure.ends, "cause": failure.cause} if failure.ends else {}),
    )


def _input(turn: Turn, spec: ModelSpec, command: CallModel) -> dict[str, Any]:
    """What the call was asked with, as far as neither the release nor the steps before it say so already."""
    given: dict[str, Any] = {
        "provider": spec.provider,
        "model": spec.name,
        "earlier_messages": turn.state.sent or turn.history,
    }
    return {**given, "fallback": True} if command.fallback else given
