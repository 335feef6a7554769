"""What a person may do with a run now, as its page offers it: pause, resume, stop, retry."""

from __future__ import annotations

from dataclasses import dataclass

from console import ids
from console.actors import Actor
from runtime import forks
from runtime.forks import Again, Which
from runtime.models import Run, Step
from runtime.states import RunStatus

MOST_NAMED = 5


@dataclass(frozen=True)
class Choice:
    value: Which
    label: str


@dataclass(frozen=True)
class Retry:
    """The form that starts a new run from a step; without one, from the beginning."""

    step: str
    choices: list[Choice]
    again: list[Again]  # changing calls that may be made a second time
    more: int
    cancels: bool  # the run is paused and ends by it
    form_id: str


@dataclass(frozen=True)
class Controls:
    state: str  # changes whenever other buttons are due
    may_pause: bool
    may_resume: bool
    may_cancel: bool
    start_again: Retry | None


def of(run: Run, by: Actor) -> Controls:
    """The run comes with its agent, the agent's active release, and its own release."""
    is_going = not run.is_final and run.cancel_requested_at is None
    is_asked = run.status == RunStatus.PAUSED or (run.pause_requested_at is not None and not run.is_final)
    may_pause = by.may("runs.pause", agent=run.agent.slug)
    return Controls(
        state=state(run),
        may_pause=is_going and not is_asked and may_pause,
        may_resume=is_going and is_asked and may_pause,
        may_cancel=is_going and by.may("runs.cancel", agent=run.agent.slug),
        start_again=retry(run, by, None) if run.is_final else None,
    )


def state(run: Run) -> str:
    asked = "stop" if run.cancel_requested_at else "pause" if run.pause_requested_at else ""
    return f"{run.status} {asked}".strip()


def retry(run: Run, by: Actor, step: Step | None) -> Retry | None:
    """None when this run cannot be retried now, or not by this person."""
    is_paused = run.status == RunStatus.PAUSED
    may = by.may("runs.create", agent=run.agent.slug) and (not is_paused or by.may("runs.cancel", agent=run.agent.slug))
    if not may or forks.why_not(run):
        return None
    again = forks.done_after(run, step.seq if step else 0)
    return Retry(
        step=step.public_id if step else "",
        choices=_choices(run),
        again=again[:MOST_NAMED],
        more=len(again[MOST_NAMED:]),
        cancels=is_paused,
        form_id=ids.public("frm", ids.new()),
    )


def _choices(run: Run) -> list[Choice]:
    active = run.agent.active_release
    found = [Choice(Which.SAME, f"The same release, {run.release.version}")]
    if active and active.pk != run.release_id:
        found.append(Choice(Which.ACTIVE, f"The active release, {active.version}"))
    return found
