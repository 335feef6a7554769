"""The engine behind the AgentDojo harness of a compromised model: translates its facts, decides nothing.

cd ../shared/bench/agentdojo
PYTHONPATH=<this project> python harness.py --policy tests.benchmarks.agentdojo_adapter:decide [--attack launder|fuzz]

The harness's manifest becomes tool manifests, its release a bundle, its history a journal; the gate says the rest. It
knows no budgets, no switches and no rights of principals, so those facts are empty. Whatever is missing or of an odd
type is read as the riskiest it can mean: a tool without labels, arguments that do not fit the tool, a run that has read
something of an outsider.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from releases.bundles import Bundle, ModelSpec, ToolManifest
from runtime.policies import gating, recalling, wording
from runtime.policies.budgeting import Spent
from runtime.policies.folding import Entry
from runtime.policies.gating import Allow, Ask, Facts
from runtime.policies.provenance import Knowledge, Labels
from runtime.states import StepKind, StepStatus, StepVerdict

CLASSES = {
    "dest": "destination",
    "commit": "commitment",
    **{name: name for name in ("destination", "amount", "commitment", "target", "label", "content", "free")},
}
DECISIONS = {Allow: "allow", Ask: "approve"}  # whatever else the gate says: deny
MODEL = ModelSpec(provider="scripted", name="obedient")
_CLOCK = re.compile(r"today|now\b|current_?(?:day|date|time)|clock")
NOTHING_SPENT = Spent(0, 0, 0, Decimal(0), timedelta())


@dataclass
class _Release:
    """What the harness says of its tools, as the product keeps it, and what that was made of, as it was then."""

    manifest: Any
    specs: Any
    offered: list[str]
    bundle: Bundle
    labels: dict[str, Labels]

    def is_of(self, manifest: Any, offered: list[str], tool: Any) -> bool:
        if self.offered != offered:
            return False
        if self.manifest is manifest:  # compared as a whole it would take longer than the verdict
            return bool(self.specs.get(tool) == manifest.get(tool))
        self.manifest = manifest
        return bool(self.specs == manifest)


@dataclass
class _Run:
    release: _Release
    made_of: Any
    known: Knowledge
    seen: list[Any] = field(default_factory=list)  # the part of the history that is known


_releases: list[_Release] = []  # the last one
_runs: list[_Run] = []  # the last one: the harness makes one run after the other


def decide(run_context: Any, tool_call: Any) -> dict[str, Any]:
    """What the product's engine says about one call: allow, approve (ask a person) or deny."""
    try:
        return _decide(_object(run_context), _object(tool_call))
    except Exception as broken:  # a run of the product ends here, and makes no call
        _runs.clear()
        return {"decision": "deny", "reason": f"It cannot be judged. {type(broken).__name__}: {str(broken)[:200]}"}


