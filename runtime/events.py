"""Events of a run beside its steps. Each takes the next number of the run's `seq`, so readers see one order."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import F

from console import redact
from runtime.models import Run, RunEvent


def next_seq(run_id: UUID) -> int:
    """Take the run's next number; the caller's transaction holds the run's row from here on."""
    Run.objects.filter(pk=run_id).update(seq=F("seq") + 1)
    return int(Run.objects.values_list("seq", flat=True).get(pk=run_id))


def append(run: Run, kind: str, *, by: str = "", **data: Any) -> RunEvent:
    return RunEvent.objects.create(run=run, seq=next_seq(run.pk), kind=kind, by_label=by, data=redact.value(data))
