"""Forms of the settings pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms

from console import people, principals, problems, roles, shell
from console.actors import EVERY_SCOPE, Actor
from console.principals import ANY

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


class Refusable(forms.Form):
    """A form whose verb may refuse what the form itself has let through."""

    def refuse(self, problem: problems.Problem) -> None:
        """Show what the verb said beside the fields it is about, or above them all."""
        for name, sentence in (problem.extra.get("errors") or {}).items():
            field = self.field_of(name)
            if field in self.fields:
                self.add_error(field, sentence)
        if not self.errors:
            self.add_error(None, problem.detail)

    def field_of(self, name: str) -> str:
        """The field for what the verb calls `name`."""
        return name


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


class RoleForm(Refusable):
    role = forms.ChoiceField(choices=[(role.value, role.value.title()) for role in roles.Role], label="Role")
    agent = forms.ChoiceField(choices=(), required=False, label="On")
    reason = forms.CharField(max_length=500, label="Why", help_text="It stands in the audit log.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        places = self.fields["agent"]
        assert isinstance(places, forms.ChoiceField)
        places.choices = [("", "every agent"), *people.agents()]


class PersonForm(RoleForm):
    email = forms.CharField(max_length=254, label="E-mail", help_text="What they sign in with. Nothing is sent there.")
    name = forms.CharField(max_length=120, label="Name")
    field_order = ("name", "email", "role", "agent", "reason")


class TokenForm(Refusable):
    ACTS_FOR = (
        ("any", "any end user, and itself"),
        ("some", "the end users below, and itself"),
        ("itself", "nobody but itself, as a service"),
    )
    LIVES = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "1 year"))

    name = forms.CharField(max_length=120, label="Name", help_text="What uses it, for example “nightly export”.")
    days = forms.ChoiceField(choices=LIVES, initial="30", label="Expires after")
    scopes = forms.MultipleChoiceField(choices=(), label="Scopes", widget=forms.CheckboxSelectMultiple)
    acts_for = forms.ChoiceField(
        choices=ACTS_FOR, initial="any", required=False, label="Acts for", widget=forms.RadioSelect
    )
    end_users = forms.CharField(
        max_length=2500,
        required=False,
        label="Ids of these end users",
        help_text="Separated by spaces; * stands for any characters: acme-* globex-17",
    )
    attributes = forms.CharField(
        max_length=4000,
        required=False,
        label="What it may say of them",
        help_text="Names of attributes, such as tier country. With a value, tenant=acme, that is said of all of them.",
    )
    tool_scopes = forms.CharField(
        max_length=4000,
        initial=EVERY_SCOPE,
        required=False,
        label="What its runs may do at most",
        help_text="Tool scopes, such as orders:read refunds:write; * for whatever you may.",
    )

    def __init__(self, *args: Any, actor: Actor, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        held = {permission for permission, _ in actor.rights}
        scopes = self.fields["scopes"]
        assert isinstance(scopes, forms.MultipleChoiceField)
        scopes.choices = [
            (name, f"{label[:1].upper()}{label[1:]}") for name, label in roles.declared().items() if name in held
        ]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        chosen = data.get("acts_for") or "any"
        patterns = {"any": [ANY], "itself": []}.get(chosen, data.get("end_users", "").split())
        if chosen == "some" and not patterns:
            self.add_error("end_users", "Say which, or choose another of the three above.")
        try:
            self.grant = principals.read_grant(patterns, data.get("attributes", "").split())
        except principals.BadClaim as wrong:
            for name, sentence in wrong.errors.items():
                self.add_error(name, sentence)
        return data

    @property
    def tools(self) -> list[str]:
        return self.cleaned_data["tool_scopes"].split() or [EVERY_SCOPE]

    @property
    def expires_in(self) -> timedelta:
        return timedelta(days=int(self.cleaned_data["days"]))
