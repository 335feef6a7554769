"""Whether a recording still speaks about what happens in the run that replays it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.states import RunStatus


@dataclass(frozen=True)
class Told:
    """One call of the last recorded answer: what the run told the model of it, and what the recording holds."""

    tool: str
    is_write: bool
    is_error: bool  # the run has no result: refused, rejected, expired or failed
    by_person: bool  # a person decided against it, or nobody decided in time
    recorded_error: bool | None  # None: no result was recorded


@dataclass(frozen=True)
class Speaks:
    pass


@dataclass(frozen=True)
class Diverged:
    reason: str


def decide_next(calls: Iterable[Told]) -> Speaks | Diverged:
    """Say whether the next recorded answer may be given after these calls.

    A call that was made has its recorded result, so the recording goes on. One that was not made ends it, because
    the next recorded answer would report a result that does not exist here. Two exceptions: the call failed in the
    recording as well, so that in both nothing happened; or a reading call has no recorded result at all, so that
    the recorded model did not see one either. A person's decision against a call always ends the recording: its
    words were said without that decision.
    """
    for call in calls:
        if not call.is_error:
            continue
        if call.by_person:
            return Diverged(f"{call.tool} was not approved; the recorded answer was given after it was made.")
        if call.recorded_error is False:
            return Diverged(f"{call.tool} was not made; the recorded answer was given after it was made.")
        if call.recorded_error is None and call.is_write:
            return Diverged(f"{call.tool} has no recorded result; the recorded answer may claim that it happened.")
    return Speaks()


@dataclass(frozen=True)
class Ended:
    """How the run of a turn ended."""

    status: RunStatus
    cause: str
    diverged: bool  # a model call of the run failed because the recording no longer spoke about it


def decide_next_turn(run: Ended) -> Speaks | Diverged:
    """Say whether the next turn of the conversation may start after this run.

    It may when the run did what was recorded: it answered, handed off, or ended where the recording itself has
    no answer.
    """
    if not run.diverged and run.status in (RunStatus.SUCCEEDED, RunStatus.ESCALATED):
        return Speaks()
    if run.status == RunStatus.FAILED and run.cause in RECORDED_ENDS:
        return Speaks()
    if run.status == RunStatus.WAITING:
        return Diverged("The turn before waits for a person.")
    return Diverged(f"The turn before ended as {run.status} ({run.cause}); the recording speaks about another course.")


RECORDED_ENDS = frozenset({"recording_ended", "recording_empty"})
