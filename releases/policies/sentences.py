"""The parts of a bundle as sentences, for pages and for the words of a difference."""

from __future__ import annotations

from typing import Any

from releases.bundles import (
    Budgets,
    Bundle,
    Condition,
    Daily,
    Guardrail,
    ModelSpec,
    Retries,
    Rule,
    ToolManifest,
    Verification,
)

OPERATORS = {
    "gt": "is over", "ge": "is at least", "lt": "is under", "le": "is at most", "eq": "is", "ne": "is not",
    "in": "is one of", "not_in": "is none of", "present": "is given", "absent": "is missing",
}  # fmt: skip
VERDICTS = {"allow": "allow it", "ask": "ask a person", "refuse": "refuse it"}
EFFECTS = {
    "read": "reads",
    "write": "changes something",
    "egress": "sends something out",
    "destructive": "destroys something",
}
RETRIES = {
    "read": "may be repeated",
    "idempotent": "may be repeated with the same key",
    "transactional": "happens fully or not at all",
    "unsafe": "must not be repeated",
}
SIDES = {
    "input": "input",
    "retrieved": "retrieved text",
    "arguments": "arguments of a call",
    "results": "result of a tool",
    "output": "output",
}
CHECKS = {
    "length": "longer than allowed",
    "schema": "of another shape than its schema",
    "hidden_characters": "holding hidden characters",
    "secrets": "holding a secret",
    "personal_data": "holding personal data",
    "injection": "that seems to speak to the model",
    "citations": "that cites what was not retrieved",
    "forbidden_topics": "on a forbidden topic",
    "language": "in another language",
    "banned_phrases": "holding a banned phrase",
    "grounded_figures": "holding a figure that nothing supports",
    "model_graded": "that a model does not let pass",
}
CONSEQUENCES = {
    "flag": "is marked",
    "redact": "goes on without it",
    "refuse": "is refused",
    "ask": "needs a person",
    "stop": "ends the run",
    "escalate": "goes to a person",
}
BUDGETS = {
    "max_steps": "steps",
    "max_model_calls": "model calls",
    "max_tool_calls": "tool calls",
    "max_tokens": "tokens",
    "max_cost_usd": "US dollars",
    "max_seconds": "seconds of working time",
    "deadline_seconds": "seconds until the deadline",
    "max_approvals": "approvals",
    "max_repeats": "identical calls",
    "max_model_attempts": "attempts per model call",
}
DAILY = {
    "max_usd": "US dollars",
    "max_tokens": "tokens",
    "max_model_calls": "model calls",
    "max_tool_calls": "tool calls",
    "max_runs": "runs",
}


def model(spec: ModelSpec) -> str:
    """`gpt-5 (openai), temperature 0`."""
    where = f" at {spec.base_url}" if spec.base_url else ""
    knobs = "".join(f", {name.replace('_', ' ')} {value(setting)}" for name, setting in sorted(spec.parameters.items()))
    retried = f", {attempts(spec.retries)}" if spec.retries else ""
    return f"{spec.name} ({spec.provider}{where}){knobs}{retried}"


def budgets(limits: Budgets) -> list[tuple[str, str]]:
    return [(label, limit(getattr(limits, name))) for name, label in BUDGETS.items()]


def daily(limits: Daily | None) -> list[tuple[str, str]]:
    """Every daily limit, also where there is none, so that two releases can be set against each other."""
    limits = limits or Daily()
    parts = (("a day of one principal", limits.per_principal), ("a day of the agent", limits.per_agent))
    return [(f"{label} {of}", limit(getattr(part, name))) for of, part in parts for name, label in DAILY.items()]


def limit(most: Any) -> str:
    return "no limit" if most is None else value(most)


def tool(manifest: ToolManifest) -> str:
    """What is known of a tool, in one line."""
    parts = [EFFECTS[manifest.effect], RETRIES[manifest.retry], f"its answers are {manifest.output_trust}"]
    if manifest.moves_money:
        parts.insert(1, "moves money")
    if manifest.hands_off:
        parts.append("ends the run as escalated")
    if manifest.scope:
        parts.append(f"needs {manifest.scope}")
    if manifest.retries:
        parts.append(attempts(manifest.retries))
    if manifest.verifies:
        parts.append("can be asked whether a call happened")
    if not manifest.labelled:
        parts.append("nobody has reviewed these labels")
    return ", ".join(parts)


