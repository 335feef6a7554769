"""The pure core through many thousands of interleavings of faults, and whether the simulation would see a fault.

    STEADYHAND_SIMULATIONS=100000 python3 manage.py test tests/runtime/test_simulation.py -s

plays that many; STEADYHAND_SEED is the first seed, so a failure is repeated with its seed and one simulation.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runtime.simulation import world
from tests.runtime.simulation.mechanisms import ALL, Mechanisms
from tests.runtime.simulation.witness import Broken

SIMULATIONS = int(os.environ.get("STEADYHAND_SIMULATIONS", "2000"))
FIRST_SEED = int(os.environ.get("STEADYHAND_SEED", "0"))
MOST_TRIES = 1500

# Without the mechanism, the simulation reports one of these rules.
GUARDED_BY = {
    "forgotten_found": {"lost"},
    "leases_expire": {"lost"},
    "strays_given_back": {"lost"},
    "expiry_swept": {"lost"},
    "unsafe_parks": {"twice"},
    "same_key": {"twice"},
    "effect_with_step": {"twice"},
    "journal_decides": {"memory"},
    "intent_first": {"gate"},
    "gate": {"gate"},
    "switch_in_write": {"stop"},
    "requests_in_write": {"stop"},
    "release_frozen": {"release"},
    "compared_at_dispatch": {"approval"},
    "wait_kept_apart": {"waiting"},
    "end_in_one_write": {"cause"},
    "open_calls_marked": {"cause"},
    "seq_in_write": {"seq"},
    "fence_raised": {"fence"},
    "fence_in_write": {"superseded"},
    "open_step_only": {"done"},
    "budgets_in_gate": {"budget"},
}
# What the interleavings must have been through for their silence to mean something.
COVERED = (
    *("crash", "freeze", "thaw", "lease lost", "drain", "delivered twice", "redis flushed", "database away"),
    *(
        "clock step",
        "late call",
        "cancel",
        "pause",
        "resume",
        "run.paused",
        "switch engaged",
        "switch lifted",
        "decision",
        "expiry",
        "release changed",
    ),
    *("lease.lost", "call.repeated", "calls that may have happened", "approval.decided", "run.yielded"),
    *("call kill_switch", "call approval-void", "call rule:never", "call budget:max_tool_calls"),
    *("run succeeded", "run failed", "run cancelled", "run expired"),
)


def test_no_interleaving_of_faults_breaks_a_property(capsys: pytest.CaptureFixture[str]) -> None:
    began, counts = time.monotonic(), Counter[str]()

    for seed in range(FIRST_SEED, FIRST_SEED + SIMULATIONS):
        try:
            counts += world.play(seed)
        except Exception as broken:
            raise AssertionError(
                f"{broken!r}. Again: STEADYHAND_SEED={seed} STEADYHAND_SIMULATIONS=1 with this test."
            ) from broken

    with capsys.disabled():
        seconds = time.monotonic() - began
        print(f"\n{SIMULATIONS:,} interleavings from seed {FIRST_SEED}, {counts['steps']:,} steps, {seconds:.0f} s")
        print(", ".join(f"{name} {number:,}" for name, number in counts.most_common()))
    if SIMULATIONS >= 1000:
        assert [name for name in COVERED if not counts[name]] == []


@settings(max_examples=max(60, SIMULATIONS // 100), deadline=None, database=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])  # fmt: skip
@given(st.randoms(use_true_random=False))
def test_no_interleaving_that_hypothesis_finds_breaks_a_property(chance: Random) -> None:
    """The same under choices that hypothesis can shrink to the shortest interleaving that fails."""
    world.World(chance).play()


@pytest.mark.parametrize("mechanism", [*GUARDED_BY])
def test_the_simulation_finds_it_when_a_mechanism_is_missing(mechanism: str) -> None:
    without = Mechanisms(**{mechanism: False})
    found: Counter[str] = Counter()
    for seed in range(MOST_TRIES):
        try:
            world.play(seed, without)
        except Broken as broken:
            found[broken.rule] += 1
            if broken.rule in GUARDED_BY[mechanism]:
                return
    pytest.fail(f"Without {mechanism}, {MOST_TRIES} interleavings broke {dict(found)} and none of the expected rules.")


def test_every_mechanism_has_been_taken_away_once() -> None:
    assert set(GUARDED_BY) == set(vars(ALL))


def test_a_seed_gives_the_same_interleaving_again() -> None:
    assert world.play(7) == world.play(7)
