"""The form that starts a run."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms

from console import words
from console.forms import Refusable
from releases.bundles import Budgets
from runtime import meters, runs
from runtime.states import OnBusy

# Field of the page -> name in the problem that runs.create raises.
NAMES_OF_VERB = {"input": "text", "user_id": "principal_id"}


class StartForm(Refusable):
    """Budgets are optional and can only be lower than the release's."""

    principal_id = forms.CharField(
        max_length=120, required=False, label="Customer id", help_text="For whom the agent works."
    )
    for_self = forms.BooleanField(
        required=False, label="For me, not for a customer: with my own rights, as long as I have them"
    )
    principal_label = forms.CharField(max_length=200, required=False, label="Name")
    text = forms.CharField(
        max_length=runs.LONGEST_INPUT,
        label="Message",
        strip=True,
        widget=forms.Textarea(attrs={"rows": 6, "placeholder": "What the customer writes to the agent"}),
    )
    on_busy = forms.ChoiceField(
        choices=[(OnBusy.QUEUE, "waits for its turn"), (OnBusy.INTERRUPT, "stops that run")],
        required=False,
        label="Until that run has ended, this message",
    )
    delay_minutes = forms.IntegerField(
        min_value=1, max_value=366 * 24 * 60, required=False, label="Start in minutes", help_text="Left empty: now."
    )
    max_steps = forms.IntegerField(min_value=1, required=False, label="Steps")
    max_model_calls = forms.IntegerField(min_value=1, required=False, label="Model calls")
    max_tool_calls = forms.IntegerField(min_value=0, required=False, label="Tool calls")
    max_tokens = forms.IntegerField(min_value=1, required=False, label="Tokens")
    max_cost_usd = forms.DecimalField(min_value=Decimal(0), required=False, label="Cost in USD")
    max_seconds = forms.IntegerField(min_value=1, required=False, label="Working seconds")
    deadline_seconds = forms.IntegerField(min_value=1, required=False, label="Seconds to the deadline")

    BUDGETS = tuple(name for name in meters.CAPS if name != "max_approvals")

    def __init__(self, *args: Any, limits: Budgets | None, is_continued: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("principal_id", "principal_label"):
            self.fields[name].widget.attrs.update({"autocomplete": "off", "spellcheck": "false"})
            if is_continued:
                self.fields[name].widget.attrs["readonly"] = True
        self.fields["principal_id"].widget.attrs["list"] = "people"
        for name in self.BUDGETS:
            if limits is not None:
                most = getattr(limits, name)
                self.fields[name].help_text = (
                    "No limit so far." if most is None else f"{limit(name, limits).capitalize()}."
                )
                self.fields[name].widget.attrs["placeholder"] = "" if most is None else str(most)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("principal_id") and not data.get("for_self") and "principal_id" not in self.errors:
            self.add_error("principal_id", "This field is required, unless it works for you.")
        return data

    @property
    def delay(self) -> timedelta | None:
        minutes = self.cleaned_data.get("delay_minutes")
        return timedelta(minutes=minutes) if minutes else None

    def budgets(self) -> dict[str, Any]:
        """Only what was lowered, as the verb wants it."""
        chosen = {name: self.cleaned_data.get(name) for name in self.BUDGETS}
        return {
            name: str(value) if isinstance(value, Decimal) else value
            for name, value in chosen.items()
            if value is not None
        }

    def field_of(self, name: str) -> str:
        return NAMES_OF_VERB.get(name, name.removeprefix("budgets."))

    @property
    def has_budget(self) -> bool:
        """Whether the part with the budgets should be open."""
        return any(self[name].value() not in (None, "") for name in ("delay_minutes", *self.BUDGETS))

    @property
    def budget_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.BUDGETS]


def limit(name: str, limits: Budgets) -> str:
    value = getattr(limits, name)
    if value is None:
        return "no limit"
    if name in ("max_seconds", "deadline_seconds"):
        return f"at most {words.duration(value * 1000)}"
    return f"at most {words.money(value) if name == 'max_cost_usd' else words.number(value)}"