def attempts(retries: Retries) -> str:
    """`up to 3 attempts after timeout, unavailable`."""
    return f"up to {retries.attempts} attempts after {', '.join(retries.on).replace('_', ' ') or 'nothing'}"


def rule(one: Rule) -> str:
    """`When amount is over 100, issue_refund: ask a person within 60 min. Refunds over $100 need a person.`"""
    when = " and ".join([*(condition(part) for part in one.when), *([one.condition] if one.condition else [])])
    head = f"When {when}, " if when else "Always, "
    within = f" within {one.due_minutes} min" if one.then == "ask" else ""
    second = ", somebody other than who started it" if one.four_eyes else ""
    verdict = f"ask {one.approvals_needed} people" if one.approvals_needed > 1 else VERDICTS[one.then]
    who = f" with the role {' or '.join(sorted(one.ask_roles))}" if one.ask_roles else ""
    told = f"{head}on {one.tool}: {verdict}{who}{within}{second}. {one.reason}"
    return f"Only logged: {told[0].lower()}{told[1:]}" if one.mode == "log" else told


def condition(part: Condition) -> str:
    if part.op in ("present", "absent"):
        return f"{part.argument} {OPERATORS[part.op]}"
    return f"{part.argument} {OPERATORS[part.op]} {value(part.value)}"


def guardrail(one: Guardrail) -> str:
    """`Result of a tool holding personal data goes on without it, kinds card; of search_mail only`."""
    settings = "".join(f", {name.replace('_', ' ')} {value(setting)}" for name, setting in sorted(one.settings.items()))
    tools = f"; of {', '.join(one.tools)} only" if one.tools else ""
    side = SIDES[one.on]
    return f"{side[0].upper()}{side[1:]} {CHECKS[one.check]} {CONSEQUENCES[one.then]}{settings}{tools}"


def verification(asked: Verification) -> str:
    """`a second model (gpt-5): every promise is covered by a policy; one more answer after a failure`."""
    said = {
        "none": "none",
        "grounded_figures": "every figure must have been read",
        "code": f"the registered check {asked.name}",
        "model": f"a second model ({asked.model.name if asked.model else 'the same one'}): {asked.criteria}",
    }[asked.kind]
    return f"{said}; one more answer after a failure" if asked.is_needed and asked.retries else said


def principal_scopes(bundle: Bundle) -> str:
    """`end user at most orders:read; service at most nothing`."""
    parts = [
        f"{kind.replace('_', ' ')} at most {', '.join(sorted(scopes)) or 'nothing'}"
        for kind, scopes in sorted(bundle.principal_scopes.items())
    ]
    return "; ".join(parts) or "what each principal brings"


def extras(bundle: Bundle) -> list[tuple[str, str]]:
    """Everything that is one value: label and value."""
    retrieval = bundle.retrieval
    return [
        ("Write tools", "enabled" if bundle.write_tools_enabled else "off in this release"),
        ("Human review", "every write asks a person" if bundle.force_human_review else "where rules ask for it"),
        ("Scopes by kind of principal", principal_scopes(bundle)),
        ("Approvals without a rule", f"within {bundle.approval_minutes} min"),
        ("Verification", verification(bundle.verification)),
        ("Retrieval", f"{retrieval.index}, version {retrieval.version}" if retrieval else "none"),
        ("Runs at once", concurrency(bundle)),
        ("Memory schema", f"version {bundle.memory_schema_version}"),
        ("Code revision", bundle.code_revision or "not given"),
    ]


def concurrency(bundle: Bundle) -> str:
    """`5 of the agent, 1 for one person`."""
    most = bundle.concurrency
    of_agent = f"{most.agent:,} of the agent" if most.agent else ""
    of_person = f"{most.principal:,} for one person" if most.principal else ""
    return ", ".join(filter(None, [of_agent, of_person])) or "no limit"


def value(thing: Any) -> str:
    if thing is None:
        return "nothing"
    if isinstance(thing, bool):
        return "yes" if thing else "no"
    if isinstance(thing, list | tuple):
        return ", ".join(value(item) for item in thing)
    if isinstance(thing, int) and abs(thing) >= 10_000:
        return f"{thing:,}"
    return str(thing)