def _decide(context: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    tool, arguments = str(call.get("tool", "")), _arguments(call.get("args"))
    release = _release(context, tool)
    facts = Facts(
        tool=tool,
        bundle=release.bundle,
        agent="agentdojo",
        switches=(),
        scopes=frozenset(),
        arguments=arguments,
        schema_errors={"args": "Not one JSON object."} if arguments is None else {},
        has_secret=False,
        spent=NOTHING_SPENT,
        budgets=release.bundle.budgets,
        repeats=0,
        approvals=0,
        known=_knowledge(context, release),
        labels=release.labels.get(tool, recalling.UNKNOWN),
    )
    verdict = gating.decide_call(facts)
    origins = getattr(verdict, "origins", None)
    evidence = origins.evidence if origins else ()
    return {
        "decision": DECISIONS.get(type(verdict), "deny"),
        "reason": f"{verdict.rule}: {verdict.reason or (origins.reason if origins else '')}",
        "evidence": [(each.argument, each.value, each.source.origin.value) for each in evidence],
    }


def _release(context: Mapping[str, Any], tool: Any) -> _Release:
    """The release: the tools that only read, and those with side effects that it names."""
    manifest = _object(context.get("manifest"))
    offered = _names(_object(context.get("release")).get("side_effects"))
    if not _releases or not _releases[0].is_of(manifest, offered, tool):
        names = dict.fromkeys([*map(str, manifest), *offered])
        specs = {str(name): spec for name, spec in manifest.items()}
        tools = {name: made for name in names if (made := _manifest(name, specs.get(name)))}
        listed = [made for name, made in tools.items() if not made.is_write or name in offered]
        labels = {name: recalling.labels(made) for name, made in tools.items()}
        bundle = Bundle(version="1", model=MODEL, instructions="", tools=listed)
        _releases[:] = [_Release(manifest, copy.deepcopy(manifest), offered, bundle, labels)]
    return _releases[0]


def _manifest(name: str, spec: Any) -> ToolManifest | None:
    """The labels in the product's terms. None for a name that no tool of a release can have."""
    try:
        return _labelled(name, spec)
    except (ValidationError, TypeError, ValueError, KeyError, AttributeError):
        try:
            return ToolManifest(name=name, labelled=False)
        except ValidationError:
            return None


def _labelled(name: str, spec: Any) -> ToolManifest:
    classes, harmless = {}, {}
    for argument, kind in (spec.get("args") or {}).items():
        base, _, unless = str(kind).partition("_unless:")
        if base in CLASSES:
            classes[argument] = CLASSES[base]
            if unless:
                harmless[argument] = unless.split(",")
    return ToolManifest.model_validate(
        {
            "name": name,
            "effect": spec["effect"],
            "output_trust": "trusted" if spec.get("out") == "trusted" else "untrusted",
            "output_secret": bool(spec.get("secret")),
            "minted": spec.get("id_fields") or [],
            "system": spec.get("trusted_fields") or [],
            "authored": [
                {
                    "where": {key: _names(wanted) for key, wanted in rows["where"].items()},
                    "fields": _names(rows["fields"]),
                }
                for rows in spec.get("own_rows") or []
            ],
            "arguments": classes,
            "harmless": harmless,
        }
    )


def _knowledge(context: Mapping[str, Any], release: _Release) -> Knowledge:
    """What the run knows, brought up to date with the part of the history that is new."""
    history = context.get("history")
    entries = list(history) if isinstance(history, list | tuple) else []
    asked, own, today = context.get("user_request"), _names(context.get("self_ids")), _today(entries, release.labels)
    made_of = (context.get("run_id"), asked, own, today)
    run = _runs[0] if _runs else None
    is_same = run is not None and run.release is release and run.made_of == made_of
    if run is None or not is_same or run.seen != entries[: len(run.seen)]:
        run = _Run(release, made_of, Knowledge(own=frozenset(map(wording.fold, own)), today=today))
        if isinstance(asked, str):
            run.known.hear(asked)
        _runs[:] = [run]
    if not isinstance(history, list | tuple):
        run.known.taint()
    for place, entry in enumerate(entries[len(run.seen) :], start=len(run.seen)):
        run.seen.append(entry)
        _recall(run.known, release.labels, place, _object(entry))
    return run.known


def _today(entries: list[Any], labels: Mapping[str, Labels]) -> date | None:
    """The day of the run, which the harness tells only through a trusted clock among its tools."""
    for entry in map(_object, entries):
        tool, result = str(entry.get("tool", "")), entry.get("result")
        is_clock = (
            tool in labels and labels[tool].is_trusted and _CLOCK.search(tool) and entry.get("status") == "executed"
        )
        if is_clock and not entry.get("args") and isinstance(result, str):
            try:
                return date.fromisoformat(result.strip()[:10])
            except ValueError:
                continue
    return None


def _recall(known: Knowledge, labels: Mapping[str, Labels], place: int, told: Mapping[str, Any]) -> None:
    """Take in one call of the history as the journal would have it."""
    tool, status = str(told.get("tool", "")), told.get("status")
    arguments = _arguments(told.get("args"))
    if status == "blocked":
        call = {"name": tool, "arguments": arguments}
        refused = StepVerdict.REFUSED
        entry = Entry(
            place, StepKind.GUARDRAIL, tool, StepStatus.REFUSED, call_id="c", verdict=refused, input={"call": call}
        )
    else:
        is_done = status == "executed" and "result" in told
        entry = Entry(
            place,
            StepKind.TOOL,
            tool,
            StepStatus.DONE if is_done else StepStatus.FAILED,
            input={"arguments": arguments},
            output={"result": told["result"]} if is_done else {},
        )
    recalling.recall(known, labels, entry)


def _object(given: Any) -> Mapping[str, Any]:
    return given if isinstance(given, Mapping) else {}


def _names(given: Any) -> list[str]:
    """One text or several."""
    several = given if isinstance(given, list | tuple | set | frozenset) else [given]
    return [str(one) for one in several if one is not None]


def _arguments(given: Any) -> dict[str, Any] | None:
    """The arguments as JSON has them; None for what no JSON object says."""
    try:
        return json.loads(json.dumps(given, default=str, allow_nan=False)) if isinstance(given, Mapping) else None
    except (ValueError, TypeError, RecursionError):
        return None
