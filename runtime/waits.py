"""Why nobody works on a run, for one page or answer: the facts of each run, and the switches asked for at most once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from releases import switches
from releases.policies import switching
from releases.policies.switching import Engaged
from runtime.models import Run
from runtime.policies import waiting
from runtime.policies.waiting import Facts, Reason
from runtime.states import RunStatus


@dataclass
class Waits:
    now: datetime
    engaged: Sequence[Engaged] | None = None

    def reason(self, run: Run) -> Reason | None:
        """None for a run that is worked on or has ended. The run comes with its agent."""
        is_due = run.wake_at is None or run.wake_at <= self.now
        is_new = run.status == RunStatus.QUEUED and run.started_at is None and is_due and not run.held_for
        facts = Facts(
            status=run.status,
            said=run.wait_reason,
            hold=run.held_for,
            is_due=is_due,
            has_begun=run.started_at is not None,
            is_stopped=is_new and self._is_stopped(run.agent.slug),
        )
        return waiting.decide_reason(facts)

    def _is_stopped(self, agent: str) -> bool:
        if self.engaged is None:
            self.engaged = switches.engaged()
        return switching.decide_start(self.engaged, agent=agent) is not None
