"""G11: calls that start after a kill switch was engaged, and how long until every worker has acknowledged it.

    python -m tests.benchmarks.kill_switch          PULLS=10 WORKERS=2 RUNS=60 STEPS=40

Two workers make calls as fast as they can while the switch on their tool is engaged. The intents of calls are counted
inside the transaction that engages it, while nobody else can commit one, and again when all runs have ended: any that
came later was started after the switch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks import ground

PULLS = ground.knob("PULLS", 10)
WORKERS = ground.knob("WORKERS", 2)
RUNS = ground.knob("RUNS", 60)
STEPS = ground.knob("STEPS", 40)
os.environ |= {"RUNS": str(RUNS), "STEPS": str(STEPS), "CONC": os.environ.get("CONC", "16")}


def main() -> None:
    with ground.standing():
        ground.emit(benchmark="kill_switch", pulls=PULLS, workers=WORKERS, **_measure())


def _measure() -> dict[str, Any]:
    from runtime.bench import knobs
    from runtime.bench.lives import Life
    from runtime.bench.loads import Load

    wanted = knobs.read("W1")
    load = Load(wanted)
    lives = [Life(f"{load.tag}-{n}", wanted) for n in range(WORKERS)]
    try:
        for life in lives:
            life.wait_until_ready()
        pulled = [_pull(load) for _ in range(PULLS)]
    finally:
        for life in lives:
            life.stop()
    told = [one["acknowledged_s"] for one in pulled]
    return {
        "calls_before": sum(one["before"] for one in pulled),
        "calls_after": sum(one["after"] for one in pulled),
        "calls_refused": sum(one["refused"] for one in pulled),
        "acknowledged_p50_ms": ground.ms(told, 0.5),
        "acknowledged_p95_ms": ground.ms(told, 0.95),
        "acknowledged_max_ms": ground.ms(told, 1.0),
    }


def _pull(load: Any) -> dict[str, Any]:
    """Start the load, engage the switch in the middle of it, wait for its end, lift the switch again."""
    from django.db import transaction

    from releases import switches
    from releases.states import Scope, SwitchEffect
    from runtime import workers
    from runtime.bench import scenes
    from runtime.models import Step
    from runtime.states import StepKind

    by = _puller()
    runs = load.create(RUNS)
    calls = Step.objects.filter(run__in=runs, kind=StepKind.TOOL)
    refused = Step.objects.filter(run__in=runs, kind=StepKind.GUARDRAIL, rule="kill_switch")
    load.offer(runs)
    ground.until(lambda: calls.count() > RUNS)
    with transaction.atomic():
        switch = switches.engage(
            Scope.TOOL, SwitchEffect.DISABLE_TOOL, scenes.TOOLS["W1"], by=by, reason="A benchmark pulls it."
        )
        before = calls.count()  # no intent can be committed between here and the end of this transaction
    acknowledged_s = _acknowledged(switch.epoch, workers.acknowledged)
    ground.until(load.is_settled, 300)
    switches.lift(switch.pk, by=by, reason="The benchmark goes on.", phrase=switches.lift_phrase(switch))
    time.sleep(1.5)  # all have seen that it is lifted
    return {
        "before": before,
        "after": calls.count() - before,
        "refused": refused.count(),
        "acknowledged_s": acknowledged_s,
    }


def _acknowledged(epoch: int, ask: Callable[[int], tuple[int, int, float | None]]) -> float:
    """Seconds from the switch to the last worker that has seen it."""
    found: list[float] = []

    def is_so() -> bool:
        seen, alive, seconds = ask(epoch)
        if seen == alive and seconds is not None:
            found.append(seconds)
        return bool(found)

    ground.until(is_so, 30, every=0.02)
    return found[0]


def _puller() -> Any:
    from console.actors import Actor

    return Actor(
        "user", "benchmark", "Mara", frozenset({("switches.engage", "*"), ("switches.lift", "*")}), frozenset()
    )


if __name__ == "__main__":
    main()
