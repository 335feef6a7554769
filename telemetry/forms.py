from __future__ import annotations

from django import forms

from telemetry import feedback
from telemetry.models import Feedback


class FeedbackForm(forms.Form):
    score = forms.TypedChoiceField(
        choices=[(Feedback.HELPFUL, "Helpful"), (Feedback.UNHELPFUL, "Not helpful")], coerce=int, empty_value=None
    )
    comment = forms.CharField(required=False, max_length=feedback.LONGEST_COMMENT)
