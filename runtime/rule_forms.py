"""The form of a rule: the common cases as fields, and an expression for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.http import QueryDict

from console import problems, roles
from releases import rulebooks
from releases.bundles import Bundle, Rule
from releases.policies import sentences
from runtime import backtests

MOST_CONDITIONS = 3
WHOLE = re.compile(r"-?\d{1,15}")
WITHOUT_VALUE = ("present", "absent")
LISTS = ("in", "not_in")
TRIED = {"id": "new-rule", "reason": "No reason yet."}


class RuleForm(forms.Form):
    tool = forms.ChoiceField(label="Tool")
    condition = forms.CharField(
        label="Expression in CEL",
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "mono", "autocapitalize": "none"}),
        help_text="Holds beside the comparisons: totals.principal.after.sum.amount > 500.0 && tainted",
    )
    then = forms.ChoiceField(
        label="Then", choices=[("ask", "ask people"), ("refuse", "refuse the call"), ("allow", "allow it")]
    )
    mode = forms.ChoiceField(
        label="Mode", choices=[("enforce", "in force"), ("log", "only log what it would do")], required=False
    )
    id = forms.CharField(label="Name of the rule", max_length=80, required=False, help_text="refund-limit")
    version = forms.CharField(label="Its version", max_length=20, required=False, initial="1")
    reason = forms.CharField(
        label="Reason", max_length=500, required=False, help_text="One sentence for the agent and for who is asked."
    )
    risk = forms.ChoiceField(
        label="Risk", choices=[(one, one) for one in ("low", "medium", "high")], required=False, initial="medium"
    )
    due_minutes = forms.IntegerField(
        label="Decide within, minutes", min_value=1, max_value=60 * 24 * 14, required=False, initial=60
    )
    approvals_needed = forms.TypedChoiceField(
        label="People who must approve", choices=[(1, "1"), (2, "2"), (3, "3")], coerce=int, required=False
    )
    ask_roles = forms.MultipleChoiceField(
        label="Only with the role", required=False, widget=forms.CheckboxSelectMultiple
    )
    four_eyes = forms.BooleanField(label="Not who started the run or made the release", required=False)
    calls = forms.IntegerField(
        label="Past calls to look at",
        min_value=1,
        max_value=backtests.MOST_CALLS,
        required=False,
        initial=backtests.USUAL_CALLS,
    )

    def __init__(self, data: QueryDict | None = None, *, bundle: Bundle, rule: Rule | None = None) -> None:
        """With `rule` the form begins with what that one says."""
        super().__init__(data, initial=_initial(rule) if rule else None)
        self.bundle = bundle
        self._choices("tool", [(tool.name, tool.name) for tool in bundle.tools])
        may = sorted(role.value for role in roles.holders("approvals.decide"))
        self._choices("ask_roles", [(role, role) for role in may])
        self.rows = [self._row(number, rule) for number in range(MOST_CONDITIONS)]
        for name in ("id", "version", "reason"):
            self.fields[name].widget.attrs.update({"autocomplete": "off", "spellcheck": "false"})

    def _choices(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def _row(self, number: int, rule: Rule | None) -> dict[str, str]:
        """One comparison as it was sent, or as the rule has it."""
        names = {part: f"{part}_{number}" for part in ("argument", "op", "value")}
        if self.is_bound:
            return {part: str(self.data.get(name, ""))[:1000] for part, name in names.items()}
        when = rule.when[number : number + 1] if rule else []
        return {"argument": when[0].argument, "op": when[0].op, "value": _text(when[0].value)} if when else {}

    @property
    def operators(self) -> list[tuple[str, str]]:
        return list(sentences.OPERATORS.items())

    @property
    def arguments(self) -> list[str]:
        """Every argument of the release's tools, for the list that the fields offer."""
        found = {name for tool in self.bundle.tools for name in tool.parameters.get("properties", {})}
        return sorted(found | {name for tool in self.bundle.tools for name in tool.arguments})

    def rule(self, *, is_saved: bool) -> Rule | None:
        """What was written, as a rule of the bundle. None when it cannot be used; the fields then say why.

        To be tried, a rule needs neither name nor reason.
        """
        if not self.is_valid():
            return None
        content = {**self._content(), **({} if is_saved else self._placeholders())}
        try:
            return rulebooks.rule_of(content, self.bundle)
        except problems.Invalid as wrong:
            for place, sentence in (wrong.extra.get("errors") or {}).items():
                self._refuse(place, sentence)
            return None

    def _content(self) -> dict[str, Any]:
        given: dict[str, Any] = self.cleaned_data
        names = ("tool", "condition", "then", "id", "reason", "ask_roles", "four_eyes")
        optional = ("mode", "version", "risk", "due_minutes", "approvals_needed")
        return {
            **{name: given[name] for name in names},
            **{name: given[name] for name in optional if given[name]},
            "when": [_condition(row) for row in self.rows if row.get("argument")],
        }

    def _placeholders(self) -> dict[str, str]:
        return {name: text for name, text in TRIED.items() if not self.cleaned_data[name]}

    def _refuse(self, place: str, sentence: str) -> None:
        name = place.partition(".")[0]
        if name in self.fields:
            self.add_error(name, sentence)
        else:
            self.add_error(None, f"{place}: {sentence}" if name != "when" else sentence)


def _condition(row: Mapping[str, str]) -> dict[str, Any]:
    op, text = row["op"], row["value"].strip()
    if op in WITHOUT_VALUE:
        return {"argument": row["argument"], "op": op}
    value: Any = [_typed(part) for part in text.split(",")] if op in LISTS else _typed(text)
    return {"argument": row["argument"], "op": op, "value": value}


def _typed(text: str) -> Any:
    text = text.strip()
    return int(text) if WHOLE.fullmatch(text) else text


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _initial(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(mode="json") | {
        "condition": rule.condition,
        "mode": rule.mode,
        "approvals_needed": rule.approvals_needed,
        "ask_roles": [role.value for role in rule.ask_roles],
        "calls": backtests.USUAL_CALLS,
    }
