"""What becomes of a call whose result nobody knows: never twice, and never a guess."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.policies import recovering
from runtime.policies.recovering import Answer, Facts, Fate, Holder, Park, Repeat, Settle, Verify, Wait

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
PAST, FUTURE = NOW - timedelta(minutes=5), NOW + timedelta(minutes=5)
GONE, GONE_JUST_NOW = Holder(Fate.GONE, PAST), Holder(Fate.GONE, FUTURE)
ELSEWHERE, ELSEWHERE_STILL = Holder(Fate.UNSEEN, PAST), Holder(Fate.UNSEEN, FUTURE)
FROZEN = Holder(Fate.ALIVE, PAST)


def facts(*holders: Holder, retry="unsafe", has_verify=True) -> Facts:
    return Facts(retry=retry, has_verify=has_verify, holders=holders, now=NOW)


@pytest.mark.parametrize("retry", ["read", "idempotent", "transactional"])
def test_what_may_be_repeated_by_its_contract_is_repeated(retry):
    assert recovering.decide_recovery(facts(FROZEN, retry=retry, has_verify=False)) == Repeat()


def test_an_unsafe_call_without_a_hook_goes_to_a_person_even_when_its_process_is_gone():
    assert isinstance(recovering.decide_recovery(facts(GONE, has_verify=False)), Park)


@pytest.mark.parametrize(
    ("holders", "safe_at"),
    [
        ([GONE], NOW),
        ([GONE_JUST_NOW], NOW),  # gone is gone, whatever its lease said
        ([ELSEWHERE], PAST + recovering.MARGIN),
        ([ELSEWHERE_STILL], FUTURE + recovering.MARGIN),
        ([GONE, ELSEWHERE_STILL], FUTURE + recovering.MARGIN),
        ([FROZEN], None),  # it is there and may go on: no time is long enough
        ([GONE, FROZEN], None),
        ([], None),  # nobody knows who made it
    ],
)
def test_from_when_a_no_is_certain(holders, safe_at):
    assert recovering.decide_recovery(facts(*holders)) == Verify(safe_at)


@pytest.mark.parametrize(
    ("answer", "safe_at", "expected"),
    [
        (Answer.HAPPENED, None, Settle()),
        (Answer.HAPPENED, FUTURE, Settle()),
        (Answer.HAPPENED, PAST, Settle()),
        (Answer.DID_NOT, PAST, Repeat()),
        (Answer.DID_NOT, NOW, Repeat()),
        (Answer.DID_NOT, FUTURE, Wait(FUTURE)),
        (Answer.UNKNOWN, FUTURE, Wait(FUTURE)),
        (Answer.UNKNOWN, PAST, Park),
        (Answer.UNKNOWN, None, Park),
        (Answer.DID_NOT, None, Park),
    ],
)
def test_what_follows_from_the_answer(answer, safe_at, expected):
    found = recovering.decide_finding(answer, Verify(safe_at), now=NOW)

    assert found == expected if expected is not Park else isinstance(found, Park)


@given(
    st.sampled_from(["read", "idempotent", "transactional", "unsafe"]),
    st.booleans(),
    st.lists(
        st.builds(Holder, st.sampled_from(Fate), st.integers(-60, 60).map(lambda s: NOW + timedelta(seconds=s))),
        max_size=4,
    ),
    st.sampled_from(Answer),
)
def test_an_unsafe_call_is_repeated_only_after_a_no_that_stays_true(retry, has_verify, holders, answer):
    known = facts(*holders, retry=retry, has_verify=has_verify)
    step = recovering.decide_recovery(known)
    if isinstance(step, Verify):
        step = recovering.decide_finding(answer, step, now=NOW)

    if isinstance(step, Repeat) and retry == "unsafe":
        assert has_verify and answer == Answer.DID_NOT and holders
        assert all(h.fate == Fate.GONE or (h.fate == Fate.UNSEEN and h.over_at < NOW) for h in holders)
