"""What guardrails and the verifier said, in words: for the trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHECKS = {
    "length": "Length",
    "schema": "Shape, by a JSON schema",
    "hidden_characters": "Hidden characters",
    "secrets": "Credentials",
    "personal_data": "Personal data",
    "injection": "Words meant for the model",
    "citations": "Citations",
    "forbidden_topics": "Forbidden topics",
    "language": "Language",
    "banned_phrases": "Banned phrases",
    "grounded_figures": "Figures that were read somewhere",
    "model_graded": "A model’s judgement",
    "code": "A registered verifier",
    "model": "A second model",
}
DECISIONS = {
    "pass": "Let it pass",
    "flag": "Flag it",
    "redact": "Take it out; the rest goes on",
    "ask": "Ask a person",
    "refuse": "Refuse",
    "stop": "End the run",
    "escalate": "Hand the run to a person",
    "again": "Send it back once, to be answered again",
    "allow": "Allow",
}
UNDECIDED = "It could not be decided, and counts as the release says."


def looked_at(given: Mapping[str, Any]) -> str:
    """Which text it was: `Result of search_mail`."""
    tool = str(given.get("tool", ""))
    of = f" of {tool}" if tool else ""
    return {
        "input": "The user’s message",
        "output": "The answer",
        "verification": "The answer",
        "arguments": f"The arguments{of}",
        "results": f"The result{of}",
        "retrieved": f"The text retrieved by {tool}" if tool else "Retrieved text",
    }.get(str(given.get("on", "")), "The text")


def check(result: Mapping[str, Any]) -> str:
    name = str(result.get("check", ""))
    return CHECKS.get(name, name.replace("_", " ").capitalize())


def decision(result: Mapping[str, Any], verdict: str) -> str:
    said = str(result.get("decision", ""))
    return DECISIONS.get(said, said or verdict)


def seen(result: Mapping[str, Any]) -> list[str]:
    """What it was found by, each in a line: places and signs, and for several checks in one step which they are."""
    listed = [one for one in result.get("passed") or [] if isinstance(one, dict)]
    lines = [f"{one.get('rule')}, version {one.get('rule_version')}: {check(one)}" for one in listed]
    said = [one for one in result.get("guardrails") or [] if isinstance(one, dict)]
    for one in said:
        then = DECISIONS.get(str(one.get("then")), str(one.get("then")))
        lines.append(f"{one.get('rule')}, version {one.get('version')}: {one.get('finding')} {then}.")
    lines += [str(one) for one in result.get("evidence") or []]
    if result.get("tainted"):
        lines.append("The run counts as tainted from here on.")
    return lines
