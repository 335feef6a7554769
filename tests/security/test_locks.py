"""Verbs that meet on the same run: nobody waits for ever, and one of them wins (D21, STYLE: lock order)."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest, Decision
from approvals.states import ApprovalStatus, Verdict
from console import audit, problems
from console.actors import system
from console.states import IllegalMove
from releases import switches
from releases.states import Scope, SwitchEffect
from runtime import runs
from runtime.models import Run
from runtime.states import RunStatus
from tests.patience import PATIENCE_S
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start

pytestmark = pytest.mark.django_db(transaction=True)

ASK = {"id": "ask", "tool": "spy_pay", "then": "ask", "reason": "Every payment needs a person."}
SYSTEM = system("test")
EXPECTED = (problems.Problem, IllegalMove, ApprovalRequest.DoesNotExist)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def test_deciding_cancelling_engaging_parking_and_expiring_never_deadlock():
    """Every verb on the same runs at once, from connections of their own; PostgreSQL would name a deadlock."""
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "ok"), rules=[ASK])
    started = [start(release, f"run {number}") for number in range(24)]
    harness.work_all(started)
    chance = random.Random(7)
    failures: list[BaseException] = []
    is_over = threading.Event()

    def again(act: Callable[[], object]) -> Callable[[], None]:
        def loop() -> None:
            while not is_over.is_set():
                try:
                    act()
                except EXPECTED:
                    continue
                except BaseException as wrong:
                    failures.append(wrong)
                    break
            connection.close()

        return loop

    def some() -> ApprovalRequest:
        return chance.choice(list(ApprovalRequest.objects.all()))

    def decide() -> None:
        requests.decide(some().pk, chance.choice(list(Verdict)), by=SYSTEM, reason="because")

    def cancel() -> None:
        runs.cancel(chance.choice(started).pk, by=SYSTEM, reason="because")
        time.sleep(0.05)

    def turn() -> None:
        scope, effect, target = chance.choice(
            [(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "spy_pay"), (Scope.EVERYTHING, SwitchEffect.WRITES_OFF, "")]
        )
        switch = switches.engage(scope, effect, target, by=SYSTEM, reason="because")
        switches.lift(switch.pk, by=SYSTEM, reason="because", phrase=switches.lift_phrase(switch))

    def expire() -> None:
        requests.expire(some().pk, moment=now().replace(year=2030))
        time.sleep(0.05)

    def void() -> None:
        request = some()
        requests.void(request.subject_kind, request.subject_id, by=SYSTEM, reason="because")
        time.sleep(0.1)

    threads = [harness.in_background(again(act)) for act in (decide, cancel, turn, turn, expire, void)]
    more = [start(release, f"later {number}") for number in range(12)]
    harness.work_all(more, slot="other")
    time.sleep(2)
    is_over.set()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)

    assert not any(thread.is_alive() for thread in threads)
    assert [wrong for wrong in failures if isinstance(wrong, OperationalError)] == []
    assert failures == []
    assert audit.verify().first_bad_id is None
    assert Decision.objects.count() == Decision.objects.values("request").distinct().count()
    for run in Run.objects.exclude(status__in=[RunStatus.WAITING, RunStatus.QUEUED]):
        open_cards = ApprovalRequest.objects.open().filter(subject_id__startswith=run.public_id)
        assert not open_cards.exists(), run.status


def test_two_people_approving_at_once_pay_once():
    """D21: one decision, one execution."""
    run = start(a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "ok"), rules=[ASK]))
    harness.work(run)
    request = ApprovalRequest.objects.get()
    together = threading.Barrier(2)
    outcomes: list[str] = []

    def decide(name: str) -> None:
        together.wait()
        try:
            requests.decide(request.pk, Verdict.APPROVE, by=system(name), reason="")
            outcomes.append("decided")
        except problems.Conflict:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=decide, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    harness.work(run, turns=3)

    assert sorted(outcomes) == ["decided", "refused"]
    assert len(harness.paid()) == 1
    request.refresh_from_db()
    assert request.status == ApprovalStatus.APPROVED
