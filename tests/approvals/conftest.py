from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from approvals import subjects
from approvals.models import ApprovalRequest, Decision
from console import problems

KIND = "test.subject"


class Subject:
    """Stands for whatever asked. Takes amounts below a thousand, writes them canonically, remembers every answer."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, Any]] = []
        self.fails = False

    def check(self, request: ApprovalRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if float(arguments["amount"]) >= 1000:
            raise problems.Invalid("At most 999.", errors={"amount": "At most 999."})
        return {**arguments, "amount": f"{float(arguments['amount']):.2f}"}

    def decided(self, request: ApprovalRequest, decision: Decision) -> None:
        if self.fails:
            raise RuntimeError("the run cannot be woken")
        self.answers.append((decision.verdict, decision.arguments))

    def ended(self, request: ApprovalRequest) -> None:
        self.answers.append(("ended", None))


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    found = Subject()
    monkeypatch.setitem(subjects._handlers, KIND, found)
    return found
