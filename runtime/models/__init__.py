"""The tables of the runtime. Each file is named after the module of the verbs that write its rows."""

from runtime.models.breakers import Breaker
from runtime.models.deliveries import Callback, CallbackKey, Delivery, DeliveryAttempt
from runtime.models.deliveries import _end_only as _end_only  # a migration calls it
from runtime.models.journal import Draft, RunEvent, Step, StepPayload
from runtime.models.ledgers import Ledger, Reservation
from runtime.models.memories import Memory
from runtime.models.rulings import RuleCount
from runtime.models.runs import Run, RunQuerySet
from runtime.models.schedules import Occurrence, Schedule
from runtime.models.tallies import TalliedCall, Tally
from runtime.models.threads import Recording, Thread
from runtime.models.workers import Worker

__all__ = [
    "Breaker",
    "Callback",
    "CallbackKey",
    "Delivery",
    "DeliveryAttempt",
    "Draft",
    "Ledger",
    "Memory",
    "Occurrence",
    "Recording",
    "Reservation",
    "RuleCount",
    "Run",
    "RunEvent",
    "RunQuerySet",
    "Schedule",
    "Step",
    "StepPayload",
    "TalliedCall",
    "Tally",
    "Thread",
    "Worker",
]
