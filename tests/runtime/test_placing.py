"""Which queue a run waits in, and how many places of a worker each may take."""

from __future__ import annotations

import django_rq
import pytest

from console import queue
from runtime.policies import placing
from runtime.states import RunKind, RunPriority
from tests.builders import a_release, an_agent
from tests.programs import Program

REQUEST = {"agent": "shop-support", "input": "Please refund order 1042.", "user_id": "cust-1001"}


@pytest.mark.parametrize(
    ("places", "running", "rooms"),
    [
        (200, [0, 0, 0], [200, 180, 160]),
        (200, [0, 0, 160], [40, 20, 0]),  # evaluations have all they may: both reserves are free
        (200, [0, 180, 0], [20, 0, 0]),  # background work leaves the reserve of interactive runs
        (200, [200, 0, 0], [0, 0, 0]),
        (200, [190, 0, 0], [10, 10, 10]),
        (10, [0, 0, 0], [10, 9, 8]),
        (2, [0, 0, 0], [2, 1, 1]),
        (2, [0, 0, 1], [1, 0, 0]),
        (1, [0, 0, 0], [1, 1, 1]),  # nothing to reserve
        (10, [12, 0, 0], [0, 0, 0]),  # the setting was lowered
    ],
)
def test_each_class_leaves_a_reserve_to_those_before_it(places, running, rooms):
    assert placing.rooms(placing.limits(places, running)) == rooms


@pytest.mark.parametrize(
    ("kind", "priority"),
    [
        (RunKind.LIVE, RunPriority.INTERACTIVE),
        (RunKind.REPLAY, RunPriority.BACKGROUND),
        (RunKind.EVAL, RunPriority.EVALUATION),
        (RunKind.SHADOW, RunPriority.EVALUATION),
    ],
)
def test_a_kind_of_run_has_its_queue(kind, priority):
    assert placing.priority_of(kind) == priority


def test_every_priority_has_a_queue():
    from runtime import queueing

    assert list(queueing.QUEUES) == list(RunPriority)
    assert [name.removeprefix("runs-") for name in queue.RUN_QUEUES] == list(RunPriority)


@pytest.mark.django_db(transaction=True)
def test_a_program_says_how_long_a_run_may_wait():
    agent = an_agent("shop-support")
    a_release(agent, version="2026.11.1")
    program = Program()
    at_once = program.post("/runs", REQUEST, **{"Idempotency-Key": "once"}).json()
    later = program.post("/runs", {**REQUEST, "priority": "background"}, **{"Idempotency-Key": "later"}).json()
    other = program.post("/runs", {**REQUEST, "priority": "evaluation"}, **{"Idempotency-Key": "later"})
    unknown = program.post("/runs", {**REQUEST, "priority": "urgent"})

    assert (at_once["priority"], later["priority"]) == ("interactive", "background")
    assert (other.status_code, unknown.status_code) == (409, 422)
    assert [django_rq.get_queue(name).count for name in queue.RUN_QUEUES] == [1, 1, 0]
