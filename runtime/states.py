"""Every status of a run and of a step, and every legal move of a run."""

from enum import StrEnum


class RunStatus(StrEnum):
    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds it
    WAITING = "waiting"  # parked until a person decides
    PAUSED = "paused"  # parked until somebody resumes it
    SUCCEEDED = "succeeded"  # the agent answered
    REFUSED = "refused"  # the agent or a rule declined; not a failure
    ESCALATED = "escalated"  # handed off to a person
    FAILED = "failed"
    CANCELLED = "cancelled"  # somebody stopped it
    EXPIRED = "expired"  # nobody decided in time


_ENDS = frozenset(
    {
        RunStatus.SUCCEEDED,
        RunStatus.REFUSED,
        RunStatus.ESCALATED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
        RunStatus.EXPIRED,
    }
)

_PARKED_ENDS = frozenset({RunStatus.CANCELLED, RunStatus.EXPIRED, RunStatus.FAILED})

RUN_MOVES = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.RUNNING: _ENDS | {RunStatus.QUEUED, RunStatus.WAITING, RunStatus.PAUSED},
    # Failed: a person gave up on a call of which nobody can say whether it happened.
    RunStatus.WAITING: _PARKED_ENDS | {RunStatus.QUEUED, RunStatus.PAUSED},
    # Its question stays open, and may end it, while it is paused.
    RunStatus.PAUSED: _PARKED_ENDS | {RunStatus.QUEUED, RunStatus.WAITING},
    **{end: frozenset() for end in _ENDS},
}

FINAL = _ENDS
PARKED = frozenset({RunStatus.WAITING, RunStatus.PAUSED})  # no worker holds it, and its working time rests


class Hold(StrEnum):
    """What a queued run needs before a worker may claim it. A run at work keeps SLOT for when it is queued again."""

    TIMER = "timer"  # its time has not come
    THREAD = "thread"  # an earlier run of its thread has not ended
    SLOT = "slot"  # as many runs as allowed are at work for its agent, principal or model


class Overlap(StrEnum):
    """What a schedule does at its time while its run before has not ended."""

    SKIP = "skip"
    QUEUE = "queue"  # the new run starts when the one before has ended


class DueOutcome(StrEnum):
    STARTED = "started"
    SKIPPED = "skipped"  # the run before had not ended
    REFUSED = "refused"  # runs were paused, the queue was full, or a right was gone


class OnBusy(StrEnum):
    """What happens to a message for a thread whose last run has not ended."""

    REJECT = "reject"
    QUEUE = "queue"  # it waits for its turn
    INTERRUPT = "interrupt"  # the run at work is cancelled


class RunKind(StrEnum):
    LIVE = "live"
    SHADOW = "shadow"
    EVAL = "eval"
    DRILL = "drill"
    REPLAY = "replay"


class RunPriority(StrEnum):
    """Which queue a run waits in. A worker takes them in this order and keeps places free for those before."""

    INTERACTIVE = "interactive"  # somebody waits for the answer
    BACKGROUND = "background"  # drills and replays, and what its starter says may wait
    EVALUATION = "evaluation"  # evals and shadows: never at the expense of the others


class StepKind(StrEnum):
    INPUT = "input"
    MODEL = "model"
    TOOL = "tool"
    RETRIEVAL = "retrieval"
    GUARDRAIL = "guardrail"
    APPROVAL = "approval"
    ANSWER = "answer"


class StepStatus(StrEnum):
    STARTED = "started"  # committed before the call; the result is not known yet
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # it may or may not have happened; a person settles it


class StepVerdict(StrEnum):
    ALLOWED = "allowed"
    REFUSED = "refused"
    ASKED = "asked"
    PASSED = "passed"
    FLAGGED = "flagged"
    REDACTED = "redacted"  # what was found is taken out, and the rest goes on
    APPROVED = "approved"
    EDITED = "edited"
    REJECTED = "rejected"
    EXPIRED = "expired"
    NONE = ""


class CallbackEvent(StrEnum):
    """What a caller can ask to be told of: changes of a run's state."""

    STARTED = "run.started"
    RESUMED = "run.resumed"
    WAITING = "run.waiting"
    UNKNOWN_EFFECT = "run.unknown_effect"
    PAUSED = "run.paused"
    PAUSE_ENDED = "run.pause_ended"
    CANCEL_REQUESTED = "run.cancel_requested"
    FINISHED = "run.finished"


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


DELIVERY_MOVES = {
    DeliveryStatus.PENDING: frozenset({DeliveryStatus.DELIVERED, DeliveryStatus.GIVEN_UP}),
    DeliveryStatus.DELIVERED: frozenset({DeliveryStatus.PENDING}),  # a person sends it again
    DeliveryStatus.GIVEN_UP: frozenset({DeliveryStatus.PENDING}),
}


class BreakerKind(StrEnum):
    TOOL = "tool"
    MODEL = "model"


class BreakerState(StrEnum):
    CLOSED = "closed"  # calls pass
    OPEN = "open"  # calls are refused until its time is over
    HALF_OPEN = "half_open"  # one call goes through as a probe; the others are refused
    HELD = "held"  # an operator keeps it open
