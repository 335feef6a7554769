"""The simulated database: what each statement and verb of the product does to the rows, all or nothing.

A method is one committed transaction and is named after what it stands for. The witness sees every commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from approvals.states import OPEN, ApprovalStatus, Verdict
from releases.policies import switching
from releases.policies.switching import Engaged
from releases.states import Scope, SwitchEffect
from runtime import toolbox
from runtime.policies.folding import Entry
from runtime.states import FINAL, PARKED, RunStatus, StepKind, StepStatus, StepVerdict
from tests.runtime.simulation import agent
from tests.runtime.simulation.mechanisms import Mechanisms
from tests.runtime.simulation.rows import (
    ApprovalRow,
    Arguments,
    EventRow,
    Finished,
    Guard,
    Lease,
    LifeRow,
    NewStep,
    RunRow,
    StepRow,
    SwitchRow,
    Write,
)
from tests.runtime.simulation.witness import Witness

LEASE_S = 12.0
FORGOTTEN_S = 4.0
STRAY_S = 5.0
APPROVAL_S = agent.APPROVAL_MINUTES * 60.0
STOPPING = (SwitchEffect.DISABLE_TOOL, SwitchEffect.WRITES_OFF)


class LeaseLost(Exception):
    """As journal.LeaseLost."""


class SwitchedOff(Exception):
    """As journal.SwitchedOff."""


@dataclass(frozen=True)
class Written:
    seq: int
    cancel_requested: bool
    pause_requested: bool


@dataclass
class Store:
    mechanisms: Mechanisms
    witness: Witness
    clock: Callable[[], float]  # the database's wall clock, which may step
    runs: dict[int, RunRow] = field(default_factory=dict)
    lives: dict[int, LifeRow] = field(default_factory=dict)
    approvals: dict[str, ApprovalRow] = field(default_factory=dict)
    switches: list[SwitchRow] = field(default_factory=list)
    queue: deque[int] = field(default_factory=deque)  # Redis: it may forget
    active_release: str = "1.0"
    ids: count[int] = field(default_factory=lambda: count(1))

    # --- runtime.runs

    def create(self, scopes: frozenset[str], replies: int) -> RunRow:
        run = RunRow(next(self.ids), self.active_release, scopes, replies, queued_at=self.clock())
        self.runs[run.id] = run
        self.witness.accepted(run)
        self._event(run, "run.created")
        self.queue.append(run.id)
        return run

    def cancel(self, run: RunRow) -> None:
        if run.status in FINAL or run.cancel_requested:
            return
        run.cancel_requested = True
        self.witness.cancel_requested(run)
        self._event(run, "run.cancel_requested")
        if run.status == RunStatus.RUNNING:
            return
        for approval in self.approvals.values():
            if approval.run == run.id and approval.status in OPEN:
                approval.status = ApprovalStatus.VOID
        self._close_open_steps(run)
        self._leave_waiting(run)
        run.cause = "cancelled"
        self._move(run, RunStatus.CANCELLED)
        self._event(run, "run.finished")

    # --- runtime.interventions

    def pause(self, run: RunRow) -> None:
        if run.status in (*FINAL, RunStatus.PAUSED) or run.cancel_requested or run.pause_requested:
            return
        run.pause_requested = True
        if run.status == RunStatus.RUNNING:
            self.witness.pause_requested(run)
            self._event(run, "run.pause_requested")
            return
        self._leave_waiting(run)
        run.waiting_since = self.clock()
        self._move(run, RunStatus.PAUSED)
        self._event(run, "run.paused")

    def resume(self, run: RunRow) -> None:
        if run.status in FINAL or not run.pause_requested:
            return
        run.pause_requested = False
        self.witness.resumed(run)
        if run.status == RunStatus.PAUSED:
            self._leave_waiting(run)
            asked = any(row.is_open and row.entry.kind == StepKind.APPROVAL for row in run.steps)
            if asked:
                run.waiting_since = self.clock()
                self._move(run, RunStatus.WAITING)
            else:
                self._requeue_one(run)
        self._event(run, "run.pause_ended")

    def follow_pause(self, lease: Lease, held: list[Write], by: int) -> bool:
        run = self.runs[lease.run]
        if run.fence != lease.fence or run.status != RunStatus.RUNNING:
            raise LeaseLost
        if not run.pause_requested:
            return False
        self.write(lease, [*held, Write(status=RunStatus.PAUSED, events=["run.paused"])], by)
        return True

    # --- runtime.turns

    def claim(self, run_id: int, life_id: int) -> RunRow | None:
        """As CLAIM_SQL. The row as the claimant reads it: a copy of what may change under it."""
        run, life = self.runs[run_id], self.lives[life_id]
        due = run.wake_at is None or run.wake_at <= self.clock()
        alive = not life.is_ended and life.lease_until > self.clock()
        paused = switching.decide_start(self.engaged(), agent=agent.AGENT) is not None
        if run.status != RunStatus.QUEUED or not due or not alive or (paused and not run.started):
            return None
        run.fence += int(self.mechanisms.fence_raised)
        run.life = life_id
        if self.mechanisms.wait_kept_apart or not run.started:
            run.turn_started_at = self.clock()
        run.started, run.wake_at = True, None
        self._move(run, RunStatus.RUNNING)
        self._event(run, "run.started" if run.fence == 1 else "run.resumed")
        self.witness.claimed(run, life_id)
        return replace(run, release=run.release if self.mechanisms.release_frozen else self.active_release)

    def load(self, run_id: int) -> list[Entry]:
        return [row.entry for row in self.runs[run_id].steps]

    # --- runtime.journal

    def write(self, lease: Lease, writes: list[Write], by: int, *, base: int | None = None) -> Written:
        """As `journal_sql.write`. Only the witness reads `by`; `base` is the writer's own idea of the run's seq."""
        run, last = self.runs[lease.run], writes[-1]
        if last.guard and self.mechanisms.switch_in_write and self._blocking(last.guard):
            raise SwitchedOff
        if self.mechanisms.fence_in_write and (run.fence != lease.fence or run.status != RunStatus.RUNNING):
            raise LeaseLost
        if last.guard and (run.cancel_requested or run.pause_requested) and self.mechanisms.requests_in_write:
            raise LeaseLost
        self.witness.wrote(run, lease, by)
        if last.guard:
            self.witness.started(run, last.guard, self.engaged())
        if not self.mechanisms.seq_in_write and base is not None:
            run.seq = base
        for write in writes:
            for step in write.steps:
                run.seq += 1
                self._insert(run, lease, step)
            for finished in write.finished:
                run.seq += 1
                self._finish(run, finished)
            for kind in write.events:
                self._event(run, kind)
        if last.status is not None:
            run.cause = last.cause
            self._end_stretch(run)
            run.wake_at = last.wake_at
            run.queued_at = self.clock()
            run.waiting_since = self.clock() if last.status in PARKED else None
            self._move(run, last.status)
        return Written(run.seq, run.cancel_requested, run.pause_requested)

    def write_with_effect(self, lease: Lease, step_id: str, effect: Callable[[], None], write: Write, by: int) -> None:
        """As calling._with_its_step: the effect, the fence, the open step and the result in one transaction."""
        run = self.runs[lease.run]
        if run.fence != lease.fence or run.status != RunStatus.RUNNING:
            raise LeaseLost
        if self.mechanisms.open_step_only and not run.step(step_id).is_open:
            raise LeaseLost
        effect()
        self.write(lease, [write], by)

    # --- runtime.calls

    def park(self, lease: Lease, held: list[Write], write: Write, card: ApprovalRow, by: int) -> None:
        """As calls._park: question, open step and waiting status in one transaction."""
        write.status = RunStatus.PAUSED if self.runs[lease.run].pause_requested else RunStatus.WAITING
        write.events = ["approval.requested", f"run.{write.status}"]
        self.write(lease, [*held, write], by)
        card.due_at = self.clock() + APPROVAL_S
        self.approvals[card.id] = card
        self.witness.shown(card)
        if switching.decide_call(self.engaged(), agent=agent.AGENT, tool=card.tool, is_write=True):
            self._freeze(card)

    def decide(self, approval: ApprovalRow, verdict: Verdict, arguments: Arguments) -> None:
        """As requests.decide with CallHandler or SettlementHandler. The caller has checked the edits."""
        if approval.status != ApprovalStatus.PENDING:
            return
        run = self.runs[approval.run]
        approved = verdict == Verdict.APPROVE
        approval.status = ApprovalStatus.APPROVED if approved else ApprovalStatus.REJECTED
        approval.verdict, approval.decided = verdict, dict(arguments)
        self.witness.decided(approval, is_edited=arguments != approval.arguments)
        if approval.is_settlement:
            call = run.step(approval.step).entry.input["settles"]
            self._close(run, call, StepStatus.DONE if approved else StepStatus.FAILED, "", {"content": "settled"})
            said = StepVerdict.APPROVED if approved else StepVerdict.REJECTED
            self._close(run, approval.step, StepStatus.DONE, said, {"verdict": said})
        else:
            said = StepVerdict.REJECTED
            if approved:
                said = StepVerdict.EDITED if arguments != approval.arguments else StepVerdict.APPROVED
            digest = toolbox.digest(approval.tool, arguments, agent.DIGESTS[run.release])
            output = {"arguments": dict(arguments), "digest": digest} if approved else {"content": "rejected"}
            self._close(run, approval.step, StepStatus.DONE if approved else StepStatus.REFUSED, said, output)
        if run.status != RunStatus.PAUSED:
            self._leave_waiting(run)
            self._requeue_one(run)
        self._event(run, "approval.decided")

    def expire_due(self) -> int:
        """As requests.expire_due."""
        due = [a for a in self.approvals.values() if a.status == ApprovalStatus.PENDING and a.due_at <= self.clock()]
        for approval in due if self.mechanisms.expiry_swept else ():
            run = self.runs[approval.run]
            approval.status = ApprovalStatus.EXPIRED
            self._close(run, approval.step, StepStatus.REFUSED, StepVerdict.EXPIRED, {"verdict": "expired"})
            self._close_open_steps(run)
            self._leave_waiting(run)
            run.cause = "approval_expired"
            self._move(run, RunStatus.EXPIRED)
            self._event(run, "run.finished")
        return len(due)

    def why_void(self, run_id: int, approval: Entry, tool: str, arguments: Arguments | None, digest: str) -> str:
        """As calls.why_void."""
        card = self.approvals[approval.input["request"]]
        if not self.mechanisms.compared_at_dispatch:
            return ""
        if card.status != ApprovalStatus.APPROVED or card.decided is None or arguments is None:
            return "not valid any more"
        if (card.run, card.step) != (run_id, approval.id):
            return "given for another call"
        bound, now = approval.output.get("digest"), toolbox.digest(tool, arguments, digest)
        decided = toolbox.digest(tool, card.decided, digest)
        asked = toolbox.digest(card.tool, card.arguments, digest)
        same = bound == now == decided and asked == card.digest == approval.input.get("digest")
        if same and approval.input.get("tool") == tool:
            return ""
        card.status = ApprovalStatus.VOID
        return "it differs from what was approved"

    # --- releases.switches

    def engaged(self) -> list[Engaged]:
        return [row.engaged for row in self.switches if not row.is_lifted]

    def engage(self, scope: Scope, effect: SwitchEffect, target: str) -> None:
        engaged = Engaged(str(next(self.ids)), scope, effect, target, effect, "simulated")
        self.switches.append(SwitchRow(engaged))
        for card in self.approvals.values() if effect in STOPPING else ():
            if card.status == ApprovalStatus.PENDING and (scope != Scope.TOOL or card.tool == target):
                self._freeze(card)

    def lift(self, row: SwitchRow) -> None:
        row.is_lifted = True
        for card in self.approvals.values():
            stopped = switching.decide_call(self.engaged(), agent=agent.AGENT, tool=card.tool, is_write=True)
            if card.status == ApprovalStatus.FROZEN and not stopped:
                card.status = ApprovalStatus.PENDING
                card.due_at = self.clock() + card.left_when_frozen

    # --- runtime.workers

    def register(self, slot: str) -> LifeRow:
        for life in self.lives.values():
            life.is_ended = life.is_ended or life.slot == slot
        life = LifeRow(next(self.ids), slot, self.clock() + LEASE_S)
        self.lives[life.id] = life
        self._requeue()
        return life

    def end(self, life_id: int) -> None:
        self.lives[life_id].is_ended = True
        self._requeue()

    def beat(self, life_id: int) -> bool:
        life = self.lives[life_id]
        if life.is_ended or life.lease_until <= self.clock():
            return False
        life.lease_until = self.clock() + LEASE_S
        return True

    def reconcile(self) -> None:
        for life in self.lives.values():
            life.is_ended = life.is_ended or life.lease_until <= self.clock()
        self._requeue()
        if not self.mechanisms.forgotten_found:
            return
        for run in self.runs.values():
            late = run.status == RunStatus.QUEUED and run.queued_at < self.clock() - FORGOTTEN_S
            if late and (run.wake_at is None or run.wake_at <= self.clock()):
                run.queued_at = self.clock()
                self.queue.append(run.id)

    def give_back_strays(self, life_id: int, worked_on: set[int]) -> None:
        """Runs that this life holds and does not work on: the reply to their claim was lost."""
        if self.mechanisms.strays_given_back:
            self._give_back(
                lambda run: (
                    run.life == life_id and run.id not in worked_on and run.turn_started_at < self.clock() - STRAY_S
                )
            )

    def _requeue(self) -> None:
        if self.mechanisms.leases_expire:
            self._give_back(lambda run: run.life is not None and self.lives[run.life].is_ended)

    def _give_back(self, chosen: Callable[[RunRow], bool]) -> None:
        for run in self.runs.values():
            if run.status == RunStatus.RUNNING and chosen(run):
                self._end_stretch(run)
                run.queued_at = self.clock()
                self._move(run, RunStatus.QUEUED)
                self._event(run, "lease.lost")
                self.queue.append(run.id)

    # --- parts of the above

    def _requeue_one(self, run: RunRow) -> None:
        run.queued_at = self.clock()
        self._move(run, RunStatus.QUEUED)
        self.queue.append(run.id)

    def _blocking(self, guard: Guard) -> bool:
        """As switches.BLOCKING_SQL."""
        for switch in self.engaged():
            covers = switch.scope in (Scope.EVERYTHING, Scope.AGENT) or switch.target == guard.tool
            stops = switch.effect == SwitchEffect.DISABLE_TOOL or (
                guard.is_write
                and (
                    switch.effect == SwitchEffect.WRITES_OFF
                    or (switch.effect == SwitchEffect.FORCE_REVIEW and not guard.is_reviewed)
                )
            )
            if covers and stops:
                return True
        return False

    def _insert(self, run: RunRow, lease: Lease, step: NewStep) -> None:
        run.steps.append(StepRow(step.entry(run.seq), lease.fence, step.is_open))
        self.witness.inserted(run, run.steps[-1])

    def _finish(self, run: RunRow, finished: Finished) -> None:
        row = run.step(finished.id)
        if self.mechanisms.open_step_only and not row.is_open:
            run.discarded.append(run.seq)
            return
        stays_open = finished.status == StepStatus.UNKNOWN
        self.witness.finished(run, row, stays_open=stays_open)
        row.entry = replace(row.entry, status=finished.status, error=finished.error, output=finished.output)
        row.is_open = stays_open
        row.results.append(run.seq)

    def _close(self, run: RunRow, step_id: str, status: StepStatus, verdict: str, output: dict[str, Any]) -> None:
        """As calls._close."""
        row = run.step(step_id)
        run.seq += 1
        self.witness.finished(run, row, stays_open=False)
        row.entry = replace(row.entry, status=status, verdict=verdict or row.entry.verdict, output=output)
        row.is_open = False
        row.results.append(run.seq)

    def _close_open_steps(self, run: RunRow) -> None:
        """A run that ends outside of a turn says of a call in flight that it may have happened."""
        for row in run.steps if self.mechanisms.open_calls_marked else ():
            if row.entry.status != StepStatus.STARTED:
                continue
            if row.entry.kind == StepKind.APPROVAL:
                self._close(run, row.entry.id, StepStatus.REFUSED, StepVerdict.NONE, {"verdict": "void"})
            else:
                row.entry = replace(row.entry, status=StepStatus.UNKNOWN)

    def _event(self, run: RunRow, kind: str) -> None:
        run.seq += 1
        run.events.append(EventRow(run.seq, kind))

    def _move(self, run: RunRow, status: RunStatus) -> None:
        before, run.status = run.status, status
        if status != RunStatus.RUNNING:
            run.life = None
        self.witness.moved(run, before, self.clock())

    def _end_stretch(self, run: RunRow) -> None:
        run.working += max(0.0, self.clock() - run.turn_started_at)

    def _leave_waiting(self, run: RunRow) -> None:
        if run.waiting_since is not None:
            run.parked += max(0.0, self.clock() - run.waiting_since)
            run.waiting_since = None

    def _freeze(self, card: ApprovalRow) -> None:
        card.status = ApprovalStatus.FROZEN
        card.left_when_frozen = max(card.due_at - self.clock(), 60.0)
