"""One step, opened: a sentence, facts, and what went in and came out, by kind of step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from approvals import decisions
from approvals.models import ApprovalRequest
from console import ids, words
from runtime import entries, guardrail_words, labels, messages
from runtime.labels import Badge
from runtime.masking import Shown
from runtime.models import Run, Step
from runtime.policies import folding
from runtime.states import StepKind, StepStatus, StepVerdict

Describe = Callable[["Inspection", Mapping[str, Any], Mapping[str, Any]], None]

ALLOWED_BY = {"default": "No rule stood in the way", "approved": "The approval of a person"}
OPEN_QUESTION = "A person is asked. The run is parked and holds no worker."
CLOSED_QUESTION = "A person was asked; the run ended before it was decided."
PARTS = {"summary": "Summary", "input": "Input", "output": "Output", "raw": "Raw"}


@dataclass(frozen=True)
class Fact:
    label: str
    value: str
    css: str = ""
    url: str = ""


@dataclass(frozen=True)
class Message:
    """One message of a model call: who said it, and what."""

    who: str
    icon: str
    text: str
    calls: Sequence[Mapping[str, Any]] = ()
    is_error: bool = False


@dataclass(frozen=True)
class Edit:
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Passage:
    citation: str
    title: str
    text: str
    score: str
    is_used: bool | None  # None while there is no answer yet
    step: str = ""


@dataclass
class Inspection:
    step: Step
    part: str
    is_over: bool  # its run has ended
    icon: str
    tone: str
    badges: Sequence[Badge]
    sentence: str = ""
    facts: list[Fact] = field(default_factory=list)
    quote: str = ""
    conditions: Sequence[str] = ()
    seen: Sequence[str] = ()  # what a guardrail has found it by
    origins: Sequence[str] = ()
    rules: Sequence[str] = ()
    call: Any = None
    result: Any = None
    edits: Sequence[Edit] = ()
    passages: Sequence[Passage] = ()
    messages: Sequence[Message] = ()
    value: Any = None
    hidden: int = 0

    @property
    def name(self) -> str:
        return labels.name(self.step)

    @property
    def is_open(self) -> bool:
        return self.step.status == StepStatus.STARTED and not self.is_over


def build(run: Run, step: Step, part: str, shown: Shown) -> Inspection:
    """What is shown of a step. `step.payload` must be loaded; large values fold in the viewer."""
    payload = getattr(step, "payload", None)
    raw_in, raw_out = (payload.input, payload.output) if payload else ({}, {})
    given, result = shown(raw_in), shown(raw_out)
    kind = labels.KINDS[StepKind(step.kind)]
    found = Inspection(step, part, run.is_final, kind.icon, labels.colours(step)[1], labels.badges(step, run.status))
    found.hidden = _masked([given, result]) - _masked([raw_in, raw_out])
    if part == "summary":
        _summary(found, run, given, result, shown)
    elif part == "input":
        if step.kind == StepKind.MODEL:
            found.messages = [message(one) for one in shown(given.get("messages") or _told(step))]
        found.value = {key: item for key, item in given.items() if key != "messages"} if found.messages else given
    elif part == "output":
        found.value = result
    else:
        found.value = _raw(step, given, result, shown)
    return found


def _told(step: Step) -> list[dict[str, Any]]:
    """The messages that were new to a model call: what the steps since the model's last reply have brought."""
    earlier = step.run.steps.filter(seq__lt=step.seq)
    replies = earlier.filter(kind=StepKind.MODEL, status=StepStatus.DONE).order_by("-seq")
    since = earlier.filter(seq__gte=Coalesce(Subquery(replies.values("seq")[:1]), 0)).select_related("payload")
    state = folding.fold(
        folding.begin(), [entries.stored(one) for one in since.order_by("seq") if hasattr(one, "payload")]
    )
    return [messages.to_json(told) for told in state.messages]


def message(stored: Mapping[str, Any]) -> Message:
    if stored.get("role") == "user":
        return Message("Customer", "message-square", str(stored.get("text", "")))
    if stored.get("role") == "notice":
        return Message("The runtime", "shield", str(stored.get("text", "")))
    if stored.get("role") == "tool":
        name = str(stored.get("name", "tool"))
        return Message(name, "square-terminal", str(stored.get("content", "")), is_error=bool(stored.get("is_error")))
    return Message("Agent", "sparkle", str(stored.get("text", "")), calls=tuple(stored.get("calls", [])))


