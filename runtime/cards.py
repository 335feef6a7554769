"""What a person sees of a call: sentence, fields with the origin of each value, evidence, what the agent did."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.utils.timezone import now

from releases.bundles import ToolManifest
from runtime import evidence, labels
from runtime.messages import Message, ToolResult, UserText
from runtime.policies import provenance
from runtime.policies.gating import Ask
from runtime.policies.provenance import Origin
from runtime.turns import Turn

FIXED = frozenset({"target", "destination"})  # what an approver may not turn into something else
NO_NOUNS = frozenset({"at", "bcc", "by", "cc", "for", "from", "in", "of", "on", "to", "when", "where", "with"})
BY_USER = "typed by the user"
SEEN = {BY_USER: "though it stands in what the user wrote: it could mean something else there"}
ICONS = {"user": "message-square", "tool": "square-terminal", "model": "sparkles", "refused": "shield"}


def title(manifest: ToolManifest, arguments: Mapping[str, Any]) -> str:
    """The sentence of a call: the manifest's own with its values filled in, else the tool and its arguments."""
    if manifest.title:
        return _fill(manifest.title, arguments)[:300]
    listed = ", ".join(f"{name} {_short(value)}" for name, value in list(arguments.items())[:4])
    return f"{re.sub('_+', ' ', manifest.name).capitalize()}: {listed}"[:300]


def for_call(
    turn: Turn, manifest: ToolManifest, arguments: Mapping[str, Any], ask: Ask, sentence: str
) -> dict[str, Any]:
    """The approval request of a proposed call, as it will be shown and stored."""
    return {
        **_common(turn, manifest, arguments, sentence, _alone(ask.origins)),
        "risk": ask.risk,
        "fields": [field(turn, manifest, name, value, ask.origins) for name, value in arguments.items()],
        "rule": ask.rule.removeprefix("rule:"),
        "rule_version": ask.version,
        "why": _why(turn, manifest, ask),
        "if_nobody_decides": "If nobody decides in time, the run ends as expired and nothing is done.",
        "reversible": manifest.effect == "write" and not manifest.moves_money,
        "labels": {"approve": "Approve", "reject": "Reject"},
        "four_eyes": ask.four_eyes,
        "approvals_needed": ask.approvals_needed,
        "roles": list(ask.ask_roles),
        "due_at": now() + timedelta(minutes=ask.due_minutes),
    }


def _why(turn: Turn, manifest: ToolManifest, ask: Ask) -> str:
    """Why a person is asked; where an outsider may have had a say, what the run has read of him."""
    if ask.origins is None:
        return ask.reason
    known, lead = turn.known, _unasked(turn, manifest, ask)
    if not known.tainted_tool:
        return f"{lead} The conversation before, or a memory, holds what an outsider may have written."
    where = f" (event {known.tainted_by})" if known.tainted_by is not None else ""
    read = f"The agent has read what {known.tainted_tool} returned{where}"
    return f"{lead} {read}: an outsider may have written it."


def _unasked(turn: Turn, manifest: ToolManifest, ask: Ask) -> str:
    """What the principal has not said, in the words of whoever decides about it."""
    who = turn.principal.name
    if ask.rule == "provenance-untied":
        return f"Nothing that {who} wrote asks for this."
    if ask.rule != "provenance" or ask.origins is None:
        return ask.reason
    alone = [each for each in ask.origins.evidence if each.source.origin is Origin.NOBODY]
    *first, last = dict.fromkeys(_called(manifest, each) for each in alone)
    otherwise = " for this" if any(each.source.said for each in alone) else ""
    return f"{who} has not said {', '.join(first)}{' or ' if first else ''}{last}{otherwise}."


def _called(manifest: ToolManifest, alone: provenance.Evidence) -> str:
    name = alone.argument.replace("_", " ")
    is_text = manifest.arguments.get(alone.argument) in ("content", "label", "free")
    if name in NO_NOUNS:
        name = f"value of “{name}”"
    return f"“{alone.value[:60]}” in the {name}" if is_text else f"the {name}"


