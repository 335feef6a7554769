"""A sample of real recorded conversations, where they lie beside the checkout. They are no part of the project."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import call_command

from runtime.models import Run
from runtime.replay import recordings, turns
from runtime.states import FINAL

FOLDER = Path(settings.BASE_DIR).parent / "shared" / "data" / "conversations"
RUNAWAY = "tau1-airline-gpt4o-t9-r2"
FILE, TOOLS = FOLDER / "trajectories.jsonl", FOLDER / "tools.json"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason=f"no recorded conversations at {FOLDER}")


def test_every_call_of_the_real_recordings_is_bound_to_a_result():
    for entry in recordings.read(FILE):
        assert isinstance(entry, recordings.Entry), entry
        script = turns.split(entry.conversation)

        calls = [call for turn in script.turns for reply in turn.replies for call in reply.calls]
        assert all(call.outcome is not None for call in calls)
        assert script.stray_results == 0
        spoken = sum(len(turn.replies) for turn in script.turns) + script.greetings
        assert spoken == sum(message.role == "assistant" for message in entry.conversation.messages)


@pytest.mark.django_db(transaction=True)
def test_a_real_runaway_is_stopped_by_the_loop_guard(tmp_path, capsys):
    """D13: the conversation whose model makes one call again and again within a turn."""
    runaway = [line for line in FILE.read_text().splitlines() if json.loads(line)["id"] == RUNAWAY]
    file = tmp_path / "runaway.jsonl"
    file.write_text("\n".join(runaway))

    call_command("replay", str(file), tools=TOOLS, approver="grant", json=True)

    stopped = Run.objects.get(cause="loop-guard")
    repeated = Counter(
        (step.name, step.payload.input["fingerprint"])
        for step in stopped.steps.filter(kind="tool").select_related("payload")
    )
    assert max(repeated.values()) == stopped.budgets["max_repeats"] == 3
    assert "3 times" in stopped.cause_detail


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("domain", ["airline", "retail"])
def test_real_conversations_run_to_truthful_ends(domain, capsys):
    call_command("replay", str(FILE), tools=TOOLS, domain=domain, limit=4, approver="grant", json=True)

    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == []
    assert Run.objects.exclude(status__in=FINAL).count() == 0
    assert not Run.objects.filter(cause="").exists()
    assert found["model_calls"] > 20
    assert found["tool_calls"]["allowed"] > 5