def passages(result: Mapping[str, Any], answer: str, step: str = "") -> list[Passage]:
    """The passages a retrieval returned. One counts as used when the answer names its citation."""
    found = result.get("result")
    listed = found.get("passages") if isinstance(found, dict) else None
    return [
        Passage(
            citation=str(one.get("citation", "")),
            title=str(one.get("title", "")),
            text=str(one.get("text", "")),
            score=f"{one['score']:.3g}" if isinstance(one.get("score"), int | float) else "",
            is_used=(bool(one.get("citation")) and str(one["citation"]) in answer) if answer else None,
            step=step,
        )
        for one in listed or []
        if isinstance(one, dict)
    ]


def _summary(found: Inspection, run: Run, given: Mapping[str, Any], result: Mapping[str, Any], shown: Shown) -> None:
    step = found.step
    describe: dict[StepKind, Describe] = {
        StepKind.INPUT: _input,
        StepKind.MODEL: partial(_model, run),
        StepKind.TOOL: _tool,
        StepKind.RETRIEVAL: _retrieval,
        StepKind.GUARDRAIL: _guardrail,
        StepKind.APPROVAL: _approval,
        StepKind.ANSWER: _answer,
    }
    describe[StepKind(step.kind)](found, given, result)
    if step.kind in (StepKind.TOOL, StepKind.RETRIEVAL) and labels.is_broken_off(step, run.status):
        again = "It is made again when the run is resumed." if not run.is_final else "Its result was not waited for."
        found.sentence = f"{step.name} was broken off. {again}"
    if step.kind == StepKind.RETRIEVAL:
        found.passages = passages(result, shown(run.answer))
    end = step.finished_at or (timezone.now() if not run.is_final else run.finished_at)
    if end and step.finished_at != step.started_at:
        found.facts.append(Fact("Took", words.duration(end - step.started_at), "num"))
    if copied := given.get(folding.COPIED):
        url = f"{Run(pk=run.forked_from_id).get_absolute_url()}?step={copied}" if run.forked_from_id else ""
        found.facts.append(Fact("Taken over from", str(copied), "mono", url))
    found.facts.append(Fact("At", f"{step.started_at:%H:%M:%S.%f}"[:-3] + " UTC", "num"))


