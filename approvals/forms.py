"""What a person typed into a decision, as edits of the call's arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from approvals.models import ApprovalRequest
from console import problems

PREFIX = "arg-"
REASONS = [
    "Policy does not allow it",
    "The amount is wrong",
    "Wrong customer or order",
    "More information is needed first",
    "The customer should talk to a person",
]


def text_of(value: Any) -> str:
    """An argument as it stands in its input."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def edits(request: ApprovalRequest, posted: Mapping[str, str]) -> dict[str, Any]:
    """The arguments whose text differs from what was shown, each in the type the proposal has.

    Fields that were not offered for editing pass through, so that the verb refuses them by name.

    Raises:
        problems.Invalid: a text cannot be read as that type.
    """
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for key, text in posted.items():
        name = key.removeprefix(PREFIX)
        if not key.startswith(PREFIX) or _same(text, text_of(request.arguments.get(name))):
            continue
        try:
            found[name] = _typed(text, request.arguments.get(name))
        except ValueError:
            errors[name] = f"{text[:60]!r} cannot be read as {_kind(request.arguments.get(name))}."
    if errors:
        raise problems.Invalid("Some edits cannot be used. Nothing was decided.", errors=errors)
    return found


def reason(posted: Mapping[str, str]) -> str:
    """The chosen preset and what was written beside it, as one sentence."""
    parts = [posted.get("preset", "").strip(), posted.get("reason", "").strip()]
    return ": ".join(part for part in parts if part)


def _same(posted: str, shown: str) -> bool:
    # Browsers send line breaks as CR LF.
    return posted.replace("\r\n", "\n") == shown.replace("\r\n", "\n")


def _typed(text: str, like: Any) -> Any:
    text = text.replace("\r\n", "\n")
    if isinstance(like, bool):
        return {"true": True, "false": False}[text] if text in ("true", "false") else _refuse()
    if isinstance(like, int):
        return int(text)
    if isinstance(like, float):
        number = float(text)
        return number if number - number == 0 else _refuse()  # neither infinite nor not a number
    if isinstance(like, list | dict):
        return json.loads(text)
    return text


def _refuse() -> Any:
    raise ValueError


def _kind(like: Any) -> str:
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "yes or no"),
        (int, "a whole number"),
        (float, "a number"),
        ((list, dict), "JSON"),
    ]
    return next((word for kind, word in kinds if isinstance(like, kind)), "text")
