"""Whether and when a failed call is made again: by the class of its error, with growing waits and full jitter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from releases.bundles import Retries, ToolManifest


class ErrorClass(StrEnum):
    """What a failed call says about the next attempt. Codes that are none of these count as PERMANENT."""

    RATE_LIMITED = "rate_limited"  # it works, and asks to slow down
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"  # it cannot be reached, or says that it is broken
    BAD_REPLY = "bad_reply"  # it answered something that cannot be used
    EXCEPTION = "exception"  # a tool broke in a way that says nothing
    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    REFUSED = "refused"  # a tool says no: asking again brings the same answer
    PERMANENT = "permanent"


MAY_PASS = frozenset(
    {
        ErrorClass.RATE_LIMITED,
        ErrorClass.TIMEOUT,
        ErrorClass.UNAVAILABLE,
        ErrorClass.BAD_REPLY,
        ErrorClass.EXCEPTION,
    }
)
# How much longer than the policy's base the first wait of a class is: who asks us to slow down gets more room.
WEIGHT = {ErrorClass.RATE_LIMITED: 4.0}
LONGEST_RETRY_AFTER_S = 3600.0
REPEATABLE = frozenset({"read", "idempotent", "transactional"})
_CODES = {"unauthorized": ErrorClass.AUTH, "quota_exhausted": ErrorClass.AUTH, "too_long": ErrorClass.BAD_REQUEST}


@dataclass(frozen=True)
class Policy:
    """`attempts` counts the first call. `on` names the classes of errors after which it is made again."""

    attempts: int
    base_s: float = 0.5
    longest_s: float = 60.0
    on: frozenset[str] = MAY_PASS
    has_fallback: bool = False


@dataclass(frozen=True)
class RetryIn:
    seconds: float
    attempt: int  # the number of the attempt that follows


@dataclass(frozen=True)
class GiveUp:
    reason: str


@dataclass(frozen=True)
class Fallback:
    """Somebody else is asked instead, from the first attempt on."""


NEVER = Policy(attempts=1, on=frozenset())


def decide_retry(
    error_class: str, attempt: int, policy: Policy, retry_after_s: float | None = None, *, jitter: float
) -> RetryIn | GiveUp | Fallback:
    """Say what follows the failed attempt number `attempt`.

    The wait is full jitter: a random part (`jitter`, 0 to 1) of a ceiling that doubles with each attempt. What the
    other side asked for wins over it, up to an hour.
    """
    if error_class in policy.on and attempt < policy.attempts:
        return RetryIn(wait_s(error_class, attempt, policy, retry_after_s, jitter=jitter), attempt + 1)
    if policy.has_fallback:
        return Fallback()
    if error_class not in policy.on:
        return GiveUp(f"An error of class {error_class} is not retried.")
    return GiveUp(f"{attempt} of {policy.attempts} attempts have failed.")


def wait_s(
    error_class: str, attempt: int, policy: Policy, retry_after_s: float | None = None, *, jitter: float
) -> float:
    """Seconds to wait after the failed attempt number `attempt`."""
    if retry_after_s is not None and not math.isnan(retry_after_s):
        return min(max(retry_after_s, 0.0), LONGEST_RETRY_AFTER_S)
    weight = WEIGHT.get(ErrorClass(error_class), 1.0) if error_class in MAY_PASS else 1.0
    ceiling = min(policy.longest_s, policy.base_s * weight * 2.0 ** min(attempt - 1, 30))
    return ceiling * min(max(jitter, 0.0), 1.0)


def classify(code: str, *, may_pass: bool) -> ErrorClass:
    """The class of a model provider's error code. `may_pass`: the provider says that trying again can help."""
    known = _CODES.get(code) or (ErrorClass(code) if code in set(ErrorClass) else None)
    if not may_pass:
        return known if known is not None and known not in MAY_PASS else ErrorClass.PERMANENT
    return known if known in MAY_PASS and known is not None else ErrorClass.UNAVAILABLE


def for_model(retries: Retries | None, *, most: int, has_fallback: bool) -> Policy:
    """The policy of a model. `most` is the run's own limit of attempts; a release can only stay below it."""
    if retries is None:
        return Policy(attempts=most, has_fallback=has_fallback)
    return Policy(
        attempts=min(retries.attempts, most),
        base_s=retries.base_s,
        longest_s=retries.longest_s,
        on=frozenset(retries.on),
        has_fallback=has_fallback,
    )


def for_tool(manifest: ToolManifest) -> Policy:
    """The policy of a tool: without a declared one it is called once; an unsafe one always is."""
    if manifest.retries is None or manifest.retry not in REPEATABLE:
        return NEVER
    retries = manifest.retries
    return Policy(
        attempts=retries.attempts, base_s=retries.base_s, longest_s=retries.longest_s, on=frozenset(retries.on)
    )
