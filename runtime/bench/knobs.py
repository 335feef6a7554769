"""The knobs of a measurement. They come from the environment, under the names that the peers' scripts use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


class Refused(Exception):
    """The measurement cannot be made here. The sentence says why and the way out."""


@dataclass(frozen=True)
class Knobs:
    """What is measured. Sizes are counts; `payload` is bytes per result; times are seconds."""

    workload: str
    runs: int
    steps: int
    conc: int
    payload: int
    pool: int
    calls: int
    sleep_s: float
    kill_at: float
    other: bool
    zombie: bool
    lease_s: float | None
    give_up_s: float


RUNS = {"W1": 300, "W2": 500, "W3": 100}
GIVE_UP_S = {"W1": 600.0, "W2": 600.0, "W3": 120.0}
LARGEST_PAYLOAD = 60_000


def read(workload: str, env: Mapping[str, str] = os.environ) -> Knobs:
    """The knobs of this workload, defaults included.

    Raises:
        Refused: a value cannot be used.
    """
    runs = _whole(env, "RUNS", RUNS[workload])
    return Knobs(
        workload=workload,
        runs=runs,
        steps=_whole(env, "STEPS", 5),
        conc={"W1": _whole(env, "CONC", 1), "W2": runs, "W3": runs}[workload],
        payload=_whole(env, "PAYLOAD", 1000, most=LARGEST_PAYLOAD),
        pool=_whole(env, "POOL", 20),
        calls=_whole(env, "CALLS", 3),
        sleep_s=_number(env, "SLEEP", 1.0),
        kill_at=_number(env, "KILL_AT", 0.4, most=1.0),
        other=env.get("OTHER") == "1",
        zombie=env.get("ZOMBIE") == "1",
        lease_s=_number(env, "LEASE", 0.0) or None,
        give_up_s=_number(env, "GIVE_UP", GIVE_UP_S[workload]),
    )


def _whole(env: Mapping[str, str], name: str, default: int, *, most: int = 1_000_000) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise Refused(f"{name} is {text!r}; it has to be a whole number from 1 to {most:,}.")
    return int(text)


def _number(env: Mapping[str, str], name: str, default: float, *, most: float = 86_400) -> float:
    text = env.get(name) or str(default)
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise Refused(f"{name} is {text!r}; it has to be a number from 0 to {most:g}.")
    return number
