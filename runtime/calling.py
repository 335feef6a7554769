"""Tool calls whose intent is committed: made, made again or found out about, with a result that is certain."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from console import redact
from releases.bundles import ToolManifest
from runtime import (
    attempts,
    calls,
    claiming,
    flights,
    guarding,
    journal,
    outcomes,
    threads,
    thresholds,
    toolbox,
    totals,
    verifying,
)
from runtime.attempts import Failure
from runtime.circuits import Outcome
from runtime.flights import Interrupted
from runtime.journal import CancelRequested, Finished, Guard, LeaseLost, SwitchedOff, Write, Written
from runtime.policies import folding
from runtime.policies.commands import Recover
from runtime.policies.folding import Entry, Stage
from runtime.policies.recovering import Park, Repeat, Settle, Wait
from runtime.policies.retrying import ErrorClass
from runtime.policies.waiting import Reason
from runtime.pools import AWAY
from runtime.states import StepStatus
from runtime.thresholds import NotMade, Threshold
from runtime.toolbox import Executable
from runtime.tools import ToolError
from runtime.turns import Shell, Turn
from runtime.verifying import Found

LONGEST_ERROR = 4000  # characters of a tool's own error that are kept and told


async def recover(engine: Shell, turn: Turn, command: Recover) -> bool:
    """Decide about a call whose process died between its intent and its result (see the effect contract)."""
    call, entry = command.call, command.entry
    manifest = turn.bundle.toolset[call.name]
    found = await verifying.find_out(engine, turn, manifest, entry)
    decision = found.decision
    if isinstance(decision, Repeat) and folding.is_copied(entry):  # no approval of the other run covers it here
        decision = Park("It was under way in the run that this one retries, and nobody knows whether it happened.")
    said: dict[str, Any] = {"tool": call.name, "step": entry.id, "fence": turn.lease.fence}
    if found.finding is not None:
        said |= {"answer": found.answer, "evidence": found.evidence}
    match decision:
        case Settle():
            return await _settle(engine, turn, manifest, entry, found, said)
        case Wait(until=until):
            asked = Write(events=[("call.verified", said)])
            why = f"whether {call.name} happened is asked again later"
            await engine.commit(turn, journal.yielded(why, until=until, write=asked))
            return True
        case Park(why=why_asked):
            await threads.run(calls.park_unknown, turn, call, manifest, entry, why_asked, found.evidence)
            engine.announce(turn, ended=True)
            return True
    # Read and idempotent calls are made again with the same key; a transactional one is known not to have happened,
    # and so is an unsafe one whose outside says so at a time when it can not happen any more.
    executable = toolbox.resolve(turn.bundle, manifest, turn.row["thread_id"], call.id)
    again = Write(events=[("call.repeated", said)], guard=guard(turn, manifest, is_reviewed=True))
    try:
        await engine.commit(turn, again)
    except SwitchedOff as stopped:
        await _finish(engine, turn, manifest, outcomes.stopped(entry, await _switched_off(engine, stopped)))
        return False
    except CancelRequested:
        return False
    assert executable is not None
    return await perform(engine, turn, manifest, executable, entry, Outcome(), thresholds.of_repeated())


async def made_again(engine: Shell, turn: Turn, step_id: UUID) -> Write:
    """What is written of a call that this turn has not made: it is made again, judged anew. Nothing if no intent is
    there. The lease holds it: once somebody else has the run, he cannot know, and nothing of this is written.
    """
    await claiming.reload(engine.pool, turn)
    entry = turn.state.entry if turn.state.stage == Stage.STARTED else None
    if entry is None or entry.id != str(step_id):
        return Write()
    failed = outcomes.never_begun(entry, "The database went away before the call was made. It is made again.")
    told = {"again": True, "waits_s": 0.0, "attempt": entry.attempt}
    return Write(finished=[replace(failed, output={**failed.output, **told})])


async def _settle(
    engine: Shell, turn: Turn, manifest: ToolManifest, entry: Entry, found: Found, said: Mapping[str, Any]
) -> bool:
    """The outside knows the call: it happened, and what it says is the result."""
    result = getattr(found.finding, "result", None)
    value = result if result is not None else f"It happened. {found.evidence}".strip()
    done = outcomes.succeeded(manifest, entry, value)
    done = replace(
        done, summary=f"Found to have happened: {found.evidence}", output={**done.output, "verified": found.evidence}
    )
    done, found_in_it = await guarding.look(turn, manifest, entry, done)
    events = [("call.verified", said)]
    await engine.commit(turn, Write(found_in_it, [done], events, tainted=outcomes.taints(manifest, done)))
    return False


def guard(turn: Turn, manifest: ToolManifest, *, is_reviewed: bool) -> Guard:
    return Guard(turn.agent, manifest.name, manifest.is_write, is_reviewed)


async def _switched_off(engine: Shell, stopped: SwitchedOff) -> str:
    found = {switch.id: switch for switch in await engine.switches(fresh=True)}
    switch = found.get(str(stopped.switch_id))
    return f"Kill switch: {switch.title}. {switch.reason}" if switch else "A kill switch was engaged just now."


async def perform(
    engine: Shell,
    turn: Turn,
    manifest: ToolManifest,
    executable: Executable,
    entry: Entry,
    outcome: Outcome,
    threshold: Threshold,
) -> bool:
    """Make the call whose intent is committed, and commit its result. Never makes it twice.

    True when the turn is over, because the call is made again after a long wait.

    Raises:
        NotMade: the database went away before an unsafe call was begun.
    """
    context = turn.context(entry.idempotency_key)
    arguments = entry.input["arguments"]
    failure: Failure | None = None
    try:
        async with asyncio.timeout(manifest.timeout_s):
            if manifest.retry == "transactional" and not executable.is_async:
                with flights.under_way(turn, on_pause=False):
                    write, written = await threads.run_tool(
                        engine.tool_room,
                        manifest.name,
                        _with_its_step,
                        turn,
                        manifest,
                        executable,
                        entry,
                        context,
                        arguments,
                    )
                outcome.say()
                turn.fold(write, written.seq - write.size)
                turn.settle(written)
                engine.announce(turn)
                return False
            with flights.under_way(turn, on_pause=manifest.retry == "read"):
                value = await _call(engine, manifest, executable, context, arguments, threshold)
            finished = outcomes.succeeded(manifest, entry, value)
    except Interrupted as stopped:
        # One that was begun stays open: the loop rests, and makes a read again later; or it ends the run and says so.
        is_begun = stopped.is_made and not threshold.close()
        if turn.cancel_requested and not is_begun:
            await engine.commit(turn, Write(finished=[outcomes.not_begun(entry)]))
        return False
    except ToolError as said:
        failure = Failure(said.kind, str(said), said.retry_after_s)
        finished = outcomes.failed(entry, said.code, str(said)[:300], f"The tool said: {str(said)[:LONGEST_ERROR]}")
    except TimeoutError:
        failure = Failure(ErrorClass.TIMEOUT, f"no result within {manifest.timeout_s:g} s")
        finished = outcomes.late(manifest, entry, was_begun=not threshold.close())
    except LeaseLost:
        raise
    except Exception as broken:
        was_begun = not threshold.close()
        if isinstance(broken, AWAY) and not was_begun:
            raise NotMade(UUID(entry.id)) from broken
        failure = Failure(attempts.class_of(broken), f"{type(broken).__name__}: {broken}")
        finished = outcomes.broken(manifest, entry, broken, was_begun=was_begun)
    outcome.say(*((failure.error_class, redact.text(failure.error)) if failure else ()))
    if failure is not None and finished.status == StepStatus.FAILED:
        wait_s = attempts.tool_wait_s(manifest, entry, failure)
        if wait_s is not None:
            reason = attempts.waits_for(failure.error_class)
            return await _again(engine, turn, manifest, entry, finished, wait_s, reason)
    await _finish(engine, turn, manifest, finished)
    if finished.status == StepStatus.FAILED:
        await totals.settle(engine, turn, manifest, finished.id)
    return False


async def _again(
    engine: Shell,
    turn: Turn,
    manifest: ToolManifest,
    entry: Entry,
    failed: Finished,
    wait_s: float,
    reason: Reason,
) -> bool:
    """Write the failed attempt down and wait for the next one: asleep, or with the run given back until then."""
    told = {"again": True, "waits_s": round(wait_s, 3), "attempt": entry.attempt}
    failed = replace(
        failed,
        summary=f"{failed.summary[:240]} Made again after {wait_s:.1f} s.",
        output={**failed.output, **told},
    )
    failed, _ = await guarding.look(turn, manifest, entry, failed)
    write = Write(finished=[failed])
    if wait_s <= attempts.LONGEST_SLEEP_S:
        await _write_result(engine, turn, manifest, write)
        with contextlib.suppress(Interrupted), flights.under_way(turn, on_pause=True):
            await asyncio.sleep(wait_s)
        return False
    until = datetime.now(UTC) + timedelta(seconds=wait_s)
    why = f"{manifest.name} is tried again later"
    await engine.commit(turn, journal.yielded(why, until=until, reason=reason, write=write))
    return True


async def _call(
    engine: Shell,
    manifest: ToolManifest,
    executable: Executable,
    context: Any,
    arguments: Mapping[str, Any],
    threshold: Threshold,
) -> Any:
    ready = await toolbox.ready(executable)

    def call() -> Any:
        if not engine.is_trusted():  # frozen since the intent: others may have taken the run over
            raise LeaseLost
        threshold.cross()
        return ready.call(context, arguments)

    value = call() if executable.is_async else await threads.run_tool(engine.tool_room, manifest.name, call)
    return await flights.apart(value) if inspect.isawaitable(value) else value


def _with_its_step(
    turn: Turn, manifest: ToolManifest, executable: Executable, entry: Entry, context: Any, arguments: Any
) -> tuple[Write, Written]:
    """Effect and result in one transaction: after a crash it either happened with its step or not at all."""
    with transaction.atomic(), connection.cursor() as cursor:
        if manifest.timeout_s > settings.IDLE_IN_TRANSACTION_S:  # it may wait for something else that long
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        value = executable.call(context, arguments)
        cursor.execute(
            "SELECT 1 FROM runtime_run WHERE id = %s AND fence = %s AND status = 'running' FOR UPDATE", turn.lease
        )
        held = cursor.fetchone()
        cursor.execute("SELECT 1 FROM runtime_step WHERE id = %s AND finished_at IS NULL", [entry.id])
        if held is None or cursor.fetchone() is None:
            raise LeaseLost
        done, found_in_it = guarding.result(turn, manifest, entry, outcomes.succeeded(manifest, entry, value))
        write = Write(found_in_it, [done], tainted=outcomes.taints(manifest, done))
        return write, journal.commit_within(cursor, turn.lease, write)


async def _finish(engine: Shell, turn: Turn, manifest: ToolManifest, finished: Finished) -> None:
    """Write the result. That of a read may wait for the next write: after a crash it is read again."""
    failed = finished.status != StepStatus.DONE
    assert turn.state.entry is not None
    finished, found_in_it = await guarding.look(turn, manifest, turn.state.entry, finished)
    write = Write(found_in_it, [finished], tool_errors=int(failed), tainted=outcomes.taints(manifest, finished))
    if manifest.retry == "read" and not failed:
        turn.hold(write)
    else:
        await _write_result(engine, turn, manifest, write)


async def _write_result(engine: Shell, turn: Turn, manifest: ToolManifest, write: Write) -> None:
    """Commit a result. A transactional call that was given up on may have been faster: the journal says what counts."""
    await engine.commit(turn, write)
    if manifest.retry == "transactional":
        await claiming.reload(engine.pool, turn)
