"""Executes recorded conversations in this process, several at once, with the same engine that workers use."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from django.db import transaction

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console import problems
from console.actors import system
from releases.models import Agent
from runtime import runs, threads, worker, workers
from runtime.engine import Engine
from runtime.models import Run, Thread
from runtime.policies import replaying as policy
from runtime.policies.replaying import Diverged, Ended
from runtime.replay import agents, recordings, scripts, turns
from runtime.replay.planning import Group, Job, Plan
from runtime.replay.turns import Script
from runtime.states import FINAL, RunKind, RunStatus, StepKind

log = logging.getLogger(__name__)

BY = system("replay")
DECIDER = system("replay approver")
POLL_S = 0.05
STUCK_S = 120.0  # a run that another worker holds and that does not move for this long is reported


class Approver(StrEnum):
    """Who answers when a recorded call asks a person."""

    GRANT = "grant"
    DENY = "deny"
    LEAVE = "leave"


@dataclass
class Tally:
    """What has been done so far, and what was not, with the reason."""

    threads: list[UUID] = field(default_factory=list)
    replayed: int = 0  # conversations that are through, in full or as far as they went
    runs: int = 0
    turns_not_run: dict[str, int] = field(default_factory=dict)
    greetings: int = 0
    user_calls: int = 0
    stray_results: int = 0
    errors: dict[str, str] = field(default_factory=dict)  # by conversation
    interrupted: bool = False

    def skip(self, reason: str, count: int) -> None:
        if count:
            self.turns_not_run[reason] = self.turns_not_run.get(reason, 0) + count


class Stuck(Exception):
    """A run does not move although it should."""


class Replaying:
    """One replay. `stop()` may be called from a signal handler: runs in flight are given back, nothing new starts."""

    def __init__(
        self,
        path: Path,
        plan: Plan,
        *,
        approver: Approver,
        concurrency: int,
        progress: Callable[[Tally], None] = lambda tally: None,
    ) -> None:
        self.path = path
        self.plan = plan
        self.approver = approver
        self.room = asyncio.Semaphore(concurrency)
        self.progress = progress
        self.tally = Tally()
        self.engine: Engine

    def stop(self) -> None:
        self.tally.interrupted = True

    async def run(self) -> Tally:
        for line in self.plan.unusable:
            place = f"line {line.line}"
            self.tally.errors[line.id or place] = f"{place.capitalize()}: {line.reason}" if line.id else line.reason
        async with _engine(is_draining=lambda: self.tally.interrupted, on_lost=self.stop) as self.engine:
            for group in self.plan.groups:
                await self._group(group)
        return self.tally

    async def _group(self, group: Group) -> None:
        """The conversations of one release. Groups follow each other: an agent has one active release at a time."""
        try:
            release = await threads.run(lambda: agents.prepare(group.domain, group.bundle, by=BY))
        except problems.Problem as refused:
            self.tally.errors |= dict.fromkeys((job.id for job in group.jobs), refused.detail)
            return
        await asyncio.gather(*(self._conversation(job, release.agent) for job in group.jobs))

    async def _conversation(self, job: Job, agent: Agent) -> None:
        async with self.room:
            if self.tally.interrupted:
                self.tally.skip("interrupted", job.turns)
                return
            try:
                await self._replay(job, agent)
            except problems.Problem as refused:
                self.tally.errors[job.id] = refused.detail
            except Exception as broken:  # one conversation must not take the others down
                log.exception("Conversation %s broke off.", job.id)
                self.tally.errors[job.id] = f"{type(broken).__name__}: {broken}"[:500]
            self.tally.replayed += 1
            self.progress(self.tally)

    async def _script(self, job: Job) -> Script:
        script: Script = await threads.run(lambda: turns.split(recordings.read_at(self.path, job.offset)))
        return script

    async def _replay(self, job: Job, agent: Agent) -> None:
        script = await self._script(job)
        self.tally.greetings += script.greetings
        self.tally.user_calls += script.user_calls
        self.tally.stray_results += script.stray_results
        self.tally.skip("no recorded answer", script.unanswered)
        if not script.turns:
            self.tally.errors[job.id] = "The user gets no answer in this conversation; there is nothing to replay."
            return
        thread = await threads.run(_begin, agent, job.id, script)
        self.tally.threads.append(thread.pk)
        for place, turn in enumerate(script.turns):
            ended = await self._turn(thread, agent, turn.text)
            going_on = policy.decide_next_turn(ended)
            left = len(script.turns) - place - 1
            if self.tally.interrupted or isinstance(going_on, Diverged):
                self.tally.skip(_why(ended, self.tally.interrupted), left)
                return

    async def _turn(self, thread: Thread, agent: Agent, text: str) -> Ended:
        run, _ = await threads.run(
            lambda: runs.create(
                agent=agent.slug,
                text=text,
                by=BY,
                principal_id=thread.principal_id,
                thread_id=thread.pk,
                kind=RunKind.REPLAY,
                enqueue=False,
            )
        )
        self.tally.runs += 1
        return await self._carry(run.pk)

    async def _carry(self, run_id: UUID) -> Ended:
        """Execute the run until it ends, or until it waits for somebody else."""
        moved_at, seq = time.monotonic(), -1
        while True:
            await self.engine.run_turn(run_id)
            state = await threads.run(_state, run_id)
            if state.status in FINAL or self.tally.interrupted:
                ended: Ended = await threads.run(_ended, state)
                return ended
            if state.status == RunStatus.WAITING and not await self._answer(state):
                return Ended(RunStatus.WAITING, "", diverged=False)
            if state.seq != seq:
                moved_at, seq = time.monotonic(), state.seq
            elif time.monotonic() - moved_at > STUCK_S:
                raise Stuck(f"{state.public_id} has been {state.status} for {STUCK_S:.0f} s without moving.")
            else:  # another worker has it, it is to be woken later, or a colleague holds the request
                await asyncio.sleep(POLL_S)

    async def _answer(self, run: Run) -> bool:
        """Answer what the run asks, if this replay answers at all. False: it is left to people."""
        if self.approver == Approver.LEAVE:
            return False
        return bool(await threads.run(_decide, run.public_id, self.approver))


@contextlib.asynccontextmanager
async def _engine(*, is_draining: Callable[[], bool], on_lost: Callable[[], None]) -> AsyncIterator[Engine]:
    """An engine with a worker's life of its own, whose lease is prolonged for as long as the block lasts."""
    life = await threads.run(workers.register, f"replay-{os.getpid()}")
    engine = Engine(worker.open_pool(), life.pk, is_draining=is_draining)
    await engine.pool.open(wait=True)
    beat = asyncio.ensure_future(_keep_lease(life.pk, on_lost))
    try:
        yield engine
    finally:
        beat.cancel()
        await engine.settle()
        await engine.pool.close()
        await threads.run(workers.end, life.pk)


