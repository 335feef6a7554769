from __future__ import annotations

import pytest

from runtime.policies import replaying
from runtime.policies.replaying import Diverged, Ended, Speaks, Told
from runtime.states import RunStatus


@pytest.mark.parametrize(
    ("is_write", "is_error", "by_person", "recorded_error", "goes_on"),
    [
        (True, False, False, False, True),  # made, as recorded
        (False, True, False, True, True),  # failed here and there
        (True, True, False, True, True),  # a write that happened nowhere
        (True, True, True, True, False),  # a person said no: the recorded words do not know that
        (True, True, True, False, False),
        (True, True, False, False, False),  # refused here, made there
        (False, True, False, False, False),  # the answer would report a result that nobody has
        (True, True, False, None, False),  # no result: the answer may claim that it happened
        (False, True, False, None, True),  # no result: the recorded model did not see one either
    ],
)
def test_a_recording_speaks_only_about_what_happened(is_write, is_error, by_person, recorded_error, goes_on):
    call = Told("extend_loan", is_write, is_error, by_person, recorded_error)

    verdict = replaying.decide_next([Told("find_book", False, False, False, False), call])

    assert isinstance(verdict, Speaks if goes_on else Diverged)


@pytest.mark.parametrize(
    ("status", "cause", "diverged", "goes_on"),
    [
        (RunStatus.SUCCEEDED, "answered", False, True),
        (RunStatus.ESCALATED, "tool:to_librarian", False, True),
        (RunStatus.ESCALATED, "tool:to_librarian", True, False),
        (RunStatus.FAILED, "recording_ended", False, True),
        (RunStatus.FAILED, "recording_empty", False, True),
        (RunStatus.FAILED, "loop-guard", False, False),
        (RunStatus.FAILED, "budget:max_steps", False, False),
        (RunStatus.REFUSED, "approval_rejected", True, False),
        (RunStatus.EXPIRED, "approval_expired", False, False),
        (RunStatus.CANCELLED, "cancelled", False, False),
        (RunStatus.WAITING, "", False, False),
        (RunStatus.QUEUED, "", False, False),
    ],
)
def test_the_next_turn_follows_only_a_turn_that_went_as_recorded(status, cause, diverged, goes_on):
    verdict = replaying.decide_next_turn(Ended(status, cause, diverged))

    assert isinstance(verdict, Speaks if goes_on else Diverged)
