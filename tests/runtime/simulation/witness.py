"""Who watches: it sees every commit and every effect, keeps its own books, and says which property was broken.

It trusts nothing that the core decides. What may happen it knows from `agent`, who holds a run from the claims it saw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from approvals.states import Verdict
from releases.policies import switching
from releases.policies.switching import Engaged
from runtime.policies.folding import State
from runtime.states import FINAL, PARKED, RunStatus, StepKind, StepStatus
from tests.runtime.simulation import agent
from tests.runtime.simulation.rows import ApprovalRow, Arguments, Guard, Lease, RunRow, StepRow

CLOSING_STEPS = 6  # a run whose steps are used up still writes how it ends; one reply may bring several refusals


class Broken(AssertionError):
    """A property does not hold."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


@dataclass
class Sent:
    """A call as the outside received it."""

    run: int
    tool: str
    key: str
    call: str
    arguments: Arguments


@dataclass
class Witness:
    """`true_time` does not step; the rows are written by the database's clock, which may."""

    true_time: Callable[[], float]
    releases: dict[int, str] = field(default_factory=dict)
    holders: dict[int, tuple[int, int]] = field(default_factory=dict)
    fences: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    since: dict[int, float] = field(default_factory=dict)
    working: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    worked: dict[int, float] = field(default_factory=lambda: defaultdict(float))  # in true time
    truly_since: dict[int, float] = field(default_factory=dict)
    parked: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    intents: dict[str, StepRow] = field(default_factory=dict)
    calls_started: Counter[int] = field(default_factory=Counter)
    asked: Counter[int] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    cards: dict[str, ApprovalRow] = field(default_factory=dict)
    answers: dict[str, tuple[Verdict, Arguments]] = field(default_factory=dict)
    keys_of_call: dict[tuple[int, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    stopped: set[int] = field(default_factory=set)
    effects: Counter[tuple[int, str]] = field(default_factory=Counter)
    used_keys: dict[str, Arguments] = field(default_factory=dict)

    # --- commits

    def accepted(self, run: RunRow) -> None:
        self.releases[run.id] = run.release

    def claimed(self, run: RunRow, life: int) -> None:
        if run.id in self.holders:
            raise Broken("fence", f"run {run.id} was claimed while {self.holders[run.id]} held it")
        if run.fence <= self.fences[run.id]:
            raise Broken("fence", f"run {run.id} was claimed again under fence {run.fence}")
        self.fences[run.id] = run.fence
        self.holders[run.id] = (life, run.fence)

    def wrote(self, run: RunRow, lease: Lease, life: int) -> None:
        if self.holders.get(run.id) != (life, lease.fence):
            raise Broken("superseded", f"life {life} wrote run {run.id} under fence {lease.fence}, which it lost")

    def started(self, run: RunRow, guard: Guard, engaged: list[Engaged]) -> None:
        """An intent, or the repetition of a call, was committed."""
        stopped = switching.decide_call(engaged, agent=agent.AGENT, tool=guard.tool, is_write=guard.is_write)
        review = switching.decide_review(engaged, agent=agent.AGENT, tool=guard.tool)
        if stopped or (review and guard.is_write and not guard.is_reviewed):
            raise Broken("stop", f"run {run.id} started {guard.tool} after the commit of a switch")
        if run.id in self.stopped:
            raise Broken("stop", f"run {run.id} started {guard.tool} after it was cancelled or paused")

    def inserted(self, run: RunRow, row: StepRow) -> None:
        if row.entry.idempotency_key:
            self.intents[row.entry.idempotency_key] = row
            self.calls_started[run.id] += int(row.entry.attempt == 1)
            if self.calls_started[run.id] > agent.BUDGETS.max_tool_calls:
                raise Broken("budget", f"run {run.id} made {self.calls_started[run.id]} tool calls")
        if row.entry.kind == StepKind.APPROVAL and row.entry.input.get("settles") is None:
            self.asked[run.id] += 1
            if self.asked[run.id] > agent.BUDGETS.max_approvals:
                raise Broken("budget", f"run {run.id} asked people {self.asked[run.id]} times")
        if len(run.steps) > agent.BUDGETS.max_steps + CLOSING_STEPS:
            raise Broken("budget", f"run {run.id} has {len(run.steps)} steps")

    def finished(self, run: RunRow, row: StepRow, *, stays_open: bool) -> None:
        if stays_open:
            return
        self.done[row.entry.id] += 1
        if not row.is_open or self.done[row.entry.id] > 1:
            raise Broken("done", f"step {row.entry.seq} of run {run.id} was finished twice")

    def moved(self, run: RunRow, before: RunStatus, now: float) -> None:
        began, truly = self.since.pop(run.id, now), self.true_time()
        if before == RunStatus.RUNNING:
            self.worked[run.id] += truly - self.truly_since[run.id]
            self.working[run.id] += max(0.0, now - began)
            self.holders.pop(run.id, None)
        if before in PARKED:
            self.parked[run.id] += max(0.0, now - began)
        if before in FINAL:
            raise Broken("cause", f"run {run.id} went from {before} to {run.status}")
        if run.status == RunStatus.RUNNING or run.status in PARKED:
            self.since[run.id], self.truly_since[run.id] = now, truly

    def cancel_requested(self, run: RunRow) -> None:
        self.stopped.add(run.id)

    def pause_requested(self, run: RunRow) -> None:
        self.stopped.add(run.id)

    def resumed(self, run: RunRow) -> None:
        self.stopped.discard(run.id)

    def shown(self, card: ApprovalRow) -> None:
        self.cards[card.id] = ApprovalRow(**{**vars(card), "arguments": dict(card.arguments)})

    def decided(self, card: ApprovalRow, *, is_edited: bool) -> None:
        """Who edits nothing approves what was shown when the run was parked, whatever the row says by now."""
        assert card.verdict is not None and card.decided is not None
        arguments = card.decided if is_edited else self.cards[card.id].arguments
        self.answers[card.id] = (card.verdict, dict(arguments))

    def compare(self, run: RunRow, known: State, journal: State) -> None:
        """A worker that believes something else than the journal does what nobody can explain."""
        for name in ("messages", "pending", "stage", "answer", "steps", "tool_calls"):
            if getattr(known, name) != getattr(journal, name):
                raise Broken("memory", f"run {run.id}: {name} is {getattr(known, name)} and {getattr(journal, name)}")

    # --- the outside

    def sent(self, call: Sent, release: str, scopes: frozenset[str]) -> None:
        """A call leaves the worker. From here on nobody can stop it."""
        where = f"{call.tool} {call.arguments} of run {call.run}"
        if release != self.releases[call.run]:
            raise Broken("release", f"{where} was made under release {release}, not {self.releases[call.run]}")
        keys = self.keys_of_call[call.run, call.call]
        keys.add(call.key)
        if len(keys) > 1:
            raise Broken("twice", f"{where} was made again under another key")
        intent = self.intents.get(call.key)
        if intent is None:
            raise Broken("gate", f"{where} has no committed intent")
        if agent.is_forbidden(call.tool, call.arguments, scopes):
            raise Broken("gate", f"{where} is forbidden")
        approved = self._approved(call)
        if agent.needs_person(call.tool, call.arguments, release) and approved is None:
            raise Broken("gate", f"{where} needs a person and has no approval")
        if approved is not None and approved != call.arguments:
            raise Broken("approval", f"{where} differs from what was approved: {approved}")

    def effect(self, call: Sent) -> None:
        """It has happened."""
        self.effects[call.run, call.call] += 1
        again = self.effects[call.run, call.call] > 1
        if again and agent.RETRY[call.tool] in ("unsafe", "transactional"):
            raise Broken("twice", f"{call.tool} of run {call.run} happened twice")
        first = self.used_keys.setdefault(call.key, call.arguments)
        if first != call.arguments:
            raise Broken("twice", f"the key {call.key} was used for {first} and {call.arguments}")

    def _approved(self, call: Sent) -> Arguments | None:
        """What a person allowed for this very call."""
        for card_id, (verdict, arguments) in self.answers.items():
            card = self.cards[card_id]
            is_about = (card.run, card.call) == (call.run, call.call)
            if verdict == Verdict.APPROVE and not card.is_settlement and is_about:
                return arguments
        return None

    # --- the end

    def judge_end(self, run: RunRow) -> None:
        """Everything a run must be when it is over."""
        self._judge_numbers(run)
        self._judge_times(run)
        if run.status not in FINAL:
            return
        if not run.cause or [event.kind for event in run.events].count("run.finished") != 1:
            raise Broken("cause", f"run {run.id} is {run.status} with cause {run.cause!r} and {run.events[-1]}")
        if run.events[-1].kind != "run.finished" or run.events[-1].seq != run.seq:
            raise Broken("cause", f"run {run.id} goes on after its end: {run.events[-1]}")
        by_person = run.cause in ("cancelled", "approval_expired") and run.steps[-1:] != []
        if not by_person and run.cause != "cancelled" and run.steps[-1].entry.kind != StepKind.ANSWER:
            raise Broken("cause", f"run {run.id} is {run.status} without a last step")
        for row in run.steps:
            if row.entry.status == StepStatus.STARTED:
                raise Broken("cause", f"run {run.id} is {run.status} and its {row.entry.name} is still open")

    def _judge_numbers(self, run: RunRow) -> None:
        steps = [number for row in run.steps for number in (row.entry.seq, *row.results)]
        numbers = sorted([*steps, *run.discarded, *(event.seq for event in run.events)])
        if numbers != list(range(1, run.seq + 1)):
            raise Broken("seq", f"run {run.id} has seq {run.seq} and the numbers {numbers}")
        fences = [row.fence for row in run.steps]
        if fences != sorted(fences):
            raise Broken("fence", f"run {run.id} was written under the fences {fences}")

    def _judge_times(self, run: RunRow) -> None:
        for name, kept, seen in (
            ("working", run.working, self.working[run.id]),
            ("parked", run.parked, self.parked[run.id]),
        ):
            if run.id not in self.since and abs(kept - seen) > 1e-6:
                raise Broken("waiting", f"run {run.id} has {kept:.3f} s {name}; {seen:.3f} s were seen")
        worked = max(self.working[run.id], self.worked[run.id])
        if run.cause == "budget:max_seconds" and worked < agent.BUDGETS.max_seconds:
            raise Broken("waiting", f"run {run.id} ran out of time after {worked:.0f} s of work")