def _input(found: Inspection, given: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    found.sentence = "The customer wrote this."
    found.quote = str(result.get("text", ""))


def _model(run: Run, found: Inspection, given: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    step, calls = found.step, result.get("calls") or []
    if step.error == folding.BROKEN_OFF:
        found.sentence = "The run was stopped or paused before the answer came. Its input is charged by estimate."
    elif step.status == StepStatus.FAILED:
        again = "It will be tried again." if result.get("retry") else "Trying again would not help."
        found.sentence = f"The model did not answer: {labels.error(step.error).lower()}. {again}"
        found.quote = str(result.get("message", ""))
    elif calls:
        names = ", ".join(str(call.get("name")) for call in calls)
        found.sentence = f"The model proposed {'a call' if len(calls) == 1 else f'{len(calls)} calls'}: {names}."
        found.call = calls[0].get("arguments") if len(calls) == 1 else calls
        found.quote = str(result.get("text", ""))
    else:
        found.sentence = "The model answered with text."
        found.quote = str(result.get("text", ""))
    release = run.release.content
    spec = (release.get("fallback_model") if given.get("fallback") else None) or release["model"]
    cached = f", {words.number(step.cached_tokens)} of them cached" if step.cached_tokens else ""
    basis = {"exact": "exact price", "estimated": "estimated price", "unpriced": "no price known"}
    found.facts = [
        Fact("Model", str(result.get("model") or given.get("model", "")), "mono"),
        Fact("Provider", _provider(str(given.get("provider", "")), bool(given.get("fallback")))),
        Fact("Tokens in", f"{words.number(step.input_tokens)}{cached}", "num"),
        Fact("Tokens out", words.number(step.output_tokens), "num"),
        Fact("Cost", f"{words.money(step.cost_usd)}, {basis.get(step.cost_basis, 'no price known')}", "num"),
        *_present("Usage", result.get("usage_note")),
        *_present("Stop reason", result.get("stop_reason"), "mono"),
        *(Fact(name.replace("_", " ").capitalize(), str(value), "mono") for name, value in _parameters(spec)),
        *_present("Tools offered", len(release["tools"]) or None, "num"),
        *_present("Earlier messages", given.get("earlier_messages"), "num"),
    ]


def _provider(provider: str, is_fallback: bool) -> str:
    label = {"scripted": "Scripted (no real model)", "replay": "Replay of a recording"}.get(provider, provider)
    return f"{label}, fallback" if is_fallback else label


def _parameters(spec: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found = spec.get("parameters")
    return list(found.items())[:8] if isinstance(found, dict) else []


def _tool(found: Inspection, given: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    step = found.step
    said = str(result.get("error") or folding.told(result))
    how = labels.error(step.error).lower()
    found.sentence = {
        StepStatus.STARTED: f"{step.name} is running.",
        StepStatus.DONE: f"{step.name} returned a result.",
        StepStatus.FAILED: f"{step.name} failed{'' if how == 'failed' else f': {how}'}.",
        StepStatus.REFUSED: f"{step.name} was not called.",
        StepStatus.UNKNOWN: f"It is not known whether {step.name} happened. A person settles it.",
    }[StepStatus(step.status)]
    withheld = result.get("withheld")
    if isinstance(withheld, dict):
        found.sentence = f"{step.name} returned a result. A guardrail withheld it from the model: {withheld['reason']}"
        found.result = withheld.get("result")
        found.quote = said if found.result is None else ""
    elif step.status == StepStatus.DONE and isinstance(result.get("result"), dict | list):
        found.result = result["result"]
    else:
        found.quote = said[:4000]
    found.call = given.get("arguments")
    found.origins = _origins(given.get("provenance"))
    found.rules = _rules(given.get("rules"))
    found.facts = [
        *_present("Allowed by", ALLOWED_BY.get(step.rule, step.rule.removeprefix("rule:"))),
        *_present("Why", given.get("reason")),
        Fact("Attempt", str(step.attempt), "num"),
        *_present("Idempotency key", step.idempotency_key, "mono"),
        *_present("Call id", step.call_id, "mono"),
    ]


def _retrieval(found: Inspection, given: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    _tool(found, given, result)
    if found.step.status == StepStatus.DONE:
        found.sentence = f"{found.step.name} looked for passages to answer with."
        found.quote, found.result = "", None


def _guardrail(found: Inspection, given: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    step = found.step
    call = given.get("call") if isinstance(given.get("call"), dict) else None
    found.sentence = str(result.get("reason") or "") or "Nothing was found."
    version = result.get("rule_version")
    found.facts = [
        Fact("Rule", f"{(step.rule or step.name).removeprefix('rule:')}{f' v{version}' if version else ''}", "mono"),
        Fact("Checked", str(call.get("name")) if call else guardrail_words.looked_at(given), "mono" if call else ""),
        *_present("Check", guardrail_words.check(result)),
        Fact("Decision", guardrail_words.decision(result, step.verdict)),
        *_present("Undecided", guardrail_words.UNDECIDED if result.get("undecided") else None),
        *_judged_by(step),
    ]
    found.seen = guardrail_words.seen(result)
    found.conditions = [str(one) for one in result.get("conditions") or []]
    found.origins = _origins(result.get("provenance"))
    found.rules = _rules(result.get("rules"))
    found.call = call.get("arguments") if call else None
    judged = result.get("provenance")
    found.quote = str(given.get("text", "") or (isinstance(judged, dict) and judged.get("words")) or "")


def _rules(applied: Any) -> list[str]:
    """The operator's rules that held for the call, and what each came to or would have come to."""
    words = {"allow": "allow it", "ask": "ask people", "refuse": "refuse it"}
    found = []
    for one in applied if isinstance(applied, list) else []:
        verdict = words.get(str(one.get("verdict")), "")
        said = f"only logged, would {verdict}" if one.get("log") else verdict
        other = ", which changes what was done" if one.get("changes") else ""
        error = f". Its condition could not be evaluated: {one['error']}" if one.get("error") else ""
        found.append(f"{one.get('id')} v{one.get('version')}: {said}{other}{error}")
    return found


def _judged_by(step: Step) -> list[Fact]:
    """What a model took for its judgement."""
    if not step.input_tokens and not step.output_tokens:
        return []
    tokens = f"{words.number(step.input_tokens)} in, {words.number(step.output_tokens)} out"
    return [Fact("Tokens", tokens, "num"), Fact("Cost", words.money(step.cost_usd), "num")]


def _origins(judged: Any) -> list[str]:
    """Where each sensitive value of a call comes from, and whose text the run had read."""
    if not isinstance(judged, dict):
        return []
    tool, step = judged.get("tainted_tool"), judged.get("tainted_by")
    read = [f"The run has read {tool} (event {step}), which an outsider may have written."] if tool else []
    evidence = [one for one in judged.get("evidence") or [] if isinstance(one, dict)]
    return [*read, *(f"{one.get('argument')} “{one.get('value')}”: {one.get('sentence')}" for one in evidence)]


def _approval(found: Inspection, given: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    step = found.step
    who = str(result.get("by") or "A person")
    found.sentence = {
        StepVerdict.APPROVED: f"{who} approved it as proposed.",
        StepVerdict.EDITED: f"{who} approved it with edits.",
        StepVerdict.REJECTED: f"{who} rejected it.",
        StepVerdict.EXPIRED: f"{step.summary or 'Nobody decided in time'}.",
    }.get(StepVerdict(step.verdict), OPEN_QUESTION if not found.is_over else CLOSED_QUESTION)
    found.quote = str(result.get("reason") or "")
    url = review_url(given)
    found.facts = [
        *([Fact("Request", str(given.get("title") or "Open the request"), "", url)] if url else []),
        *(_present("Approved so far", _so_far(given)) if found.is_open else []),
        *_present("Decided by", result.get("by")),
        *_present("Rule", step.rule.removeprefix("rule:"), "mono"),
    ]
    edits = result.get("edits")
    found.edits = [
        Edit(str(name), words.NOTHING if pair[0] is None else str(pair[0]), str(pair[1]))
        for name, pair in (edits.items() if isinstance(edits, dict) else ())
        if isinstance(pair, list) and len(pair) == 2
    ]
    found.call = result.get("arguments") or given.get("arguments")


def review_url(given: Mapping[str, Any]) -> str:
    """Where the request of an approval step is decided."""
    key = _request(given)
    return reverse("approvals:detail", args=[key]) if key else ""


def _request(given: Mapping[str, Any]) -> UUID | None:
    try:
        return ids.parse("apr", str(given.get("request", "")))
    except ValueError:
        return None


def _so_far(given: Mapping[str, Any]) -> str:
    """Where several people must approve, how many have: `1 of 2: Ada`."""
    key = _request(given)
    asked = ApprovalRequest.objects.filter(pk=key, approvals_needed__gt=1).first() if key else None
    if asked is None:
        return ""
    counted = f"{len(decisions.approved_by(asked))} of {asked.approvals_needed}"
    return f"{counted}: {who}" if (who := decisions.deciders(asked)) else counted


def _answer(found: Inspection, given: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    status, cause = str(result.get("status", "")), str(result.get("cause", ""))
    word = labels.run(status).label if status else found.step.name
    found.sentence = str(result.get("detail") or "") or f"The run ended: {word.lower()}."
    found.facts = [Fact("Outcome", word), *_present("Cause", labels.cause(cause) if cause else None)]
    found.quote = str(result.get("text", ""))


def _present(label: str, value: Any, css: str = "") -> list[Fact]:
    return [] if value in (None, "", 0) else [Fact(label, str(value), css)]


def _raw(step: Step, given: Any, result: Any, shown: Shown) -> dict[str, Any]:
    names = [
        *("seq", "done_seq", "fence", "kind", "name", "status", "verdict", "rule", "summary", "error", "attempt"),
        *("call_id", "idempotency_key", "input_tokens", "cached_tokens", "output_tokens", "cost_basis"),
    ]
    row = {"id": step.public_id, **{name: getattr(step, name) for name in names}}
    row["summary"] = shown(step.summary)
    row["cost_usd"] = str(step.cost_usd)
    row["started_at"] = step.started_at.isoformat()
    row["finished_at"] = step.finished_at.isoformat() if step.finished_at else None
    return {**row, "input": given, "output": result}


def _masked(value: Any) -> int:
    """How many masked places a value has."""
    if isinstance(value, str):
        return value.count("•••")
    if isinstance(value, Mapping):
        return sum(_masked(item) for item in value.values())
    return sum(_masked(item) for item in value) if isinstance(value, list) else 0
