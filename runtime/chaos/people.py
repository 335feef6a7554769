"""Who answers during chaos: approves, rejects, and says whether a call has happened after looking."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console.actors import system
from console.problems import Problem
from console.states import IllegalMove
from runtime import calls

LOOK_S = 0.3
REJECTED = 0.2  # of the questions whether to make a call


class People(threading.Thread):
    """Answers every open question of the agent until `closing` is set.

    `may_look` says whether the outside stands still: a call of a frozen process may still arrive, so nobody can say yet
    that it did not happen.
    """

    def __init__(self, agent: str, *, seed: int, may_look: Callable[[], bool]) -> None:
        super().__init__(name="people", daemon=True)
        self.agent = agent
        self.chance = random.Random(seed)
        self.may_look = may_look
        self.answered: Counter[str] = Counter()
        self.closing = threading.Event()

    def run(self) -> None:
        while not self.closing.wait(LOOK_S):
            close_old_connections()
            try:
                self._answer_all()
            except (DatabaseError, InterfaceError):
                connection.close()
        connection.close()

    def _answer_all(self) -> None:
        open_ones = ApprovalRequest.objects.filter(agent=self.agent, status=ApprovalStatus.PENDING)
        for request in open_ones[:50]:
            is_settlement = request.subject_kind == calls.SETTLEMENT
            if is_settlement and not self.may_look():
                continue
            verdict = self._looked(request) if is_settlement else self._judged()
            try:
                requests.decide(request.pk, verdict, by=system("chaos"), reason="decided by chaos")
            except (Problem, IllegalMove):  # decided, expired or withdrawn in the meantime
                continue
            self.answered[f"{'settled' if is_settlement else 'asked'}: {verdict}"] += 1

    def _judged(self) -> Verdict:
        return Verdict.REJECT if self.chance.random() < REJECTED else Verdict.APPROVE

    def _looked(self, request: ApprovalRequest) -> Verdict:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM chaos_effect WHERE mark = %s", [request.arguments["mark"]])
            return Verdict.APPROVE if cursor.fetchone() else Verdict.REJECT
