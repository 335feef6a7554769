"""Chaos in its short form, and whether its judge would see what it looks for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import connection

from console.embedded import servers
from releases.models import Agent
from runtime.chaos import crew, faults, judging, loads, scenes
from runtime.models import Run
from runtime.states import RunStatus, StepKind, StepStatus
from tests import builders
from tests.patience import until

MANAGE = settings.BASE_DIR / "manage.py"
FIRST_START_S = 90


def command(folder: Path, *options: str) -> subprocess.Popen[str]:
    """`manage.py chaos` with servers of its own, everything of it below the folder."""
    given = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    return subprocess.Popen(
        [sys.executable, str(MANAGE), "chaos", *options],
        env=given | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.xdist_group("chaos")
def test_killed_frozen_and_cut_off_processes_lose_and_repeat_nothing(tmp_path: Path) -> None:
    seed = str(time.time_ns() % 1_000_000)

    chaos = command(
        tmp_path, "--kills", "8", "--workers", "2", "--lease", "5", "--pause", "0.5", "--seed", seed, "--json"
    )
    out, err = chaos.communicate(timeout=400)

    assert chaos.returncode == 0, f"seed {seed}\n{out}\n{err}"
    report = json.loads(out)
    assert [report[name] for name in ("lost", "duplicated", "stuck", "journal")] == [0, 0, 0, 0]
    assert report["servers_restarted"] == ["postgres", "valkey"]
    assert report["kills"] >= 8
    assert report["takeovers"] > 0
    assert sum(report["ends"].values()) == report["accepted"] > 0


@pytest.mark.xdist_group("chaos")
def test_an_interrupted_chaos_ends_everything_that_it_started(tmp_path: Path) -> None:
    chaos = command(tmp_path, "--kills", "1000", "--workers", "2")
    try:
        slot = f"chaos-{chaos.pid}-"
        until(lambda: len(running(slot)) == 2 and running(str(tmp_path)) != [], FIRST_START_S)

        chaos.send_signal(signal.SIGINT)
        chaos.communicate(timeout=60)
    finally:
        chaos.kill()

    assert chaos.returncode == 130
    assert running(slot) == running(str(tmp_path)) == []


def test_servers_that_were_not_started_here_are_not_ended(tmp_path: Path) -> None:
    external = crew.Crew(tmp_path, 2, None, own=None)
    ours = crew.Crew(tmp_path, 2, None, own=servers.embedded(tmp_path, throwaway=True))

    assert kinds(external) == kinds(crew.Crew(tmp_path, 2, None, servers.Servers(tmp_path, None, None)))
    assert kinds(ours) == kinds(external) + 2 or os.environ.get("DATABASE_URL")


Break = Callable[[Run], None]


def a_step(run: Run, **fields: Any) -> UUID:
    defaults: dict[str, Any] = {"name": "chaos_send", "call_id": "call-1", "idempotency_key": f"{run.public_id}:1"}
    return builders.a_step(run, **{**defaults, **fields}, input={}, output={}).pk


def an_effect(mark: str, key: str, tool: str = "chaos_send") -> None:
    with connection.cursor() as cursor:
        cursor.execute(scenes.EFFECT_SQL, (mark, tool, key, 1))


def happened_twice(run: Run) -> None:
    a_step(run)
    an_effect("mark", f"{run.public_id}:1")
    an_effect("mark", f"{run.public_id}:1")


def another_key(run: Run) -> None:
    with connection.cursor() as cursor:
        cursor.execute(scenes.NOTE_SQL, ("one", "mark", "a"))
        cursor.execute(scenes.NOTE_SQL, ("two", "mark", "b"))


def another_result(run: Run) -> None:
    step = a_step(run, name="chaos_note")
    with connection.cursor() as cursor:
        cursor.execute(scenes.NOTE_SQL, (f"{run.public_id}:1", "mark", "first"))
        cursor.execute("""UPDATE runtime_steppayload SET output = '{"result": "second"}' WHERE step_id = %s""", [step])


def no_intent(run: Run) -> None:
    an_effect("mark", "a key of nobody")


def forgotten_payment(run: Run) -> None:
    a_step(run, name="chaos_pay", status=StepStatus.FAILED)
    an_effect("mark", f"{run.public_id}:1", "chaos_pay")


def no_effect(run: Run) -> None:
    a_step(run)


def unapproved(run: Run) -> None:
    step = a_step(run, name="chaos_pay")
    an_effect("mark", f"{run.public_id}:1", "chaos_pay")
    with connection.cursor() as cursor:
        given = """UPDATE runtime_steppayload SET input = '{"arguments": {"amount": "250"}}' WHERE step_id = %s"""
        cursor.execute(given, [step])


def same_number(run: Run) -> None:
    a_step(run, seq=1, kind=StepKind.MODEL, idempotency_key="")


def missing_numbers(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(seq=9)


def lower_fence(run: Run) -> None:
    for fence in (2, 1):
        builders.a_step(run, StepKind.MODEL, "m", fence=fence)


def two_results(run: Run) -> None:
    for number in (1, 2):
        a_step(run, name="chaos_look", idempotency_key=f"{run.public_id}:{number}")


def no_cause(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(status=RunStatus.CANCELLED, cause="")


def no_last_step(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, cause="answered")


def open_step(run: Run) -> None:
    a_step(run, status=StepStatus.STARTED)
    Run.objects.filter(pk=run.pk).update(status=RunStatus.CANCELLED, cause="cancelled")


def broken(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(cause="internal_error", cause_detail="KeyError: 'x'")


def still(status: RunStatus) -> Break:
    def leave(run: Run) -> None:
        Run.objects.filter(pk=run.pk).update(status=status)

    return leave


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "words", "spoil"),
    [
        ("lost", "parked run that nobody is asked about", still(RunStatus.WAITING)),
        ("stuck", "still running", still(RunStatus.RUNNING)),
        ("stuck", "still queued", still(RunStatus.QUEUED)),
        ("duplicated", "effect that may happen once happened again", happened_twice),
        ("duplicated", "one call noted under two keys", another_key),
        ("duplicated", "key with another result than its first", another_result),
        ("journal", "effect without a committed intent", no_intent),
        ("journal", "payment whose step does not say so", forgotten_payment),
        ("journal", "call that is done and had no effect", no_effect),
        ("journal", "payment over the limit that no person approved", unapproved),
        ("journal", "number of seq used twice, or beyond the run's", same_number),
        ("journal", "number of seq that nothing explains the lack of", missing_numbers),
        ("journal", "step under a lower fence than the one before it", lower_fence),
        ("journal", "call with more than one result", two_results),
        ("journal", "ended run without a cause, or without exactly one event of its end", no_cause),
        ("journal", "ended run without a last step, although a worker ended it", no_last_step),
        ("journal", "run that an error of ours ended", broken),
        ("journal", "ended run with an open step", open_step),
    ],
)
def test_the_judge_sees(kind: str, words: str, spoil: Break) -> None:
    agent = an_agent()
    run = builders.a_run(RunStatus.CANCELLED, agent=agent, cause="cancelled")
    builders.an_event(run, "run.finished")
    assert judging.judge(agent, [run.pk]).is_clean

    spoil(run)

    assert words in getattr(judging.judge(agent, [run.pk]), kind)


@pytest.mark.django_db
def test_the_judge_misses_a_run_that_was_accepted_and_is_in_no_row() -> None:
    missing = uuid4()

    judged = judging.judge(an_agent(), [missing])

    assert judged.lost == {"accepted run is in no row": [str(missing)]}
    assert not judged.is_clean


def an_agent() -> Agent:
    return loads.release(f"chaos-{uuid4().hex[:8]}").agent


def kinds(of: crew.Crew) -> int:
    return len(faults.Faults(of, seed=1, lease_s=5)._kinds)


def running(text: str) -> list[str]:
    """Processes with the text in their command line."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True)
    return [
        line for line in listed.stdout.splitlines() if text in line and " Z" not in line[:14] and "chaos --" not in line
    ]