def for_settlement(
    turn: Turn, manifest: ToolManifest, arguments: Mapping[str, Any], sentence: str, why: str, said: str = ""
) -> dict[str, Any]:
    """The question whether a call happened whose result was lost. `said` is what the other system has answered."""
    common = _common(turn, manifest, arguments, sentence)
    if said:
        answer = {"kind": "fact", "title": f"The look-up of {manifest.name}", "text": said, "note": "", "url": ""}
        common["evidence"] = [answer, *common["evidence"]]
    fields = [{**field(turn, manifest, name, value), "editable": False} for name, value in arguments.items()]
    return {
        **common,
        "risk": "high",
        "fields": fields,
        "rule": "unknown-effect",
        "rule_version": "1",
        "why": (
            f"This call was cut off while it was under way, so nobody knows whether it happened. {why} It is never "
            "repeated by itself. Look it up in the other system, then say."
        ),
        "if_nobody_decides": "If nobody says, the run ends as expired and the call stays marked as unknown.",
        "reversible": False,
        "labels": {"approve": "It happened", "reject": "It did not happen", "give_up": "Give up"},
        "due_at": now() + timedelta(days=3),
    }


def field(
    turn: Turn, manifest: ToolManifest, name: str, value: Any, origins: provenance.Verdict | None = None
) -> dict[str, Any]:
    """One argument: its value, whether it may be edited, and where the value was first seen."""
    kind = manifest.arguments.get(name, "")
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    doubt = _doubt(turn, name, value, origins)
    return {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "value": value,
        "editable": plain and kind not in FIXED,
        "type": "number" if kind == "amount" or isinstance(value, int | float) else "text",
        "class": kind or "unlabelled",
        "origin": doubt or _judged(origins, name) or origin(turn.state.messages, value),
        "is_doubted": bool(doubt),
        "note": "",
    }


def _doubt(turn: Turn, name: str, value: Any, origins: provenance.Verdict | None) -> str:
    """Which values of the argument nobody speaks for, and where each was seen all the same; empty for none."""
    found = origins.evidence if origins else ()
    alone = {each.value: each.source for each in found if each.argument == name and each.source.origin is Origin.NOBODY}
    said = []
    for one, source in alone.items():
        seen = origin(turn.state.messages, one)
        part = "" if one == str(value) else f"“{one[:60]}”: "
        where = "" if source.said and seen == BY_USER else f", {SEEN.get(seen, seen)}"
        said.append(f"{part}{provenance.sentence(source)}{where}")
    return "; ".join(said)


def _judged(origins: provenance.Verdict | None, name: str) -> str:
    """What the gate found about the argument."""
    found = [each for each in origins.evidence if each.argument == name] if origins else []
    return provenance.sentence(found[0].source) if found else ""


def origin(told: tuple[Message, ...], value: Any) -> str:
    """Where a value comes from: the user's own words, a tool's result, or the model alone."""
    token = _token(value)
    if token is None:
        return "written by the model"
    for message in told:
        if isinstance(message, UserText) and token.search(message.text):
            return BY_USER
    for message in told:
        if isinstance(message, ToolResult) and not message.is_error and token.search(message.content):
            return f"read from {message.name}"
    return "written by the model"


