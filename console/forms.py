"""Forms of the settings pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms

from console import roles, shell
from console.actors import Actor

LABELS = {
    "system": "Like the system",
    "light": "Light",
    "dark": "Dark",
    "on": "On",
    "off": "Off",
    "relative": "Relative (3 min ago)",
    "local": "Local time",
    "utc": "UTC",
}


def _choices(name: str) -> list[tuple[str, str]]:
    return [(value, LABELS[value]) for value in shell.APPEARANCE[name]]


class AppearanceForm(forms.Form):
    theme = forms.ChoiceField(choices=_choices("theme"), label="Theme", widget=forms.RadioSelect, required=False)
    times = forms.ChoiceField(
        choices=_choices("times"),
        label="Times",
        widget=forms.RadioSelect,
        required=False,
        help_text="The exact time always shows when you point at one.",
    )
    keys = forms.ChoiceField(
        choices=_choices("keys"),
        label="Single-key shortcuts",
        widget=forms.RadioSelect,
        required=False,
        help_text="Switch them off if keys fire by accident, for example with speech input. Ctrl K stays.",
    )


class TokenForm(forms.Form):
    LIVES = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "1 year"))

    name = forms.CharField(max_length=120, label="Name", help_text="What uses it, for example “nightly export”.")
    days = forms.ChoiceField(choices=LIVES, initial="30", label="Expires after")
    scopes = forms.MultipleChoiceField(choices=(), label="Scopes", widget=forms.CheckboxSelectMultiple)

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        held = {permission for permission, _ in actor.rights}
        scopes = self.fields["scopes"]
        assert isinstance(scopes, forms.MultipleChoiceField)
        scopes.choices = [
            (name, f"{label[:1].upper()}{label[1:]}") for name, label in roles.declared().items() if name in held
        ]

    @property
    def expires_in(self) -> timedelta:
        return timedelta(days=int(self.cleaned_data["days"]))
