"""How often each rule of a release held, and what it came to: counted when its call is written, shown for a week."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db.models import Sum
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from releases.models import Release
from runtime.models import RuleCount
from runtime.policies.ruling import Applied

log = logging.getLogger(__name__)

DAYS = 7
COLUMNS = {"allow": "allowed", "ask": "asked", "refuse": "refused"}
# A count may be lost with the machine: nobody waits for the disk for it.
COUNT_SQL = """
WITH quick AS (SELECT set_config('synchronous_commit', 'off', true))
INSERT INTO runtime_rulecount AS c (release_id, rule, day, allowed, asked, refused, changed, failed)
SELECT %(release)s, r.rule, (statement_timestamp() AT TIME ZONE 'UTC')::date, r.allowed, r.asked, r.refused, r.changed,
    r.failed
FROM quick, jsonb_to_recordset(%(rows)s) AS r (rule text, allowed int, asked int, refused int, changed int, failed int)
ORDER BY r.rule
ON CONFLICT (release_id, rule, day) DO UPDATE SET allowed = c.allowed + EXCLUDED.allowed,
    asked = c.asked + EXCLUDED.asked, refused = c.refused + EXCLUDED.refused, changed = c.changed + EXCLUDED.changed,
    failed = c.failed + EXCLUDED.failed
"""


async def count(pool: AsyncConnectionPool[Any], release_id: UUID, applied: Sequence[Applied]) -> None:
    """Count the rules that held for one call. A count that cannot be made stops no call."""
    if not applied:
        return
    try:
        async with pool.connection() as held:
            await held.execute(COUNT_SQL, {"release": release_id, "rows": Jsonb([_row(one) for one in applied])})
    except (psycopg.Error, PoolTimeout) as away:
        log.warning("Rules of a call were not counted: %s", away)


def _row(one: Applied) -> dict[str, Any]:
    return {
        "rule": one.id,
        **{column: int(one.verdict == verdict) for verdict, column in COLUMNS.items()},
        "changed": int(one.changes),
        "failed": int(bool(one.error)),
    }


@dataclass(frozen=True)
class Figure:
    """What a rule has come to in the last days."""

    allowed: int = 0
    asked: int = 0
    refused: int = 0
    changed: int = 0
    failed: int = 0

    @property
    def matched(self) -> int:
        return self.allowed + self.asked + self.refused


def figures(release: Release, today: date) -> dict[str, Figure]:
    """By rule, over the last seven days with today; a rule that never held is not in it."""
    since = today - timedelta(days=DAYS - 1)
    names = (*COLUMNS.values(), "changed", "failed")
    counts = RuleCount.objects.filter(release=release, day__gte=since).order_by("rule").values_list("rule")
    rows = counts.annotate(*(Sum(name) for name in names))
    return {rule: Figure(**dict(zip(names, sums, strict=True))) for rule, *sums in rows}
