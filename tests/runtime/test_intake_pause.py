"""A switch that pauses new runs holds what is accepted, and drops nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from console.actors import system
from releases import switches
from releases.states import Scope, SwitchEffect
from runtime.models import Run
from runtime.states import RunStatus
from tests.programs import Program
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = system("test")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


@pytest.mark.parametrize("scope", [Scope.AGENT, Scope.EVERYTHING])
def test_what_is_accepted_during_a_pause_starts_when_it_is_lifted(scope):
    release = a_scripted_release(saying("Done."))
    target = release.agent.slug if scope == Scope.AGENT else ""
    switch = switches.engage(scope, SwitchEffect.PAUSE_RUNS, target, by=OPERATOR, reason="Prices are wrong.")

    run = start(release)

    assert work(run).status == RunStatus.QUEUED
    switches.lift(switch.pk, by=OPERATOR, reason="mended", phrase=switches.lift_phrase(switch))
    assert work(run).status == RunStatus.SUCCEEDED


def test_the_api_says_what_holds_a_run():
    release = a_scripted_release(saying("Done."))
    switches.engage(Scope.AGENT, SwitchEffect.PAUSE_RUNS, release.agent.slug, by=OPERATOR, reason="Prices are wrong.")

    answer = Program().post("/runs", {"agent": release.agent.slug, "input": "Hello", "user_id": "cust-1"})

    assert (answer.status_code, answer.json()["status"], answer.json()["wait_reason"]) == (202, "queued", "switch")


def test_what_a_switch_holds_back_does_not_close_the_door_to_others(settings):
    settings.QUEUE_OLDEST_SECONDS = 1
    paused, other = (a_scripted_release(saying("Done.")) for _ in range(2))
    switches.engage(Scope.AGENT, SwitchEffect.PAUSE_RUNS, paused.agent.slug, by=OPERATOR, reason="Prices are wrong.")
    held = start(paused)
    Run.objects.filter(pk=held.pk).update(queued_at="2026-01-01T00:00:00Z")

    assert start(other).status == RunStatus.QUEUED
