from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from runtime.policies import admitting
from runtime.policies.admitting import Candidate, Depth, QueueLimits


def candidates(*limits):
    return [Candidate(UUID(int=number), one) for number, one in enumerate(limits)]


@pytest.mark.parametrize(
    ("limits", "occupied", "admitted"),
    [
        ([{"agent:a": 2}] * 3, {}, [0, 1]),
        ([{"agent:a": 2}] * 3, {"agent:a": 1}, [0]),
        ([{"agent:a": 2}] * 3, {"agent:a": 5}, []),
        ([{"agent:a": 1}, {"agent:a": 1}, {"agent:b": 1}], {"agent:a": 1}, [2]),
        ([{"agent:a": 3, "principal:a:ana": 1}] * 2 + [{"agent:a": 3, "principal:a:ben": 1}], {}, [0, 2]),
        ([{"agent:a": 9, "model:m/x": 2}] * 3, {}, [0, 1]),
    ],
)
def test_a_run_is_admitted_when_it_fits_all_its_limits(limits, occupied, admitted):
    found = admitting.decide_admissions(candidates(*limits), occupied, {})

    assert [one.int for one in found] == admitted


def test_the_limit_of_a_model_is_what_is_configured_now():
    waiting = candidates(*[{"model:m/x": 2}] * 4)

    assert len(admitting.decide_admissions(waiting, {}, {"m/x": 3})) == 3
    assert len(admitting.decide_admissions(waiting, {}, {"m/x": 1})) == 1


def test_a_run_without_limits_needs_no_slot():
    found = admitting.slot_keys(
        agent="a", principal_id="ana", model="m/x", of_release={"agent": None, "principal": None}, of_models={"m/y": 1}
    )

    assert found == {}


def test_the_keys_of_a_run_name_agent_principal_and_model():
    found = admitting.slot_keys(
        agent="a", principal_id="ana", model="m/x", of_release={"agent": 5, "principal": 1}, of_models={"m/x": 20}
    )

    assert found == {"agent:a": 5, "principal:a:ana": 1, "model:m/x": 20}


LIMITS = QueueLimits(waiting=100, waiting_of_agent=10, oldest=timedelta(minutes=5))


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (Depth(99, 9, timedelta(minutes=5)), ""),
        (Depth(100, 0, timedelta()), "100 runs or more"),
        (Depth(10, 10, timedelta()), "10 runs or more of Shop"),
        (Depth(1, 0, timedelta(minutes=5, seconds=1)), "has waited 301 s"),
    ],
)
def test_work_is_turned_away_at_a_limit_with_the_reason(depth, said):
    why = admitting.decide_intake(depth, LIMITS, agent="Shop")

    assert (said in why) if said else why == ""


def test_no_limit_turns_nothing_away():
    depth = Depth(10**6, 10**6, timedelta(days=1))

    assert admitting.decide_intake(depth, QueueLimits(0, 0, timedelta()), agent="Shop") == ""


@pytest.mark.parametrize(("ended", "seconds"), [(0, 30), (10, 60), (600, 1), (1, 300)])
def test_the_time_to_try_again_follows_the_rate_of_ends(ended, seconds):
    assert admitting.retry_after_s(Depth(100, 0, timedelta()), LIMITS, ended) == seconds