async def _keep_lease(worker_id: UUID, on_lost: Callable[[], None]) -> None:
    beat: workers.Beat | None = workers.Beat(-1, [])
    while beat is not None:
        await asyncio.sleep(workers.BEAT.total_seconds())
        try:
            beat = await threads.run(workers.beat, worker_id, beat.epoch)
        except Exception as away:
            log.warning("The lease of the replay could not be prolonged: %s", away)
    log.error("The replay has lost its lease; it stops. Its runs are free for other workers.")
    on_lost()


@transaction.atomic
def _begin(agent: Agent, source_id: str, script: Script) -> Thread:
    """A thread with its recording; each replay makes a new one."""
    principal = f"recorded:{source_id}"[:120]
    thread = Thread.objects.create(agent=agent, principal_id=principal, principal_label=f"Recorded {source_id}"[:200])
    scripts.keep(thread, source_id, script)
    return thread


def _state(run_id: UUID) -> Run:
    return Run.objects.only("id", "status", "cause", "seq").get(pk=run_id)


def _ended(run: Run) -> Ended:
    diverged = run.steps.filter(kind=StepKind.MODEL, error="recording_diverged").exists()
    return Ended(RunStatus(run.status), run.cause, diverged)


def _decide(run: str, approver: Approver) -> bool:
    """Answer the open request of the run; False when a kill switch has frozen it. Somebody else may be faster."""
    request = ApprovalRequest.objects.open().filter(subject_id__startswith=f"{run}:").first()
    if request is None:
        return True
    if request.status == ApprovalStatus.FROZEN:
        return False
    verdict = Verdict.APPROVE if approver == Approver.GRANT else Verdict.REJECT
    try:
        requests.decide(request.pk, verdict, by=DECIDER, reason=f"Replay with --approver {approver}.")
    except problems.Conflict as late:
        log.info("%s: %s", request.public_id, late)
    return True


def _why(ended: Ended, interrupted: bool) -> str:
    if interrupted:
        return "interrupted"
    if ended.status == RunStatus.WAITING:
        return "the turn before waits for a person"
    return f"the turn before ended as {ended.status} ({ended.cause})"
