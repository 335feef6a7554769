"""One attempt at a call of a model or a tool: leave from its circuit breaker before, and what follows a failure."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from django.db import InterfaceError, OperationalError

from releases.bundles import ToolManifest
from runtime import circuits, toolbox
from runtime.circuits import Open, Ticket
from runtime.policies import retrying
from runtime.policies.commands import CallModel
from runtime.policies.folding import Entry
from runtime.policies.gating import Refuse
from runtime.policies.retrying import ErrorClass, Policy, RetryIn
from runtime.policies.waiting import Reason
from runtime.providers.base import ProviderError
from runtime.states import BreakerKind
from runtime.turns import Shell, Turn

LONGEST_SLEEP_S = 8.0  # a longer wait gives the run back and wakes it later; a shutdown waits for it no longer
PAUSE_S = 0.5  # between two looks while somebody else's probe is under way
HELD_S = 60.0  # before looking again at what a person holds open
MOST_SPREAD_S = 5.0  # over which those who wait for the same breaker come back
TOOL_RULE = "breaker:tool"
MODEL_RULE = "breaker:model"
# What HTTP packages call their failures; none of them is imported here.
LATE = frozenset({"TimeoutException", "Timeout", "ReadTimeout", "ConnectTimeout"})
AWAY = frozenset({"TransportError", "NetworkError", "ConnectionError", "ClientConnectionError"})


@dataclass(frozen=True)
class Failure:
    error_class: str
    error: str
    retry_after_s: float | None = None


# Models


def model_policy(turn: Turn, *, fallback: bool) -> Policy:
    """How the model (or the fallback) of this run is retried."""
    bundle = turn.bundle
    spec = bundle.fallback_model if fallback and bundle.fallback_model else bundle.model
    return retrying.for_model(
        spec.retries,
        most=turn.budgets.max_model_attempts,
        has_fallback=bundle.fallback_model is not None and not fallback,
    )


async def for_model(engine: Shell, turn: Turn, command: CallModel) -> tuple[CallModel, Ticket | Open | None]:
    """Ask the model's breaker; where it is open, the fallback's. Says which of them is asked.

    While somebody's probe is under way, its outcome is waited for: it costs no attempt.
    """
    if not circuits.watches(turn.bundle.model):
        return command, None
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LONGEST_SLEEP_S
    while True:
        leave = await _ask_model(engine, turn, fallback=command.fallback)
        if isinstance(leave, Ticket):
            return command, leave
        if turn.bundle.fallback_model is not None and not command.fallback:
            other = await _ask_model(engine, turn, fallback=True)
            if isinstance(other, Ticket):
                return replace(command, attempt=1, fallback=True), other
        is_asked_off = engine.is_draining() or turn.cancel_requested or turn.pause_requested
        if not leave.is_probing or loop.time() > deadline or is_asked_off:
            return command, leave
        await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.0))


async def _ask_model(engine: Shell, turn: Turn, *, fallback: bool) -> Ticket | Open:
    bundle = turn.bundle
    spec = bundle.fallback_model if fallback and bundle.fallback_model else bundle.model
    return await engine.circuits.before(BreakerKind.MODEL, circuits.model_name(spec), limit_s=spec.timeout_s)


def out_of_order(found: Open) -> ProviderError:
    """The failure of an attempt that was not made. Those who wait for the same breaker come back one by one."""
    left = HELD_S if found.until is None else max(0.0, (found.until - datetime.now(UTC)).total_seconds())
    spread = random.uniform(0.1, min(MOST_SPREAD_S, 0.2 + left / 4))
    return ProviderError("unavailable", found.sentence, retry=True, retry_after_s=left + spread)


def model_wait_s(turn: Turn, command: CallModel, failure: ProviderError) -> float | None:
    """Seconds until the same model is asked again; None when it is not."""
    decided = retrying.decide_retry(
        retrying.classify(failure.code, may_pass=failure.retry),
        command.attempt,
        model_policy(turn, fallback=command.fallback),
        failure.retry_after_s,
        jitter=random.random(),
    )
    return decided.seconds if isinstance(decided, RetryIn) else None


def waits_for(failed: str) -> Reason:
    """What a run waits for whose next attempt comes later."""
    return Reason.RATE_LIMIT if failed == ErrorClass.RATE_LIMITED else Reason.TIMER


# Tools


async def for_tool(engine: Shell, turn: Turn, manifest: ToolManifest) -> Ticket | Open | None:
    """Ask the tool's breaker. None where a recording answers, which says nothing about the tool."""
    if toolbox.is_recorded(turn.bundle):
        return None
    return await engine.circuits.before(BreakerKind.TOOL, manifest.name, limit_s=manifest.timeout_s)


def refusal(found: Open) -> Refuse:
    """What the model is told of a tool that is out of order; the run goes on."""
    return Refuse(TOOL_RULE, f"{found.sentence} Try it later, do without it, or hand off to a person.")


def tool_wait_s(manifest: ToolManifest, entry: Entry, failure: Failure) -> float | None:
    """Seconds until the call is made again with the same key; None when the model is told of the failure."""
    decided = retrying.decide_retry(
        failure.error_class,
        entry.attempt,
        retrying.for_tool(manifest),
        failure.retry_after_s,
        jitter=random.random(),
    )
    return decided.seconds if isinstance(decided, RetryIn) else None


def class_of(broken: BaseException) -> ErrorClass:
    """The class of an exception that a tool let through."""
    names = {kind.__name__ for kind in type(broken).__mro__}
    if isinstance(broken, TimeoutError) or names & LATE:
        return ErrorClass.TIMEOUT
    if isinstance(broken, ConnectionError | OperationalError | InterfaceError) or names & AWAY:
        return ErrorClass.UNAVAILABLE
    return ErrorClass.EXCEPTION
