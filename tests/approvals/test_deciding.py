"""Who may answer a request, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from approvals.policies import deciding
from approvals.states import ApprovalStatus

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
QUESTION = deciding.Question(
    status=ApprovalStatus.PENDING,
    due_at=NOON + timedelta(minutes=5),
    requested_by="ines",
    requested_for="customer",
    four_eyes=False,
    version=3,
    claimed_by=None,
    claimed_until=None,
)


@pytest.mark.parametrize(
    ("changes", "by", "version"),
    [
        ({}, "mara", 3),
        ({}, "mara", None),
        ({}, "ines", 3),
        ({"four_eyes": True}, "mara", 3),
        ({"claimed_by": "mara", "claimed_until": NOON + timedelta(minutes=1)}, "mara", 3),
        ({"claimed_by": "lena", "claimed_until": NOON}, "mara", 3),
        ({"due_at": NOON + timedelta(microseconds=1)}, "mara", 3),
    ],
)
def test_may_decide(changes, by, version):
    answer = deciding.decide_right(replace(QUESTION, **changes), by=by, version=version, now=NOON)

    assert answer == deciding.MayDecide()


@pytest.mark.parametrize(
    ("changes", "by", "version", "stale", "word"),
    [
        ({"status": ApprovalStatus.FROZEN}, "mara", 3, True, "kill switch"),
        ({"status": ApprovalStatus.APPROVED}, "mara", 3, True, "already approved"),
        ({"status": ApprovalStatus.REJECTED}, "mara", 3, True, "already rejected"),
        ({"status": ApprovalStatus.EXPIRED}, "mara", 3, True, "already expired"),
        ({"status": ApprovalStatus.VOID}, "mara", 3, True, "already void"),
        ({"due_at": NOON}, "mara", 3, True, "has expired"),
        ({}, "mara", 2, True, "changed since you opened it"),
        ({}, "mara", 4, True, "changed since you opened it"),
        ({"requested_for": "mara"}, "mara", 3, False, "made for themselves"),
        ({"four_eyes": True}, "ines", 3, False, "second person"),
        ({"claimed_by": "lena", "claimed_until": NOON + timedelta(seconds=1)}, "mara", 3, True, "colleague"),
    ],
)
def test_may_not_decide_and_says_why(changes, by, version, stale, word):
    answer = deciding.decide_right(replace(QUESTION, **changes), by=by, version=version, now=NOON)

    assert isinstance(answer, deciding.MayNot)
    assert answer.stale is stale
    assert word in answer.reason


def test_a_frozen_request_stays_undecidable_even_for_whoever_holds_it():
    held = replace(QUESTION, status=ApprovalStatus.FROZEN, claimed_by="mara", claimed_until=NOON + timedelta(minutes=1))

    assert isinstance(deciding.decide_right(held, by="mara", version=3, now=NOON), deciding.MayNot)
