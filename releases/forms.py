"""What arrives from the pages of agents, releases and switches."""

from __future__ import annotations

from django import forms

from console import envelope, problems
from releases.states import Scope, SwitchEffect

LARGEST_BUNDLE = 1_000_000


class ReleaseForm(forms.Form):
    """A bundle as pasted or uploaded JSON. What was typed is kept whatever is wrong with it."""

    bundle = forms.CharField(
        label="Bundle as JSON",
        required=False,
        max_length=LARGEST_BUNDLE,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 24, "spellcheck": "false", "class": "mono"}),
    )
    file = forms.FileField(label="Or a file", required=False, help_text="A .json file; it goes before the text.")
    note = forms.CharField(
        label="What is new", required=False, max_length=500, help_text="One sentence for those who read the history."
    )

    def text(self) -> str:
        """The JSON that was sent.

        Raises:
            problems.Invalid: nothing was sent, or the file is too large or no text.
        """
        upload = self.files.get("file")
        if upload is None:
            text = str(self.data.get("bundle", ""))
            if not text.strip():
                raise problems.Invalid("Paste a bundle or choose a file.", errors={"bundle": "Nothing was sent."})
            return text
        if (upload.size or 0) > LARGEST_BUNDLE:
            raise problems.Invalid(
                f"The file has {upload.size:,} bytes; at most {LARGEST_BUNDLE:,} are taken.",
                errors={"file": "Too large."},
            )
        try:
            return str(upload.read().decode("utf-8-sig"))
        except UnicodeDecodeError as wrong:
            raise problems.Invalid("The file is not UTF-8 text.", errors={"file": "Not a text."}) from wrong


def content(text: str) -> object:
    """The bundle's JSON, read strictly.

    Raises:
        problems.Invalid: it is no JSON; says where.
    """
    try:
        return envelope.read_json(text)
    except ValueError as wrong:
        raise problems.Invalid(f"This is not JSON that can be used: {wrong}.", errors={"bundle": str(wrong)}) from wrong


class EngageForm(forms.Form):
    scope = forms.ChoiceField(choices=[(scope.value, scope.value) for scope in Scope])
    effect = forms.ChoiceField(choices=[(effect.value, effect.value) for effect in SwitchEffect])
    target = forms.CharField(max_length=120, required=False)
    reason = forms.CharField(max_length=2000, required=False)
