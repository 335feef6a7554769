"""Turning work away while there is too much of it, before it is accepted. What was accepted stays accepted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connection

from console import problems
from releases import switches
from releases.models import Agent
from runtime.policies import admitting

MOST_DELAYED = 100_000

# Every count ends at the limit and reads nothing but an index: run_claimable, run_on_hold. Those who
# wait for a slot of their limits count too: they are work that nobody gets to yet. What a switch holds back is not old
# because too much work comes in.
DEPTH_SQL = """
    SELECT
        (SELECT count(*) FROM (
            SELECT 1 FROM runtime_run WHERE status = 'queued' AND held_for = '' AND priority = %(priority)s
            LIMIT %(most)s) AS ready),
        (SELECT count(*) FROM (
            SELECT 1 FROM runtime_run WHERE status = 'queued' AND held_for <> '' AND held_for = 'slot'
            LIMIT %(most)s) AS held),
        (SELECT COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - min(queued_at)), 0) FROM runtime_run
         WHERE status = 'queued' AND held_for = '' AND priority = %(priority)s AND agent_id NOT IN (
            SELECT agent.id FROM releases_agent AS agent WHERE EXISTS ({paused})))
""".format(paused=switches.pausing_sql("agent.slug"))  # noqa: S608 (constants of ours only)
OF_AGENT_SQL = """
    SELECT
        (SELECT count(*) FROM (
            SELECT 1 FROM runtime_run WHERE status = 'queued' AND held_for = '' AND agent_id = %(agent)s
            LIMIT %(most)s) AS ready),
        (SELECT count(*) FROM (
            SELECT 1 FROM runtime_run WHERE status = 'queued' AND held_for <> '' AND held_for = 'slot'
                AND agent_id = %(agent)s LIMIT %(most)s) AS held)
"""
DELAYED_SQL = """
    SELECT count(*) FROM (SELECT 1 FROM runtime_run WHERE status = 'queued' AND held_for <> '' AND held_for = 'timer'
                          LIMIT %s) AS delayed
"""
ENDED_SQL = """
    SELECT count(*) FROM (SELECT 1 FROM runtime_run WHERE finished_at IS NOT NULL
                          AND finished_at > clock_timestamp() - interval '1 minute' LIMIT 10000) AS ended
"""


def guard(agent: Agent, priority: str) -> None:
    """Let a new run of the agent into the queue of this priority, or not.

    Requests at the same instant may pass a limit by their number.

    Raises:
        problems.TooMany: too many runs wait, or one has waited too long; `retry_after` follows the rate of ends.
    """
    limits = admitting.QueueLimits(
        waiting=settings.QUEUE_LIMIT,
        waiting_of_agent=settings.AGENT_QUEUE_LIMIT,
        oldest=timedelta(seconds=settings.QUEUE_OLDEST_SECONDS),
    )
    with connection.cursor() as cursor:
        depth = _depth(cursor, agent, priority, limits)
        why = admitting.decide_intake(depth, limits, agent=agent.name)
        if not why:
            return
        cursor.execute(ENDED_SQL)
        retry_after = admitting.retry_after_s(depth, limits, cursor.fetchone()[0])
    raise problems.TooMany(f"{why} Nothing was started. Try again in {retry_after} s.", retry_after=retry_after)


def _depth(cursor: Any, agent: Agent, priority: str, limits: admitting.QueueLimits) -> admitting.Depth:
    cursor.execute(DEPTH_SQL, {"priority": priority, "most": limits.waiting})
    ready, held, oldest_s = cursor.fetchone()
    of_agent = 0
    if limits.waiting_of_agent:
        cursor.execute(OF_AGENT_SQL, {"agent": agent.pk, "most": limits.waiting_of_agent})
        of_agent = sum(cursor.fetchone())
    return admitting.Depth(ready + held, of_agent, timedelta(seconds=float(oldest_s)))


def guard_delayed() -> None:
    """The same for a run whose time comes later: it waits for no worker yet, but it is kept.

    Raises:
        problems.TooMany: more runs wait for their time than the product is made for.
    """
    with connection.cursor() as cursor:
        cursor.execute(DELAYED_SQL, [MOST_DELAYED])
        if cursor.fetchone()[0] < MOST_DELAYED:
            return
    raise problems.TooMany(f"{MOST_DELAYED:,} runs wait for their time already. Cancel some first.", retry_after=300)
