"""Whatever order a journal is written in, and wherever a listener is cut off, it hears each entry once and in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from django.utils.timezone import now
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from console import ids
from runtime import masking, streams
from runtime.models import Run, RunEvent, Step
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import a_run

pytestmark = pytest.mark.django_db

WRITES = st.sampled_from(["begin", "finish first", "finish last", "at once", "event"])
LISTENS = st.integers(min_value=0, max_value=4)  # how many events come through before the line is cut


@dataclass
class Journal:
    """Writes as a worker and a deciding person do: each entry takes the next number, whenever its step began."""

    run: Run
    open: list[Step] = field(default_factory=list)
    expected: list[tuple[int, str]] = field(default_factory=list)

    def write(self, what: str) -> None:
        if what == "begin":
            self.open.append(self._step(self._next("step.started"), None, StepStatus.STARTED))
        elif what == "at once":
            seq = self._next("step.finished")
            self._step(seq, seq, StepStatus.DONE)
        elif what == "event":
            RunEvent.objects.create(run=self.run, seq=self._next("run.note"), kind="run.note")
        elif self.open:
            step = self.open.pop(0 if what == "finish first" else -1)
            done = self._next("step.finished")
            Step.objects.filter(pk=step.pk).update(status=StepStatus.DONE, finished_at=now(), done_seq=done)

    def end(self) -> None:
        seq = self._next("run.finished")
        RunEvent.objects.create(run=self.run, seq=seq, kind="run.finished")
        Run.objects.filter(pk=self.run.pk).update(status=RunStatus.SUCCEEDED, finished_at=now())

    def _next(self, name: str) -> int:
        self.run.seq += 1
        Run.objects.filter(pk=self.run.pk).update(seq=self.run.seq)
        self.expected.append((self.run.seq, name))
        return self.run.seq

    def _step(self, seq: int, done: int | None, status: StepStatus) -> Step:
        moment = now()
        return Step.objects.create(
            run=self.run, seq=seq, done_seq=done, kind=StepKind.TOOL, name="x", status=status, started_at=moment,
            finished_at=moment if done else None,
        )  # fmt: skip


@dataclass
class Listener:
    """Resumes after the last event that came through, like any client with Last-Event-ID."""

    run: Run
    heard: list[tuple[int, str]] = field(default_factory=list)

    def listen(self, most: int) -> bool:
        """True when the stream has told its end."""
        after = self.heard[-1][0] if self.heard else 0
        batch = streams.look(self.run.pk, after, masking._as_it_is)
        for number, name, _ in batch.events[:most]:
            self.heard.append((number, name))
        return batch.is_over and len(batch.events) <= most


@pytest.fixture
def template() -> Run:
    return a_run(RunStatus.RUNNING)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.tuples(WRITES, LISTENS), max_size=14), batch=st.integers(1, 4), last=st.integers(1, 3))
def test_each_entry_is_heard_once_and_in_order(template, story, batch, last):
    columns = {one.attname: getattr(template, one.attname) for one in Run._meta.concrete_fields}
    run = Run.objects.create(**{**columns, "id": ids.new(), "seq": 0, "held_for": "timer"})
    journal, listener = Journal(run), Listener(run)
    before, streams.BATCH = streams.BATCH, batch
    try:
        for what, most in story:
            journal.write(what)
            listener.listen(most)
        journal.end()
        while not listener.listen(last):
            pass
    finally:
        streams.BATCH = before

    assert listener.heard == journal.expected
