"""What every new run begins with, whether it is asked for or takes up another one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.utils.timezone import now

from console import problems
from console.actors import Actor
from releases.bundles import Budgets
from releases.models import Release
from runtime import deadlines, ledgers
from runtime.models import Run
from runtime.policies import daily
from runtime.states import Hold

WAIT_REASONS = {Hold.TIMER: "timer", Hold.THREAD: "thread", Hold.SLOT: "rate_limit"}


def once(by: Actor, key: str, digest: str, begin: Callable[[], Run]) -> tuple[Run, bool]:
    """Begin a run in one transaction, unless an earlier request of this actor with the same key has begun one.

    Returns the run and whether it is new. Of two requests that meet, one begins it and both get it. Without a key every
    request is a new one; `digest` tells whether the earlier one was the same.

    Raises:
        problems.Conflict: the key was used for another request.
    """
    earlier = _first_of(by, key, digest)
    if earlier:
        return earlier, False
    try:
        with transaction.atomic():
            return begin(), True
    except IntegrityError:
        earlier = _first_of(by, key, digest)
        if earlier is None:
            raise
        return earlier, False


def columns(
    by: Actor, key: str, digest: str, *, limits: Budgets, slots: Mapping[str, int], hold: Hold | None
) -> dict[str, Any]:
    """What a new run's row says of who asked for it, what it may use, and what it waits for."""
    created_at = now()
    return {
        "started_by_kind": by.kind,
        "started_by_id": by.id,
        "started_by_label": by.label,
        "idempotency_key": key,
        "request_digest": digest,
        "budgets": limits.model_dump(mode="json"),
        "created_at": created_at,
        "deadline_at": deadlines.at(limits, created_at),
        "slots": slots,
        "held_for": hold or "",
        "wait_reason": WAIT_REASONS[hold] if hold else "",
    }


def guard_day(release: Release, principal_id: str) -> None:
    """Count a new run against the day's budgets of its agent and principal, in the caller's transaction.

    Raises:
        problems.TooMany: the day has no room for it.
    """
    refused = ledgers.count_run(release.bundle.daily, agent_id=release.agent_id, principal_id=principal_id)
    if refused:
        wait = daily.until_tomorrow(now()).total_seconds()
        raise problems.TooMany(
            f"{refused.reason} Send it again tomorrow (UTC), or make a release with a higher daily.{refused.budget}.",
            retry_after=max(1, round(wait)),
        )


def _first_of(by: Actor, key: str, digest: str) -> Run | None:
    """The run that this actor's earlier request with the same key has started.

    Raises:
        problems.Conflict: that request was another one.
    """
    if not key:
        return None
    run = Run.objects.filter(started_by_id=by.id, idempotency_key=key).select_related("agent", "release").first()
    if run is not None and run.request_digest != digest:
        raise problems.Conflict(
            f"The idempotency key {key[:60]!r} was used for another request ({run.public_id}). "
            "Send the same request again, or use a new key."
        )
    return run
