from __future__ import annotations

import pytest

from approvals import palette as approvals_palette
from console.roles import Role
from releases import palette as releases_palette
from runtime import palette
from runtime.states import RunStatus
from tests.builders import a_release, a_run, an_actor, an_agent, an_approval

pytestmark = pytest.mark.django_db


def test_a_run_is_found_by_its_id_and_by_words():
    run = a_run(title="Refund for a broken kettle")
    a_run(title="Something else")
    operator = an_actor(Role.OPERATOR)

    found = [each for each in palette.find(operator, run.public_id) if each.kind == "Run"]
    assert [each.url for each in found] == [run.get_absolute_url()]
    assert [found.label for found in palette.find(operator, "KETTLE")] == ["Refund for a broken kettle"]


def test_only_what_the_actor_may_see_is_found():
    mine, other = an_agent("mine", "Mine"), an_agent("other", "Other")
    for agent in (mine, other):
        a_release(agent, version="7.1")
        a_run(agent=agent, title="the same words")
    support = an_actor(Role.SUPPORT, agent="mine")

    assert len(list(palette.find(support, "same words"))) == 1
    assert [found.label for found in releases_palette.find(support, "7.1")] == ["Mine 7.1"]
    assert list(releases_palette.find(support, "Other")) == []


def test_open_approvals_are_found_by_their_sentence():
    an_approval(title="Refund $12.00")
    an_approval(title="Refund $99.00", status="approved")

    found = [each.label for each in approvals_palette.find(an_actor(), "refund")]

    assert found == ["Refund $12.00"]


def commands(actor, text: str) -> list[tuple[str, str]]:
    return [
        (found.label, found.url.partition("?")[2]) for found in palette.find(actor, text) if found.kind == "Command"
    ]


def test_an_id_offers_what_may_be_done_with_the_run():
    run = a_run(RunStatus.WAITING, title="Refund")
    ended = a_run(title="Refund")

    assert commands(an_actor(), run.public_id) == [("Pause: Refund", "act=pause"), ("Stop: Refund", "act=stop")]
    assert commands(an_actor(), ended.public_id) == [("Start again: Refund", "act=again")]
    assert commands(an_actor(Role.AUDITOR), run.public_id) == []


def test_a_verb_before_the_words_offers_only_that():
    a_run(RunStatus.PAUSED, title="Refund the headphones")
    a_run(title="Refund the cable")

    assert commands(an_actor(), "resume refund") == [("Resume: Refund the headphones", "act=resume")]
    assert commands(an_actor(), "cancel refund") == [("Stop: Refund the headphones", "act=stop")]
    assert commands(an_actor(), "refund") == []
