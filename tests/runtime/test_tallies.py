"""Totals of a day: opened from the journal, held before a call, taken off again, and exact under racing runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils.timezone import now

from runtime import tallies
from runtime.models import Run, Step, TalliedCall, Tally
from runtime.states import RunStatus, StepStatus
from tests import builders
from tests.patience import PATIENCE_S
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)
OVER_500 = {
    "id": "day-limit",
    "tool": "spy_pay",
    "condition": "totals.principal.after.sum.amount > 500.0",
    "then": "refuse",
    "reason": "At most $500 a day for one customer.",
}
PAY_200 = calling("spy_pay", order_id="1", amount="200.00")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def paying(rule=OVER_500, amount="200.00"):
    return a_scripted_release(saying(calling("spy_pay", order_id="1", amount=amount), "Done."), rules=[rule])


def tally(principal_id=""):
    found = Tally.objects.get(principal_id=principal_id, tool="spy_pay")
    return found.calls, {name: Decimal(str(total)) for name, total in found.sums.items()}


def verdicts(run: Run) -> list[str]:
    return [step.rule for step in run.steps.filter(name__in=["spy_pay", "rule:day-limit"]).order_by("seq")]


def test_a_limit_of_the_day_lets_calls_through_until_it_would_be_passed():
    release = paying()

    runs = [work(start(release)) for _ in range(3)]

    assert [verdicts(run) for run in runs] == [["default"], ["default"], ["rule:day-limit"]]
    assert len(harness.paid()) == 2
    assert tally("cus_1") == tally() == (2, {"amount": Decimal("400")})


def test_the_total_is_per_principal():
    release = paying()
    for who in ("cus_1", "cus_1", "cus_2"):
        work(start(release, principal_id=who))

    assert len(harness.paid()) == 3
    assert (tally("cus_1")[0], tally("cus_2")[0], tally()[0]) == (2, 1, 3)


def test_a_rule_that_comes_during_the_day_counts_what_was_called_before():
    """Calls of today that happened or may have; not those of yesterday, those that failed, nor those of a fork."""
    release = paying()
    earlier = builders.a_run(release=release, principal_id="cus_1", tools_called=["spy_pay"])
    other = builders.a_run(release=release, principal_id="cus_2", tools_called=["spy_pay"])
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    paid = {"input": {"arguments": {"order_id": "1", "amount": "150.00"}}, "output": {}, "name": "spy_pay"}
    builders.a_step(earlier, **paid, started_at=midnight)
    builders.a_step(earlier, **paid, status=StepStatus.UNKNOWN, started_at=midnight)
    builders.a_step(earlier, **paid, status=StepStatus.FAILED, started_at=midnight)
    builders.a_step(earlier, **paid, started_at=midnight - timedelta(seconds=1))
    builders.a_step(earlier, **{**paid, "input": {**paid["input"], "forked_from": "stp_1"}}, started_at=midnight)
    builders.a_step(other, **paid, started_at=midnight)

    run = work(start(release))

    assert verdicts(run) == ["default"]  # 150 and 150 before, and 200 now: a limit may be reached exactly
    assert tally("cus_1") == (3, {"amount": Decimal("500")})
    assert tally() == (4, {"amount": Decimal("650")})


def test_racing_runs_never_pass_the_limit_together():
    """Twelve runs at once, each seeing a total that has room for two: the version in the statement stops the others."""
    release = paying()
    runs = [start(release) for _ in range(12)]

    harness.work_all(runs)

    assert len(harness.paid()) == 2
    assert tally("cus_1") == (2, {"amount": Decimal("400")})
    refused = Run.objects.filter(steps__rule="rule:day-limit").distinct().count()
    assert refused == 10


def test_two_connections_cannot_both_hold_what_one_total_allows():
    release = paying()
    key = tallies.Key(release.agent_id, release.bundle.toolset["spy_pay"], "cus_1")
    run = builders.a_run(RunStatus.RUNNING, release=release)
    seen = tallies.read_within(key)
    together, answers = threading.Barrier(4), []

    def hold() -> None:
        import asyncio

        from console import ids
        from runtime import worker

        async def go() -> bool:
            pool = worker.open_pool(1)
            await pool.open(wait=True)
            try:
                holder = tallies.Holder(run.pk, run.fence, ids.new())
                return await tallies.hold(pool, key, holder, {"amount": "200"}, seen, frozenset({"principal"}))
            finally:
                await pool.close()

        together.wait()
        answers.append(asyncio.run(go()))
        connection.close()

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)

    assert sorted(answers) == [False, False, False, True]
    assert tally("cus_1")[0] == 1


def test_a_call_that_fails_is_taken_off_again():
    def refuse() -> None:
        from runtime.tools import ToolError

        raise ToolError("refused", "The bank said no.")

    harness.hooks["spy_pay"] = refuse
    release = paying()

    work(start(release))

    assert tally("cus_1") == (0, {"amount": Decimal("0")})
    assert not TalliedCall.objects.exists()


def test_a_call_stopped_by_a_switch_after_its_verdict_is_taken_off(monkeypatch):
    from runtime import calling as module

    release = paying()
    judged = module.totals.hold

    async def engaged_meanwhile(*args, **options):
        from runtime import threads

        await threads.run(lambda: builders.a_switch(target="spy_pay"))
        return await judged(*args, **options)

    monkeypatch.setattr(module.totals, "hold", engaged_meanwhile)

    run = work(start(release))

    assert run.steps.filter(rule="kill_switch").exists()
    assert tally("cus_1")[0] == 0


def test_the_sweep_settles_what_dead_workers_left():
    release = paying()
    run = work(start(release))
    step = Step.objects.get(run=run, name="spy_pay")
    assert TalliedCall.objects.get().pk == step.pk  # the worker leaves what was done to the sweep

    other = builders.a_run(RunStatus.RUNNING, release=release, principal_id="cus_1", fence=3)
    ids = [row.pk for row in Tally.objects.all()]
    for fence, amount in ((2, "70"), (3, "30")):  # of a life before, without a step; and of the present one
        TalliedCall.objects.create(
            id=builders.a_run(release=release).pk, run=other, fence=fence, tallies=ids, amounts={"amount": amount}
        )
    Tally.objects.update(calls=3, sums={"amount": 300})

    assert tallies.sweep() == 2
    assert tallies.sweep() == 0

    assert tally("cus_1") == (2, {"amount": Decimal("230")})
    assert TalliedCall.objects.get().fence == 3


@pytest.mark.parametrize(
    ("retry", "error", "counts"),
    [
        ("idempotent", "timeout", True),
        ("transactional", "timeout", False),
        ("idempotent", "refused", False),
        ("unsafe", "did_not_happen", False),
    ],
)
def test_what_may_have_happened_stays_counted(retry, error, counts):
    release = paying()
    tool = release.bundle.toolset["spy_pay"].model_copy(update={"retry": retry})
    key = tallies.Key(release.agent_id, tool, "cus_1")
    tallies.read_within(key)
    ended = builders.a_run(release=release, principal_id="cus_1")
    step = builders.a_step(ended, name="spy_pay", status=StepStatus.FAILED, error=error)
    rows = list(Tally.objects.values_list("pk", flat=True))
    Tally.objects.update(calls=1, sums={"amount": 20})
    TalliedCall.objects.create(
        id=step.pk,
        run=ended,
        fence=ended.fence,
        tallies=rows,
        amounts={"amount": "20"},
        is_certain=retry in ("transactional", "read"),
    )

    tallies.sweep()

    assert tally("cus_1")[0] == int(counts)


def test_without_a_rule_about_totals_nothing_is_read_or_kept():
    release = paying({**OVER_500, "condition": "args.amount > 500.0"})

    work(start(release))

    assert len(harness.paid()) == 1
    assert not Tally.objects.exists()


def test_a_person_approves_and_the_total_is_still_held():
    """A refusal by totals holds after an approval: the money may have gone elsewhere meanwhile."""
    from approvals import requests
    from approvals.models import ApprovalRequest
    from approvals.states import Verdict

    ask = {"id": "ask", "tool": "spy_pay", "then": "ask", "reason": "Every payment."}
    release = a_scripted_release(saying(PAY_200, "Done."), rules=[ask, OVER_500])
    waiting = work(start(release))
    Tally.objects.update(calls=2, sums={"amount": 400})
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=builders.an_actor(), reason="")

    run = work(waiting)

    assert harness.paid() == []
    assert run.steps.filter(rule="rule:day-limit").exists()
