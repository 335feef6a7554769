"""Why nobody works on a run."""

from __future__ import annotations

import pytest

from runtime.policies.waiting import Facts, Reason, decide_reason
from runtime.states import FINAL, Hold, RunStatus

QUEUED = RunStatus.QUEUED


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (Facts(QUEUED), Reason.WORKER),
        (Facts(QUEUED, said="rate_limit"), Reason.WORKER),  # that was before its time came
        (Facts(QUEUED, is_due=False), Reason.TIMER),
        (Facts(QUEUED, said="budget", is_due=False), Reason.BUDGET),
        (Facts(QUEUED, said="rate_limit", is_due=False), Reason.RATE_LIMIT),
        (Facts(QUEUED, said="breaker", is_due=False), Reason.BREAKER),
        (Facts(QUEUED, said="nonsense", is_due=False), Reason.TIMER),
        (Facts(QUEUED, hold=Hold.TIMER), Reason.TIMER),
        (Facts(QUEUED, hold=Hold.THREAD, is_due=False), Reason.THREAD),
        (Facts(QUEUED, hold=Hold.SLOT), Reason.RATE_LIMIT),
        (Facts(QUEUED, said="budget", hold=Hold.SLOT), Reason.BUDGET),
        (Facts(QUEUED, has_begun=False, is_stopped=True), Reason.SWITCH),
        (Facts(QUEUED, has_begun=True, is_stopped=True), Reason.WORKER),  # a switch over new runs lets old ones go on
        (Facts(RunStatus.WAITING), Reason.PERSON),
        (Facts(RunStatus.WAITING, said="timer"), Reason.PERSON),
        (Facts(RunStatus.PAUSED, said="person"), Reason.PAUSED),
        (Facts(RunStatus.RUNNING, said="rate_limit", is_stopped=True), None),
    ],
)
def test_a_run_waits_for_the_first_thing_that_stands_in_its_way(facts, reason):
    assert decide_reason(facts) == reason


@pytest.mark.parametrize("status", sorted(FINAL))
def test_what_has_ended_waits_for_nothing(status):
    assert decide_reason(Facts(status, said="worker")) is None
