"""Asking a person about a tool call: parking the run, checking edits, waking it with the decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils.timezone import now

from approvals import decisions, requests
from approvals.models import ApprovalRequest, Decision
from approvals.states import ApprovalStatus, Verdict
from console import ids, live, problems, redact
from console.actors import system
from console.states import move
from releases import switches
from releases.bundles import Budgets, ToolManifest
from releases.policies.variables import Totals
from runtime import admission, cards, events, guarding, interventions, journal, queueing, tallies, toolbox, verdicts
from runtime.journal import Finished, NewStep, Write
from runtime.messages import Call
from runtime.models import Run, Step, StepPayload
from runtime.policies import budgeting, gating, provenance, ruling
from runtime.policies.folding import Entry
from runtime.policies.gating import Ask
from runtime.states import RUN_MOVES, RunStatus, StepKind, StepStatus, StepVerdict
from runtime.turns import Turn

SUBJECT = "run.call"  # subject id: <public run id>:<approval step's public id>
SETTLEMENT = "run.settlement"
TEXT = "run.text"  # a result before the model reads it, or an answer before it is given: see `consultations`
ABOUT_RUNS = (SUBJECT, SETTLEMENT, TEXT)
EFFECT_UNKNOWN = "effect_unknown"


def park(
    turn: Turn,
    call: Call,
    manifest: ToolManifest,
    arguments: Mapping[str, Any],
    ask: Ask,
    notes: Sequence[NewStep] = (),
) -> None:
    """Ask a person: the verdict, the open approval step, the request and the waiting status in one transaction."""
    moment = datetime.now(UTC)
    digest = toolbox.digest(call.name, arguments, str(turn.row["digest"]))
    verdict = NewStep(
        StepKind.GUARDRAIL,
        ask.rule,
        StepStatus.DONE,
        moment,
        moment,
        verdict=StepVerdict.ASKED,
        rule=ask.rule,
        summary=ask.reason,
        call_id=call.id,
        input={"call": {"id": call.id, "name": call.name, "arguments": dict(arguments)}},
        output={
            "decision": "ask",
            "rule": ask.rule,
            "rule_version": ask.version,
            "reason": ask.reason,
            "conditions": list(ask.conditions),
            **verdicts.listed(ask.content),
            **_origins(turn, ask),
            **({"rules": ruling.as_json(ask.rules)} if ask.rules else {}),
        },
    )
    title = cards.title(manifest, arguments)
    approval = approval_step(call, title, moment, {"digest": digest, "arguments": dict(arguments)})
    write = Write(steps=[*notes, verdict, approval], approvals_asked=1, risk=ask.risk)
    card = cards.for_call(turn, manifest, arguments, ask, title)
    card["evidence"] = [*verdicts.evidence(ask.content), *card["evidence"]]
    park_with(turn, approval, write, SUBJECT, card, digest)


def _origins(turn: Turn, ask: Ask) -> dict[str, Any]:
    """Where the values of the call come from, and the words of outsiders that some of them stand in."""
    if ask.origins is None:
        return {}
    judged = provenance.as_json(ask.origins, turn.known)
    return {"provenance": {**judged, "words": cards.words(turn, ask.origins)}}


def park_unknown(turn: Turn, call: Call, manifest: ToolManifest, entry: Entry, why: str, evidence: str = "") -> None:
    """Ask a person whether a call happened that the system cannot know about. It is never made again by itself.

    `why` says what could not be found out, `evidence` what the other system has said.
    """
    moment = datetime.now(UTC)
    arguments = entry.input["arguments"]
    title = f"Did this happen? {cards.title(manifest, arguments)}"
    digest = toolbox.digest(call.name, arguments, str(turn.row["digest"]))
    approval = approval_step(call, title, moment, {"settles": entry.id, "arguments": arguments, "digest": digest})
    mark = Finished(UUID(entry.id), StepStatus.UNKNOWN, None, summary="It is not known whether this happened.")
    write = Write(steps=[approval], finished=[mark], risk="high")
    card = cards.for_settlement(turn, manifest, arguments, title, why, evidence)
    park_with(turn, approval, write, SETTLEMENT, card, digest)


def approval_step(call: Call, title: str, moment: datetime, bound: Mapping[str, Any]) -> NewStep:
    return NewStep(
        StepKind.APPROVAL,
        "Approval",
        StepStatus.STARTED,
        moment,
        summary=title,
        call_id=call.id,
        input={"title": title, "tool": call.name, **bound},
    )


def park_with(turn: Turn, approval: NewStep, write: Write, kind: str, card: Mapping[str, Any], digest: str) -> None:
    """Write the question and the waiting status together with the request, in one transaction."""
    with transaction.atomic(), connection.cursor() as cursor:
        # Engaging waits for this card or is seen by it: none stays open behind a switch.
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [switches.SWITCH_LOCK])
        key = ids.public("stp", approval.id)
        request = requests.create(
            subject_kind=kind,
            subject_id=f"{turn.public_id}:{key}",
            subject_url=f"/runs/{turn.public_id}/?step={key}",
            digest=digest,
            **card,
        )
        approval.input = {**approval.input, "request": request.public_id}
        is_held = interventions.is_asked(cursor, turn.lease)
        write.status = RunStatus.PAUSED if is_held else RunStatus.WAITING
        about = {"approval": request.public_id, "title": request.title}
        told: list[tuple[str, Mapping[str, Any]]] = [("approval.requested", about)]
        if kind == SETTLEMENT:
            told.append(("run.unknown_effect", {**about, "tool": request.action}))
        parked = {"until": request.due_at.isoformat(), "approval": request.public_id}
        write.events = [*told, ("run.paused" if is_held else "run.waiting", parked)]
        journal.commit_within(cursor, turn.lease, *turn.held, write)
        if turn.row["callback_url"]:
            queueing.callback_due(turn.run_id)
        if kind != TEXT:
            _freeze_if_switched_off(request, turn)


def _freeze_if_switched_off(request: ApprovalRequest, turn: Turn) -> None:
    """A switch engaged between the verdict and now must not leave an open card behind."""
    from releases.policies import switching

    stopped = switching.decide_call(switches.engaged(), agent=turn.agent, tool=request.action, is_write=True)
    if stopped:
        requests.freeze(action=request.action, agent=turn.agent, by=system("gate"), reason=stopped.title)


def why_void(run_id: Any, approval: Entry, tool: str, arguments: Mapping[str, Any] | None, release_digest: str) -> str:
    """Why an approval does not cover the call that is about to be made; empty when it does.

    Compared at dispatch, from the database: whose call it was, what was shown, what was decided and by whom.
    """
    request = ApprovalRequest.objects.filter(pk=ids.parse("apr", str(approval.input["request"]))).first()
    given = list(request.decisions.order_by("pk")) if request else []
    if request is None or not given or request.status != ApprovalStatus.APPROVED:
        return "Its approval is not valid any more."
    subject = f"{ids.public('run', run_id)}:{ids.public('stp', UUID(approval.id))}"
    if (request.subject_kind, request.subject_id) != (SUBJECT, subject):
        return "Its approval was given for another call."
    lapsed = decisions.why_lapsed(request, given)
    if lapsed:
        _void(request, lapsed)
        return f"{lapsed} The approval is void."
    bound = approval.output.get("digest")
    now_digest = toolbox.digest(tool, arguments, release_digest) if arguments is not None else ""
    decided = {toolbox.digest(tool, decision.arguments, release_digest) for decision in given}
    is_same = decided == {bound} == {now_digest} and approval.input.get("tool") == tool
    if not (is_same and _is_as_shown(request, approval, release_digest)):
        _void(request, "The call differs from what was approved.")
        return "It differs from what was approved, so the approval is void."
    return ""


def _is_as_shown(request: ApprovalRequest, approval: Entry, release_digest: str) -> bool:
    """Whether the question still is the one that the run asked: its arguments, and the fields that a person read."""
    asked = toolbox.digest(request.action, request.arguments, release_digest)
    shown = {field["name"]: field["value"] for field in request.fields}
    return asked == request.digest == approval.input.get("digest") and shown == request.arguments


def _void(request: ApprovalRequest, reason: str) -> None:
    requests.void(request.subject_kind, request.subject_id, by=system("gate"), reason=reason)


def _totals(run: Run, tool: str) -> Totals | None:
    """Today's totals where a rule about the tool reads them."""
    bundle = run.release.bundle
    if not ruling.totals_read(bundle.rules, tool):
        return None
    return tallies.read_within(tallies.Key(run.agent_id, bundle.toolset[tool], run.principal_id))


