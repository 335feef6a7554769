"""The work to measure: an agent of its own, runs made in bulk, and their removal."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import django_rq
from django.db import connection, transaction
from django.utils.timezone import now

from approvals.models import ApprovalRequest
from console import ids, queue
from console.actors import EVERY_SCOPE
from releases import bundles
from releases.models import Agent, Release
from runtime import tools
from runtime.bench import scenes
from runtime.bench.knobs import Knobs
from runtime.models import Run, RunEvent, Thread, Worker
from runtime.states import FINAL, RunStatus

BATCH = 500
BUDGETS = {
    "max_steps": 10_000,
    "max_tool_calls": 5_000,
    "max_tokens": 1_000_000_000,
    "max_cost_usd": "1000",
    "max_seconds": 86_400,
}


class Load:
    """The runs of one measurement, under a tag that marks everything that it makes."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.tag = f"bench-{knobs.workload.lower()}-{uuid.uuid4().hex[:8]}"
        self.release = _release(self.tag, knobs)
        self.queue = django_rq.get_queue(queue.RUNS)
        self.held = f"{self.tag}:held"
        self.runs: list[UUID] = []

    @property
    def agent(self) -> Agent:
        return self.release.agent

    def create(self, count: int) -> list[UUID]:
        """Make that many runs, each in a thread of its own and for a person of its own."""
        made = []
        for start in range(0, count, BATCH):
            with transaction.atomic():
                made += self._create(range(start, min(start + BATCH, count)))
        self.runs += made
        return made

    def offer(self, runs: Sequence[UUID], *, hold: bool = False) -> None:
        """Put a job for each into the queue. Held ones are out of sight until `release_held`."""
        jobs = []
        for run_id in runs:
            key = ids.public("run", run_id)
            jobs.append(
                self.queue.prepare_data(
                    "runtime.jobs.run_turn", args=(key,), job_id=f"{key}-0", result_ttl=0, failure_ttl=86400
                )
            )
        with self.queue.connection.pipeline(transaction=True) as pipeline:
            self.queue.enqueue_many(jobs, pipeline=pipeline)
            if hold:
                pipeline.rename(self.queue.key, self.held)
            pipeline.execute()

    def release_held(self) -> None:
        self.queue.connection.rename(self.held, self.queue.key)

    def statuses(self, runs: Sequence[UUID]) -> dict[str, int]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT status, count(*) FROM runtime_run WHERE id = ANY(%s) GROUP BY status", [list(runs)])
            return dict(cursor.fetchall())

    def is_settled(self, *, or_parked: bool = False) -> bool:
        """Whether every run of this load has ended; or, where that is asked, waits for a person."""
        settled = [*FINAL, RunStatus.WAITING] if or_parked else [*FINAL]
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT NOT EXISTS (SELECT 1 FROM runtime_run WHERE agent_id = %s AND status <> ALL(%s))",
                [self.agent.pk, [str(status) for status in settled]],
            )
            return bool(cursor.fetchone()[0])

    def remove(self) -> None:
        """Take everything of this load away again."""
        self.queue.connection.delete(self.held)
        Worker.objects.filter(slot__startswith=self.tag).delete()
        ApprovalRequest.objects.filter(agent=self.tag).delete()
        Run.objects.filter(agent=self.agent).delete()
        Thread.objects.filter(agent=self.agent).delete()
        Agent.objects.filter(pk=self.agent.pk).update(active_release=None)
        self.release.delete()
        self.agent.delete()

    def _create(self, numbers: range) -> list[UUID]:
        moment = now()
        # Some seconds ahead: the reconciler looks for runs that wait for long, and these do not wait yet.
        ahead = moment + timedelta(seconds=1 + self.knobs.runs / 500)
        threads = Thread.objects.bulk_create(
            Thread(agent=self.agent, principal_id=f"{self.tag}-{number}") for number in numbers
        )
        limits = self.release.bundle.budgets.model_dump(mode="json")
        runs = Run.objects.bulk_create(
            Run(
                agent=self.agent,
                release=self.release,
                thread=thread,
                title="A measured run",
                input_text="Do the steps.",
                principal_id=thread.principal_id,
                scopes=[EVERY_SCOPE],
                started_by_kind="system",
                started_by_label="bench",
                budgets=limits,
                seq=1,
                created_at=moment,
                queued_at=ahead,
            )
            for thread in threads
        )
        RunEvent.objects.bulk_create(RunEvent(run=run, seq=1, kind="run.created", by_label="bench") for run in runs)
        return [run.pk for run in runs]


def _release(tag: str, knobs: Knobs) -> Release:
    """An agent with one release. Written as rows, without audit: nothing of it stays."""
    script, _ = scenes.SCRIPTS[knobs.workload]
    manifest = tools.known()[scenes.TOOLS[knobs.workload]].manifest
    bundle = bundles.Bundle.model_validate(
        {
            "version": "bench",
            "model": {"provider": "scripted", "name": script, "timeout_s": 600},
            "instructions": "Do the steps.",
            "tools": [manifest],
            "budgets": BUDGETS,
        }
    )
    agent = Agent.objects.create(slug=tag, name=f"Measurement {tag}"[:120], description="Made by manage.py bench.")
    release = Release.objects.create(
        agent=agent,
        version=bundle.version,
        digest=bundles.digest(bundle),
        content=bundle.model_dump(mode="json"),
        created_by_label="bench",
    )
    agent.active_release = release
    agent.save(update_fields=["active_release"])
    return release
