"""The engine behind the AgentDojo harness of a compromised model: translates its facts, decides nothing.

cd ../shared/bench/agentdojo
PYTHONPATH=<this project> python harness.py --policy tests.benchmarks.agentdojo_adapter:decide [--attack launder|fuzz]
"""

from __future__ import annotations

from typing import Any

from runtime.policies import provenance, wording
from runtime.policies.provenance import Authored, Justified, Knowledge, Labels

CLASSES = {"dest": "destination", "commit": "commitment"}

_runs: dict[str, tuple[Knowledge, int]] = {}
_labels: dict[int, tuple[dict[str, Any], Labels]] = {}


def decide(run_context: dict[str, Any], tool_call: dict[str, Any]) -> dict[str, Any]:
    """What the product's engine says about one call: allow, approve (ask a person) or deny."""
    known = _knowledge(run_context)
    spec = run_context["manifest"].get(tool_call["tool"])
    if spec is None:
        return {"decision": "deny", "reason": "The tool is not part of the release."}
    labels = _of(spec)
    is_offered = tool_call["tool"] in run_context["release"]["side_effects"]
    if provenance.effective(labels, tool_call["args"]) != "read" and not is_offered:
        return {"decision": "deny", "reason": "The tool is not part of the release."}
    verdict = provenance.decide(known, labels, tool_call["args"])
    decision = "allow" if isinstance(verdict, Justified) else "approve"
    evidence = [(each.argument, each.value, each.source.origin.value) for each in verdict.evidence]
    return {"decision": decision, "reason": f"{verdict.rule}: {verdict.reason}", "evidence": evidence}


def _knowledge(context: dict[str, Any]) -> Knowledge:
    """The run's index, brought up to date with the part of the history that is new."""
    key = context["run_id"]
    if key not in _runs:
        _runs.clear()  # the harness makes one run after the other
        known = Knowledge(own=frozenset(wording.fold(one) for one in context["self_ids"]))
        known.hear(context["user_request"])
        _runs[key] = (known, 0)
    known, seen = _runs[key]
    for entry in context["history"][seen:]:
        labels = _of(context["manifest"].get(entry["tool"], {}))
        if entry["status"] == "executed":
            known.read(entry["seq"], labels, entry["args"], entry["result"], tool=entry["tool"])
        else:
            known.called(entry["args"])
            if entry["status"] == "error" and not labels.is_trusted:
                known.taint_by(entry["seq"])
    _runs[key] = (known, len(context["history"]))
    return known


def _of(spec: dict[str, Any]) -> Labels:
    """The labels in the product's terms."""
    cached = _labels.get(id(spec))
    if cached is None or cached[0] is not spec:
        arguments, harmless = {}, {}
        for name, kind in spec.get("args", {}).items():
            base, _, unless = kind.partition("_unless:")
            arguments[name] = CLASSES.get(base, base)
            if unless:
                harmless[name] = tuple(unless.split(","))
        labels = Labels(
            effect=spec.get("effect", "egress"),
            is_trusted=spec.get("out") == "trusted",
            is_secret=bool(spec.get("secret")),
            minted=tuple(spec.get("id_fields", ())),
            system=tuple(spec.get("trusted_fields", ())),
            authored=tuple(
                Authored({key: tuple(wanted) for key, wanted in rule["where"].items()}, tuple(rule["fields"]))
                for rule in spec.get("own_rows", ())
            ),
            arguments=arguments,
            harmless=harmless,
            is_labelled=bool(spec),
        )
        cached = _labels[id(spec)] = (spec, labels)
    return cached[1]