class CallHandler:
    """Answers `approvals` on behalf of runs whose call waits for a decision."""

    def check(self, request: ApprovalRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        run, step = subject_of(request)
        bundle = run.release.bundle
        manifest = bundle.toolset[request.action]
        executable = toolbox.resolve(bundle, manifest, run.thread_id, step.call_id)
        prepared = toolbox.prepare(executable, cards.typed(manifest, arguments))
        if prepared.arguments is None:
            raise problems.Invalid(
                "The edited values do not fit the tool: "
                + "; ".join(f"{place}: {text}" for place, text in prepared.errors.items()),
                errors=dict(prepared.errors),
            )
        self._guard_policy(run, request, prepared.arguments)
        return prepared.arguments

    def _guard_policy(self, run: Run, request: ApprovalRequest, arguments: dict[str, Any]) -> None:
        """Edited arguments pass the gate again; what would need a stricter look than this one is not accepted."""
        facts = gating.Facts(
            tool=request.action,
            bundle=run.release.bundle,
            agent=run.agent.slug,
            switches=tuple(switches.engaged()),
            scopes=frozenset(run.scopes),
            arguments=arguments,
            schema_errors={},
            has_secret=redact.has_secret(arguments),
            spent=budgeting.Spent(0, 0, 0, run.cost_usd, timedelta()),
            budgets=Budgets.model_validate(run.budgets),
            repeats=0,
            approvals=0,
            content=guarding.edited(run.release.bundle, request.action, arguments),
            principal=run.principal,
            tainted=run.tainted,
            thread_id=run.thread.public_id,
            now=now(),
            totals=_totals(run, request.action),
        )
        verdict = gating.decide_call(facts)
        if isinstance(verdict, gating.Refuse):
            raise problems.Invalid(f"The policy refuses these values. {verdict.reason}")
        stricter = isinstance(verdict, Ask) and (
            gating.RISKS.index(verdict.risk) > gating.RISKS.index(request.risk)
            or (verdict.four_eyes and not request.four_eyes)
            or verdict.approvals_needed > request.approvals_needed
            or bool(verdict.ask_roles and not (request.roles and set(request.roles) <= set(verdict.ask_roles)))
        )
        if stricter:
            raise problems.Invalid(
                f"These values need a stricter approval than this one: {verdict.reason} "
                "Reject the request and say what the agent should propose."
            )

    def decided(self, request: ApprovalRequest, decision: Decision) -> None:
        run, step = subject_of(request)
        approved = decision.verdict == Verdict.APPROVE
        by = decisions.deciders(request) if approved else decision.by_label
        verdict = (
            StepVerdict.REJECTED if not approved else StepVerdict.EDITED if decision.edits else StepVerdict.APPROVED
        )
        output: dict[str, Any] = {
            "verdict": verdict,
            "by": by,
            "reason": decision.reason,
            "arguments": decision.arguments,
            "edits": decision.edits,
        }
        if approved:
            output["digest"] = toolbox.digest(request.action, decision.arguments, run.release.digest)
        else:
            output["content"] = f"A person rejected this call. Reason: {decision.reason}"
        close(step, StepStatus.DONE if approved else StepStatus.REFUSED, verdict, output, f"by {by}")
        wake(run, "approval.decided", {"verdict": verdict, "by": by})

    def ended(self, request: ApprovalRequest) -> None:
        run, step = subject_of(request)
        close(
            step,
            StepStatus.REFUSED,
            StepVerdict.EXPIRED,
            {"verdict": "expired"},
            f"{decisions.lacking(request)} in time",
        )
        expire(run, request)


class SettlementHandler:
    """Answers on behalf of runs with a call that may or may not have happened.

    Approve: it happened. Reject: it did not. Give up: nobody can say, and the run ends as failed.
    """

    def check(self, request: ApprovalRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        raise problems.Invalid("This asks what happened; nothing can be edited.")

    def decided(self, request: ApprovalRequest, decision: Decision) -> None:
        run, step = subject_of(request)
        if decision.verdict == Verdict.GIVE_UP:
            _give_up(run, step, request, decision)
            return
        happened = decision.verdict == Verdict.APPROVE
        said = f"{decision.by_label} {'confirmed that it happened' if happened else 'found that it did not happen'}"
        settled = Step.objects.select_for_update().get(pk=UUID(step.payload.input["settles"]))
        content = f"{said}. {decision.reason}".strip()
        close(
            settled,
            StepStatus.DONE if happened else StepStatus.FAILED,
            "",
            {"content": content, "result": {"settled": said, "note": decision.reason}},
            said,
            error="" if happened else "did_not_happen",
        )
        verdict = StepVerdict.APPROVED if happened else StepVerdict.REJECTED
        close(step, StepStatus.DONE, verdict, {"verdict": verdict, "by": decision.by_label}, said)
        wake(run, "call.settled", {"happened": happened, "by": decision.by_label})

    def ended(self, request: ApprovalRequest) -> None:
        run, step = subject_of(request)
        close(step, StepStatus.REFUSED, StepVerdict.EXPIRED, {"verdict": "expired"}, "Nobody settled it in time")
        expire(run, request)


def _give_up(run: Run, step: Step, request: ApprovalRequest, decision: Decision) -> None:
    """Neither answer can be given: the call stays unknown for good, and the run ends with that as its cause."""
    said = f"{decision.by_label} gave up on finding out whether this happened"
    settled = Step.objects.select_for_update().get(pk=UUID(step.payload.input["settles"]))
    content = f"{said}. {decision.reason}".strip()
    close(settled, StepStatus.UNKNOWN, "", {"content": content}, said, error=EFFECT_UNKNOWN)
    output = {"verdict": decision.verdict, "by": decision.by_label, "reason": decision.reason}
    close(step, StepStatus.DONE, StepVerdict.REJECTED, output, said)
    events.append(run, "call.settled", happened=None, by=decision.by_label)
    _end(run, RunStatus.FAILED, EFFECT_UNKNOWN, f"{request.title} Nobody can say. {content}")


def subject_of(request: ApprovalRequest) -> tuple[Run, Step]:
    """The run, locked, and its step that asks."""
    run_key, _, step_key = request.subject_id.partition(":")
    run = (
        Run.objects.select_for_update(of=("self",)).select_related("agent", "release").get(pk=ids.parse("run", run_key))
    )
    step = Step.objects.select_related("payload").get(pk=ids.parse("stp", step_key))
    return run, step


def close(step: Step, status: str, verdict: str, output: dict[str, Any], summary: str, *, error: str = "") -> None:
    """Write the result of a step on behalf of a person; the run's row is locked."""
    seq = events.next_seq(step.run_id)
    Step.objects.filter(pk=step.pk).update(
        status=status,
        verdict=verdict or step.verdict,
        summary=summary[:300],
        error=error,
        finished_at=now(),
        done_seq=seq,
    )
    StepPayload.objects.filter(pk=step.pk).update(output=output)


def wake(run: Run, event: str, data: dict[str, Any]) -> None:
    """Put a parked run back into the queue, unless somebody has paused it; the time it waited is counted apart."""
    run.refresh_from_db(fields=["seq", "status", "waiting_since"])
    if run.status != RunStatus.PAUSED:
        counted = interventions.parked(run)
        run.status = move(RUN_MOVES, RunStatus(run.status), RunStatus.QUEUED)
        Run.objects.filter(pk=run.pk).update(status=run.status, queued_at=now(), **counted)
        queueing.enqueue_run(run.pk, run.fence, run.priority)
    events.append(run, event, **data)
    live.announce(f"run:{run.public_id}", "runs")


def expire(run: Run, request: ApprovalRequest) -> None:
    """End a run whose question nobody has answered in time."""
    detail = f"{decisions.lacking(request)} in time: “{request.title}”. It was not done."
    _end(run, RunStatus.EXPIRED, "approval_expired", detail)


def _end(run: Run, status: RunStatus, cause: str, detail: str) -> None:
    """End a parked run whose question has ended it."""
    run.refresh_from_db(fields=["seq", "status", "waiting_since"])
    counted = interventions.parked(run)
    run.status = move(RUN_MOVES, RunStatus(run.status), status)
    Run.objects.filter(pk=run.pk).update(
        status=run.status,
        cause=cause,
        cause_detail=detail,
        finished_at=now(),
        **counted,
    )
    events.append(run, "run.finished", status=run.status, cause=cause)
    queueing.callback_due(run.pk)
    admission.after_end(run)
    live.announce(f"run:{run.public_id}", "runs")
