"""The replay provider: answers with what was recorded for the thread, as long as the recording speaks about the run.

The position follows from the request alone: the turn is the number of earlier runs of the thread, the reply is the
number of replies the run has given so far. A restarted worker therefore says the same again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from releases.bundles import ModelSpec
from runtime import journal, threads
from runtime.messages import Call, Cost, ModelReply, Reply, ToolResult, Usage, UserText
from runtime.models import Step
from runtime.policies import replaying
from runtime.policies.replaying import Diverged, Told
from runtime.providers import prices, scripted
from runtime.providers.base import ModelRequest, OnText, ProviderError
from runtime.replay import scripts
from runtime.replay.turns import RecordedCall, RecordedReply, Script
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict

PRICED_BY = ("openai", "anthropic")
AGAINST = {StepVerdict.REJECTED: "approval_rejected", StepVerdict.EXPIRED: "approval_expired"}


class Replay:
    """A Provider. It reports the recorded model's name with `recorded`, so that no page takes it for a live call."""

    async def reply(self, request: ModelRequest, on_text: OnText) -> Reply:
        script = await _script(request.thread_id)
        said = request.messages[request.history :]
        recorded = _recorded(script, request.turn, said)
        before = sum(isinstance(message, ModelReply) for message in said)
        if any(isinstance(message, ToolResult) and message.is_error for message in said):
            await threads.run(_follow, request, script, said)
        if before >= len(recorded):
            last = script.turns[request.turn].replies[-1].calls
            names = ", ".join(call.name for call in last)
            raise _over("recording_ended", f"The recording ends with the result of {names}; it has no answer to it.")
        reply = recorded[before]
        if not reply.calls and not reply.text.strip():
            raise _over("recording_empty", "The recorded answer is empty: it has no text and no call.")
        for piece in scripted.pieces(reply.text):
            await on_text(piece)
        return _reply(request, script.model, reply)


async def _script(thread_id: UUID) -> Script:
    try:
        return await scripts.of(thread_id)
    except scripts.NoRecording as nothing:
        raise ProviderError("bad_request", str(nothing), retry=False) from nothing


def _recorded(script: Script, turn: int, said: Sequence[object]) -> tuple[RecordedReply, ...]:
    """The replies of the present turn, when the user says what he said in the recording."""
    if turn >= len(script.turns):
        raise _over("recording_ended", f"The recording has {len(script.turns)} turns; this would be number {turn + 1}.")
    asked = next((message.text for message in said if isinstance(message, UserText)), "")
    if _as_kept(asked) != _as_kept(script.turns[turn].text):
        raise _over("recording_diverged", f"In turn {turn + 1} of the recording the user says something else.")
    return script.turns[turn].replies


def _as_kept(text: str) -> str:
    """The text as a run keeps it: no NUL, no space around it, secrets masked."""
    return journal.plain(text).strip()


def _follow(request: ModelRequest, script: Script, said: Sequence[object]) -> None:
    """Check that the next recorded reply still speaks about what happened to the calls of the last one.

    Raises:
        ProviderError: it does not; carries how the run must end.
    """
    results = {message.call_id: message for message in said if isinstance(message, ToolResult)}
    last = next(message for message in reversed(said) if isinstance(message, ModelReply))
    writes = {tool.name for tool in request.tools if tool.is_write}
    steps = _steps(request.run_id, [call.id for call in last.calls])
    for call in last.calls:
        told = Told(
            tool=call.name,
            is_write=call.name in writes,
            is_error=call.id in results and results[call.id].is_error,
            by_person=call.id in steps and steps[call.id].verdict in AGAINST,
            recorded_error=_recorded_error(script.call(call.id)),
        )
        verdict = replaying.decide_next([told])
        if isinstance(verdict, Diverged):
            raise _diverged(verdict, steps.get(call.id))


def _steps(run_id: UUID, call_ids: Sequence[str]) -> dict[str, Step]:
    """The last finished step about each call: its result, its refusal, or a person's decision against it."""
    found = Step.objects.filter(run_id=run_id, call_id__in=call_ids, finished_at__isnull=False).order_by("seq")
    return {step.call_id: step for step in found if step.verdict != StepVerdict.ASKED}


def _recorded_error(call: RecordedCall | None) -> bool | None:
    return None if call is None or call.outcome is None else call.outcome.is_error


def _diverged(verdict: Diverged, step: Step | None) -> ProviderError:
    """A refusal by a person or by the gate ends the run as refused, a call that failed ends it as failed."""
    if step is not None and step.kind == StepKind.APPROVAL:
        ends = RunStatus.EXPIRED if step.verdict == StepVerdict.EXPIRED else RunStatus.REFUSED
        return _over("recording_diverged", verdict.reason, ends=ends, cause=AGAINST[StepVerdict(step.verdict)])
    if step is not None and step.status == StepStatus.REFUSED:
        return _over("recording_diverged", verdict.reason, ends=RunStatus.REFUSED, cause=step.rule)
    return _over("recording_diverged", verdict.reason, cause=step.error if step is not None else "recording_diverged")


def _over(code: str, message: str, *, ends: RunStatus = RunStatus.FAILED, cause: str = "") -> ProviderError:
    return ProviderError(code, message, retry=False, ends=ends, cause=cause or code)


def _reply(request: ModelRequest, model: str, recorded: RecordedReply) -> Reply:
    calls = tuple(Call(call.id, call.name, call.arguments) for call in recorded.calls)
    reply = Reply(
        recorded.text,
        calls,
        model=f"recorded {model}".strip(),
        stop_reason="tool_calls" if calls else "stop",
    )
    usage = _usage(request, reply, recorded)
    return replace(reply, usage=usage, cost=_cost(model, usage, recorded))


def _usage(request: ModelRequest, reply: Reply, recorded: RecordedReply) -> Usage:
    if recorded.input_tokens is None or recorded.output_tokens is None:
        return scripted.count(request, reply)
    return Usage(recorded.input_tokens, recorded.cached_tokens, recorded.output_tokens)


def _cost(model: str, usage: Usage, recorded: RecordedReply) -> Cost:
    """What the recording says it cost; else today's list price of the recorded model or a relative: an estimate."""
    if recorded.cost_usd is not None:
        return Cost(recorded.cost_usd)
    for vendor in PRICED_BY if model else ():
        found = prices.cost(ModelSpec.model_validate({"provider": vendor, "name": model[:120]}), usage, model)
        if found.basis != "unpriced":
            return Cost(found.usd, "estimated")
    return Cost(basis="unpriced")