def typed(manifest: ToolManifest, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments from a form: texts become the numbers that the tool's schema asks for."""
    properties = manifest.parameters.get("properties", {})
    return {name: _as_number(properties.get(name, {}), value) for name, value in arguments.items()}


def _alone(origins: provenance.Verdict | None) -> list[str]:
    """The values that nobody speaks for."""
    found = origins.evidence if origins else ()
    return [each.value for each in found if each.source.origin is Origin.NOBODY]


def _common(
    turn: Turn, manifest: ToolManifest, arguments: Mapping[str, Any], sentence: str, alone: Sequence[str] = ()
) -> dict[str, Any]:
    row = turn.row
    return {
        "title": sentence,
        "action": manifest.name,
        "agent": turn.agent,
        "agent_name": row["agent_name"],
        "release": row["version"],
        "requested_for": row["principal_id"],
        "requested_by": row["started_by_id"],
        "authored_by": row["authored_by"],
        "amount_usd": _amount(manifest, arguments),
        "arguments": dict(arguments),
        "evidence": _evidence(turn, alone),
        "side": [_principal(turn)],
        "history": _history(turn),
    }


def about_text(turn: Turn, manifest: ToolManifest, arguments: Mapping[str, Any], sentence: str) -> dict[str, Any]:
    """What is the same of every card, for a question about a text."""
    return _common(turn, manifest, arguments, sentence)


def words(turn: Turn, origins: provenance.Verdict | None) -> str:
    """What outsiders may have written of it: the rows of results in which the values stand that nobody speaks for."""
    return "\n\n".join(row for one in _foreign(turn) for row in evidence.rows_with(one.content, _alone(origins)))


def _foreign(turn: Turn) -> list[ToolResult]:
    """The results that outsiders may have written."""
    doubted = _doubted(turn)
    found = [one for one in turn.state.messages if isinstance(one, ToolResult) and one.name in doubted]
    return [one for one in found if not one.is_error]


def _doubted(turn: Turn) -> frozenset[str]:
    untrusted = {tool.name for tool in turn.bundle.tools if tool.output_trust == "untrusted"}
    return frozenset(untrusted | {turn.known.tainted_tool})


def _evidence(turn: Turn, alone: Sequence[str]) -> list[dict[str, Any]]:
    who = turn.row["principal_label"] or turn.row["principal_id"]
    return evidence.blocks(turn.state.messages[turn.history :], who, doubted=_doubted(turn), alone=alone)


def _principal(turn: Turn) -> dict[str, Any]:
    principal = turn.principal
    rows = [["Name", principal.label or "Not given"], ["Id", principal.id], ["Kind", labels.PRINCIPALS[principal.kind]]]
    rows += [[name.replace("_", " ").capitalize(), value] for name, value in principal.attributes.items()]
    rows += [["Started by", labels.starter(turn.row["started_by_kind"], turn.row["started_by_label"])]]
    return {"title": "On behalf of", "rows": [*rows, ["Message", turn.row["title"]]]}


def _history(turn: Turn) -> list[dict[str, Any]]:
    done = []
    for message in turn.state.messages[turn.history :]:
        if isinstance(message, UserText):
            done.append({"icon": ICONS["user"], "text": "Read the message"})
        elif isinstance(message, ToolResult):
            verb = "Was refused" if message.is_error else "Used"
            icon = ICONS["refused" if message.is_error else "tool"]
            done.append({"icon": icon, "text": f"{verb} {message.name}"})
    return done[-8:]


def _amount(manifest: ToolManifest, arguments: Mapping[str, Any]) -> Decimal | None:
    for name, kind in manifest.arguments.items():
        if kind == "amount" and name in arguments:
            try:
                amount = Decimal(str(arguments[name]))
            except InvalidOperation:
                return None
            return amount.quantize(Decimal("0.01")) if amount.is_finite() and abs(amount) < 10**9 else None
    return None


def _fill(template: str, arguments: Mapping[str, Any]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: _short(arguments.get(match[1], "")), template)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else text[:57] + "…"


def _token(value: Any) -> re.Pattern[str] | None:
    """A whole-token search for values that can identify something; bare short numbers justify nothing."""
    text = str(value).strip()
    if isinstance(value, bool | dict | list) or len(text) < 3 or len(text) > 300:
        return None
    if isinstance(value, int | float) or re.fullmatch(r"\d+\.\d{2}", text):
        text = text.removesuffix(".00").removesuffix(".0")
        return re.compile(rf"(?<![\w.]){re.escape(text)}(?:\.0{{1,2}})?(?![\w])(?!\.\d)")
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)


def _as_number(schema: Mapping[str, Any], value: Any) -> Any:
    kinds = {schema.get("type"), *(option.get("type") for option in schema.get("anyOf", []))}
    if isinstance(value, str) and "string" not in kinds:
        try:
            if "integer" in kinds:
                return int(value)
            if "number" in kinds:
                return float(value)
        except ValueError:
            return value
    return value
