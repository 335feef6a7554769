"""The shell around the fold: asks `next_step` what to do, does it, and commits what came of it.

One engine serves many turns at once on one asyncio loop. Whatever it cannot commit did not happen: a lost lease
ends the turn silently, a database that went away gives the run back for a later claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from django.db import DatabaseError, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from console import alarms, ids
from releases import switches
from releases.policies.switching import Engaged
from runtime import (
    admission,
    attempts,
    calling,
    claiming,
    consultations,
    endings,
    flights,
    guarding,
    hearing,
    interventions,
    journal,
    judging,
    modelling,
    outcomes,
    queueing,
    spending,
    texts,
    threads,
    verification,
)
from runtime.circuits import Circuits, Open, Outcome
from runtime.committing import Committer
from runtime.flights import Interrupted
from runtime.heralds import Herald
from runtime.journal import CancelRequested, LeaseLost, Write, Written
from runtime.policies import budgeting, commands
from runtime.policies.budgeting import Exhausted
from runtime.policies.commands import (
    CallModel,
    CheckInput,
    CheckOutput,
    CheckResult,
    Consult,
    Finish,
    Judge,
    Recover,
    Verify,
    Wait,
)
from runtime.policies.folding import Stage
from runtime.pools import AWAY
from runtime.states import RunStatus, StepStatus
from runtime.thresholds import NotMade
from runtime.turns import Turn

log = logging.getLogger(__name__)

SHOW_AFTER_S = 0.1  # a model call that takes longer lets what is held be written meanwhile
LONGEST_SLEEP = timedelta(seconds=attempts.LONGEST_SLEEP_S)


class Engine:
    """Executes turns for one worker incarnation.

    `is_draining` is asked before each step: a draining worker gives its runs back instead of starting more.
    `is_trusted` is asked before each call to the outside: whether the lease may still be relied on.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        worker_id: UUID,
        *,
        is_draining: Callable[[], bool] = lambda: False,
        is_trusted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.pool = pool
        self.worker_id = worker_id
        self.is_draining = is_draining
        self.is_trusted = is_trusted
        self.tool_room = asyncio.Semaphore(threads.AT_ONCE)
        self._turns: dict[UUID, Turn] = {}
        self.claimer = claiming.Claimer(pool, worker_id, self._turns)
        self.committer = Committer(pool)
        self.herald = Herald()
        self.circuits = Circuits(pool, worker_id)
        self._switches: tuple[Engaged, ...] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def run_turn(self, run_id: UUID) -> None:
        """Claim the run and carry it on until it finishes, parks or is given back. Not claimable: do nothing."""
        try:
            turn = await self.claimer.claim(run_id)
        except claiming.Unusable as broken:
            log.exception("%s cannot be gone on with.", ids.public("run", run_id))
            end = Finish(RunStatus.FAILED, "internal_error", str(broken))
            await self.committer.write(journal.operation(broken.lease, [endings.last(end)]))
            return
        if turn is None:
            return
        self.announce(turn)
        turn.task = asyncio.current_task()
        self._turns[run_id] = turn
        try:
            await self._advance(turn)
        except LeaseLost:
            log.info("%s was taken over; this worker stops working on it.", turn.public_id)
        except (*AWAY, NotMade) as away:
            log.warning("The database went away while %s was held: %s", turn.public_id, away)
            await asyncio.to_thread(alarms.look_at, away)
            await self._give_back_when_possible(turn, away.step_id if isinstance(away, NotMade) else None)
        except Exception as broken:
            log.exception("%s broke the loop.", turn.public_id)
            await self._fail(turn, broken)
        finally:
            if self._turns.get(run_id) is turn:  # no later claim of the same run
                del self._turns[run_id]
            await self._let_others_in(turn)

    def standing_still(self) -> list[Turn]:
        """Turns that should have moved long ago. Asked from another thread."""
        return [turn for turn in tuple(self._turns.values()) if turn.stands_still]

    def interrupt(self, run_id: UUID) -> None:
        """Somebody wants to stop or to hold a run: let go of the call it is in, where that may be. On the loop."""
        if run_id in self._turns and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self.look_for_requests())

    async def listen(self, others: Mapping[str, Callable[[], Awaitable[None]]] | None = None) -> None:
        """Hear of cancels and pauses at once while Redis is there; the heartbeat brings them within a second."""
        await hearing.listen({interventions.TOPIC: self.look_for_requests} | dict(others or {}))

    async def look_for_requests(self) -> None:
        """Read who is to stop or to rest, and end the calls of those that may be let go of."""
        try:
            async with self.pool.connection() as connection:
                cursor = await connection.execute(interventions.REQUESTED_SQL, [self.worker_id])
                rows = await cursor.fetchall()
        except AWAY as away:
            log.warning("Whether runs are to stop could not be read: %s. The next beat has it read again.", away)
            return
        for run_id, is_cancelled, is_paused in rows:
            turn = self._turns.get(run_id)
            if turn is not None:
                turn.cancel_requested = turn.cancel_requested or is_cancelled
                turn.pause_requested = turn.pause_requested or is_paused
                flights.let_go(turn)

    async def _let_others_in(self, turn: Turn) -> None:
        """The turn is over: whoever waited for its thread or its slots may start."""
        if not (turn.is_awaited or turn.row["slots"]):
            return
        try:
            await threads.run(admission.after_turn, turn.row["thread_id"], turn.row["slots"])
        except AWAY as away:
            log.warning("Nobody was let in after %s: %s. The next sweep does it.", turn.public_id, away)

    async def commit(self, turn: Turn, write: Write) -> Written:
        """Commit one durable operation and what was held before it; fold its steps, and tell open pages.

        Raises:
            LeaseLost: the run is not ours any more.
            SwitchedOff, CancelRequested: only for a guarded write, of which nothing was written.
        """
        await self._shown(turn)
        operation = journal.operation(turn.lease, [*turn.held, write], drafted=turn.has_draft)
        try:
            written = await self.committer.write(operation)
        except LeaseLost:
            if write.guard is None:
                raise
            await self.commit(turn, Write())  # a cancelled run takes no guarded write, but everything else
            raise CancelRequested from None
        except psycopg.ProgrammingError as unreadable:
            if write.guard is None:
                raise
            # Unreadable switches count as engaged: the run rests until they can be read, it is not failed.
            raise psycopg.OperationalError(f"The call's intent was not taken: {unreadable}") from unreadable
        turn.take()
        turn.has_draft = False
        turn.fold(write, written.seq - write.size)
        turn.settle(written)
        self.announce(turn, ended=write.status is not None)
        return written

    async def switches(self, *, fresh: bool = False) -> tuple[Engaged, ...]:
        """The engaged kill switches as this worker last read them.

        Good enough to explain a refusal or to ask in time, never to allow: the statement that commits a call's
        intent looks for itself. `fresh` reads again, as one does after that statement, or before a switch refuses.
        """
        if fresh or self._switches is None:
            try:
                self._switches = tuple(await threads.run(switches.engaged))
            except DatabaseError as unreadable:
                raise OperationalError(f"The kill switches cannot be read: {unreadable}") from unreadable
        return self._switches

    def announce(self, turn: Turn, *, ended: bool = False) -> None:
        """Tell open pages of the run at once, the list of runs at most once a second."""
        self.herald.announce(f"run:{turn.public_id}", *(["runs"] if ended else []))

    async def settle(self) -> None:
        """Wait until everything announced has been sent; used before a loop closes."""
        await self.circuits.settle()
        await self.herald.settle()

    async def _advance(self, turn: Turn) -> None:
        if not turn.state.seen:
            await texts.take_input(self, turn)
        while True:
            if turn.cancel_requested:
                await self._cancel(turn)
                return
            if turn.pause_requested and await self._pause(turn):
                return
            if self.is_draining():
                await self.commit(turn, journal.yielded("draining"))
                return
            if await self._perform(turn):
                return

    async def _perform(self, turn: Turn) -> bool:
        """Do the next thing. True when the turn is over."""
        budgets = turn.budgets
        policy = attempts.model_policy(turn, fallback=turn.state.on_fallback)
        command = commands.next_step(
            turn.state,
            max_attempts=policy.attempts,
            has_fallback=policy.has_fallback,
            on=policy.on,
            verifies=turn.bundle.verification.is_needed,
        )
        if isinstance(command, CallModel | Judge):
            room = budgeting.decide_budget(budgets, turn.spent())
            if isinstance(room, Exhausted):
                command = Finish(RunStatus.FAILED, f"budget:{room.budget}", room.reason)
        match command:
            case CheckInput():
                return await texts.check_input(self, turn)
            case CallModel():
                return await self._call_model(turn, command)
            case Judge():
                return await judging.judge(self, turn, command)
            case Recover():
                return await calling.recover(self, turn, command)
            case CheckResult():
                return await guarding.check_result(self, turn, command)
            case CheckOutput():
                return await texts.check_output(self, turn, command.text)
            case Verify():
                return await verification.verify(self, turn, command)
            case Consult():
                return await consultations.ask(self, turn, command)
            case Wait():  # a decision was taken back between park and claim: nothing to do but park again
                await self.commit(turn, Write(status=RunStatus.WAITING, events=[("run.waiting", {})]))
                return True
            case Finish():
                await self.finish(turn, command)
                return True
        return False

    async def _call_model(self, turn: Turn, command: CallModel) -> bool:
        wait = timedelta(seconds=max(0.0, turn.not_before - time.monotonic()))
        if wait > LONGEST_SLEEP:
            wake_at = datetime.now(UTC) + wait
            await self.commit(turn, journal.yielded(turn.why_not_before, until=wake_at, reason=turn.waits_for))
            return True
        if turn.must_flush:
            await self._flush_taken(turn, turn.take())
        if wait:
            with contextlib.suppress(Interrupted), flights.under_way(turn, on_pause=True):
                await asyncio.sleep(wait.total_seconds())
            if turn.cancel_requested or turn.pause_requested:
                return False
        command, leave = await attempts.for_model(self, turn, command)
        if isinstance(leave, Open):
            await self.commit(turn, modelling.not_asked(turn, command, leave))
            return False
        async with self.circuits.using(leave) as outcome:
            return await self._ask_model(turn, command, outcome)

    async def _ask_model(self, turn: Turn, command: CallModel, outcome: Outcome) -> bool:
        held = await spending.hold_model_call(self, turn, modelling.spec_for(turn, command))
        if isinstance(held, Exhausted):
            await self.finish(turn, Finish(RunStatus.FAILED, f"budget:{held.budget}", held.reason))
            return True
        show = asyncio.get_running_loop().call_later(SHOW_AFTER_S, self._show, turn)
        try:
            write, failure = await modelling.call(self, turn, command, held, outcome)
        except Interrupted:
            await spending.settle(self, held, None)
            return False
        finally:
            show.cancel()
        await spending.settle(self, held, write.steps[0])
        await self._shown(turn)
        if failure is None:
            turn.hold(write, must_flush=True)
        else:
            await self.commit(turn, write)
        return False

    def _show(self, turn: Turn) -> None:
        """The model takes its time: write what is held meanwhile, so that open traces show it."""
        if turn.held:
            turn.flushing = asyncio.create_task(self._flush_taken(turn, turn.take()))

    async def _flush_taken(self, turn: Turn, taken: list[Write]) -> None:
        operation = journal.operation(turn.lease, taken, drafted=False)
        turn.settle(await self.committer.write(operation))
        self.announce(turn)

    async def _shown(self, turn: Turn) -> None:
        flushing, turn.flushing = turn.flushing, None
        if flushing is not None:
            await flushing

    async def finish(self, turn: Turn, end: Finish) -> None:
        """Write the last step and the final status, then let the outside know."""
        await self.commit(turn, endings.last(end))
        if turn.row["callback_url"]:
            await asyncio.to_thread(queueing.callback_due, turn.run_id)

    async def _pause(self, turn: Turn) -> bool:
        """Park the run until somebody resumes it. False: the pause was taken back meanwhile, and the turn goes on."""
        await self._shown(turn)
        if not await threads.run(interventions.follow_pause, turn.lease, turn.held):
            turn.pause_requested = False
            return False
        turn.take()
        self.announce(turn, ended=True)
        return True

    async def _cancel(self, turn: Turn) -> None:
        """End the run as cancelled. A call that may have happened is marked so; nobody claims it did not."""
        who, reason, cause = await self._cancelled_by(turn.run_id)
        said = f"{who or 'somebody'}: {reason}"
        entry = turn.state.entry if turn.state.stage == Stage.STARTED else None
        if entry is not None:
            await self._shown(turn)
            await claiming.reload(self.pool, turn)  # its thread may have written the result
            is_open = turn.state.stage == Stage.STARTED
            broken_off = outcomes.broken_off(turn, entry)
            if is_open:
                await self.commit(turn, Write(finished=[broken_off]))
            if is_open and broken_off.status == StepStatus.UNKNOWN:
                said += f" {entry.name} was under way and may have happened."
        await self.finish(turn, Finish(RunStatus.CANCELLED, cause or "cancelled", said))

    async def _cancelled_by(self, run_id: UUID) -> tuple[str, str, str]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT cancelled_by_label, cancel_reason, cancel_cause FROM runtime_run WHERE id = %s", [run_id]
            )
            row = await cursor.fetchone()
        return row or ("", "", "")

    async def _fail(self, turn: Turn, broken: Exception) -> None:
        """An error of ours: the run is marked failed, with the evidence."""
        detail = f"{type(broken).__name__}: {broken}"[:500]
        if isinstance(broken, psycopg.DataError):
            turn.held.clear()  # what cannot be stored may be among it, and would be found again by each claim
        try:
            await self.finish(turn, Finish(RunStatus.FAILED, "internal_error", detail))
        except LeaseLost:
            log.warning("%s could not be marked failed: it was taken over.", turn.public_id)
        except (psycopg.Error, PoolTimeout) as lost:
            log.warning("%s could not be marked failed: %s. It is given back for a later claim.", turn.public_id, lost)
            await self._give_back_when_possible(turn)

    async def _give_back_when_possible(self, turn: Turn, not_made: UUID | None = None) -> None:
        """Return the run to the queue once the database answers again; until then this worker still holds it.

        What was held is dropped: whether the write that failed has happened is not known, and the next claim reads it.
        `not_made` is the step of a call that was certainly not made, if its intent is there.
        """
        turn.held.clear()
        for attempt in range(60):
            await asyncio.sleep(min(5, 0.2 * 2**attempt))
            try:
                again = await calling.made_again(self, turn, not_made) if not_made else Write()
                await self.commit(turn, journal.yielded("database", write=again))
                return
            except LeaseLost:
                return
            except (psycopg.Error, PoolTimeout):
                continue
