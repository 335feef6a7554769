"""What a replay has done, counted in the database from the runs of its threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum

from runtime.models import Run, Step
from runtime.states import StepKind, StepStatus, StepVerdict

CHUNK = 500
CALLS = Q(kind__in=[StepKind.TOOL, StepKind.RETRIEVAL])
# Each proposed call ends in exactly one of these.
VERDICTS = {
    "allowed": CALLS & ~Q(rule="approved"),
    "approved": CALLS & Q(rule="approved"),
    "refused": Q(kind=StepKind.GUARDRAIL, verdict=StepVerdict.REFUSED) & ~Q(call_id=""),
    "rejected": Q(kind=StepKind.APPROVAL, verdict=StepVerdict.REJECTED),
    "expired": Q(kind=StepKind.APPROVAL, verdict=StepVerdict.EXPIRED),
    "waiting": Q(kind=StepKind.APPROVAL, status=StepStatus.STARTED),
}
ANSWERS = {
    "granted": Q(kind=StepKind.APPROVAL, verdict__in=[StepVerdict.APPROVED, StepVerdict.EDITED]),
    "denied": Q(kind=StepKind.APPROVAL, verdict=StepVerdict.REJECTED),
    "open": Q(kind=StepKind.APPROVAL, status=StepStatus.STARTED),
}
# Each write asks; what the engine made of where its values come from is kept with the question.
ASKED = Q(kind=StepKind.GUARDRAIL, verdict=StepVerdict.ASKED)
JUSTIFIED, NOTHING_READ = "justified", "nothing_read"
SUMS = ("model_calls", "tool_errors", "approvals_asked", "input_tokens", "cached_tokens", "output_tokens", "cost_usd")


@dataclass
class Figures:
    runs: Counter[str] = field(default_factory=Counter)  # by status
    causes: Counter[str] = field(default_factory=Counter)
    tool_calls: Counter[str] = field(default_factory=Counter)  # by verdict
    approvals: Counter[str] = field(default_factory=Counter)  # granted, denied, open
    writes: Counter[str] = field(default_factory=Counter)  # by what speaks for their values: see `_writes`
    cost_basis: Counter[str] = field(default_factory=Counter)  # model calls by how sure their cost is
    sums: dict[str, Any] = field(default_factory=lambda: {name: Decimal(0) for name in SUMS})

    def __getitem__(self, name: str) -> int:
        return int(self.sums[name])


def of(threads: Sequence[UUID]) -> Figures:
    """Count over all runs of the threads."""
    found = Figures()
    for part in _chunks(threads):
        runs = Run.objects.filter(thread__in=part).order_by()
        found.runs.update(dict(runs.values_list("status").annotate(Count("id"))))
        found.causes.update({cause: count for cause, count in runs.values_list("cause").annotate(Count("id")) if cause})
        for name, total in runs.aggregate(**{name: Sum(name) for name in SUMS}).items():
            found.sums[name] += total or 0
        steps = Step.objects.filter(run__thread__in=part).order_by()
        counts = {**VERDICTS, **ANSWERS}
        counted = steps.aggregate(**{name: Count("id", filter=which) for name, which in counts.items()})
        found.tool_calls.update({name: counted[name] for name in VERDICTS})
        found.approvals.update({name: counted[name] for name in ANSWERS})
        found.writes.update(_writes(steps))
        answered = steps.filter(kind=StepKind.MODEL, status=StepStatus.DONE)
        found.cost_basis.update(dict(answered.values_list("cost_basis").annotate(Count("id"))))
    return found


def _writes(steps: QuerySet[Step]) -> dict[str, int]:
    """Writes whose values the user, his records or the system speak for; that came before anything of an outsider was
    read; and the others, by the rule of `policies.provenance` that would ask about them.
    """
    judged = "payload__output__provenance"
    counted = steps.filter(ASKED).values_list(f"{judged}__is_justified", f"{judged}__rule").annotate(Count("id"))
    found: Counter[str] = Counter()
    for is_justified, rule, count in counted:
        found[NOTHING_READ if rule is None else JUSTIFIED if is_justified else rule] += count
    return dict(found)


def _chunks(threads: Sequence[UUID]) -> Iterator[Sequence[UUID]]:
    for start in range(0, len(threads), CHUNK):
        yield threads[start : start + CHUNK]
