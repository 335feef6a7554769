"""The form that makes a schedule."""

from __future__ import annotations

from typing import Any

from django import forms

from console.forms import Refusable
from releases.models import Agent
from runtime import runs
from runtime.states import Overlap

# Field of the problem that the verb raises -> name on the page.
NAMES_OF_VERB = {"input": "text", "user_id": "principal_id"}


class ScheduleForm(Refusable):
    agent = forms.ChoiceField(label="Agent")
    name = forms.CharField(max_length=120, label="Name", help_text="How people find it again.")
    text = forms.CharField(
        max_length=runs.LONGEST_INPUT,
        label="Message",
        widget=forms.Textarea(attrs={"rows": 4, "placeholder": "What the agent is asked each time"}),
    )
    principal_id = forms.CharField(max_length=120, label="Customer id", help_text="For whom the agent works.")
    principal_label = forms.CharField(max_length=200, required=False, label="Name of the customer")
    expression = forms.CharField(
        max_length=120,
        label="When",
        help_text="every 15 minutes, every 2 hours, every day; or five cron fields, such as 0 9 * * mon-fri.",
    )
    time_zone = forms.CharField(
        max_length=60, initial="UTC", label="Time zone", help_text="For cron fields: Europe/Lisbon, UTC."
    )
    overlap = forms.ChoiceField(
        choices=[(Overlap.SKIP, "leave this time out"), (Overlap.QUEUE, "start when it has ended")],
        label="If the run before has not ended",
    )

    def __init__(self, *args: Any, agents: list[Agent], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.fields["agent"]
        assert isinstance(choices, forms.ChoiceField)
        choices.choices = [(agent.slug, agent.name) for agent in agents]
        for name in ("principal_id", "principal_label", "expression", "time_zone"):
            self.fields[name].widget.attrs.update({"autocomplete": "off", "spellcheck": "false"})

    def field_of(self, name: str) -> str:
        return NAMES_OF_VERB.get(name, name)
