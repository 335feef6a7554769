"""What the columns of runs and steps may hold is said by domains of the database; see `runtime.models.domains`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from django.db import IntegrityError, connection, transaction

from runtime.models import Run, RunEvent, Step
from runtime.states import Hold, RunKind, RunPriority, RunStatus, StepKind, StepStatus
from tests.builders import a_run, a_step

pytestmark = pytest.mark.django_db

WORDS: dict[str, Iterable[str]] = {
    "runtime_run_kind": RunKind,
    "runtime_run_status": RunStatus,
    "runtime_run_priority": RunPriority,
    "runtime_run_held_for": ["", *Hold],
    "runtime_step_kind": StepKind,
    "runtime_step_status": StepStatus,
}


@pytest.mark.parametrize("domain", WORDS)
def test_a_domain_knows_the_words_that_the_product_uses(domain: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = %s::regtype", [domain])
        [(check,)] = cursor.fetchall()

    assert set(re.findall(r"'([a-z]*)'::character varying", check)) == set(WORDS[domain])


@pytest.mark.parametrize(
    ("model", "column", "value"),
    [
        (Run, "status", "done"),
        (Run, "priority", "soon"),
        (Run, "held_for", "ransom"),
        (Run, "seq", -1),
        (Run, "output_tokens", -1),
        (Run, "recoveries", -1),
        (Step, "kind", "dance"),
        (Step, "status", "perhaps"),
        (Step, "done_seq", -1),
        (Step, "attempt", -1),
        (RunEvent, "seq", -1),
    ],
)
def test_a_column_takes_nothing_else(model: type[Run | Step | RunEvent], column: str, value: object) -> None:
    run = a_run()
    a_step(run)
    RunEvent.objects.create(run=run, seq=900, kind="run.created")

    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.update(**{column: value})


@pytest.mark.parametrize("table", ["runtime_run", "runtime_step", "runtime_steppayload", "runtime_runevent"])
def test_no_table_that_every_operation_writes_to_has_checks_beside_them(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT conname FROM pg_constraint WHERE contype = 'c' AND conrelid = %s::regclass", [table])
        assert cursor.fetchall() == []
