"""The agents of replays: `replay-<domain>`, with a release for every set of tools and instructions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from console.actors import Actor
from releases import labels, releases
from releases.bundles import Bundle, ToolManifest, canonical
from releases.models import Release
from runtime.replay import declared, jsonlines

NEUTRAL = "Answer as recorded. The instructions of the recorded conversations are not known."
LONGEST_SLUG = 50
LONGEST_INSTRUCTIONS = 100_000
# Recorded turns are longer than live ones; what stops a runaway is the loop guard, which stays as strict as usual.
BUDGETS = {
    "max_steps": 1000,
    "max_tool_calls": 200,
    "max_tokens": 5_000_000,
    "max_cost_usd": "20",
    "max_approvals": 100,
    "max_model_attempts": 1,
}


def slug(domain: str) -> str:
    """The agent's slug: letters, digits and hyphens; names that lose something by it stay apart by a digest."""
    plain = re.sub(r"[^a-z0-9]+", "-", domain.lower()).strip("-")[: LONGEST_SLUG - len("replay-")]
    if plain != domain:
        mark = hashlib.sha256(domain.encode()).hexdigest()[:6]
        plain = f"{plain[: LONGEST_SLUG - len('replay--') - len(mark)]}-{mark}".strip("-")
    return f"replay-{plain}"


def bundle(tools: list[ToolManifest], instructions: str) -> Bundle:
    """The release content; its version label is made from it, so the same tools and instructions are one release."""
    content = Bundle.model_validate(
        {
            "version": "recorded",
            "model": {"provider": "replay", "name": "recorded"},
            "instructions": instructions or NEUTRAL,
            "tools": tools,
            "rules": declared.rules(tools),
            "budgets": BUDGETS,
            "provenance": "log",  # a recording goes on as it was recorded; what would have been asked is in the trace
            "approval_minutes": declared.DAY_MINUTES,
        }
    )
    mark = hashlib.sha256(canonical(content.model_dump(mode="json")).encode()).hexdigest()[:12]
    return content.model_copy(update={"version": f"recorded-{mark}"})


def prepare(domain: str, content: Bundle, *, by: Actor) -> Release:
    """Register the agent, store the release and let it answer. Repeating it changes nothing.

    Raises:
        problems.Problem: the verbs of releases refuse; says why.
    """
    agent = releases.register_agent(
        slug(domain),
        f"Replay: {domain}"[:120],
        by=by,
        description="Recorded conversations, answered from the recording.",
    )
    release = releases.create(agent, content.model_dump(mode="json"), by=by, note="Tools declared for a replay.")
    labels.vouch(release, by=by, reason="Recorded tools answer from the recording alone, whatever their labels say.")
    return releases.activate(release.pk, by=by, reason="A replay of recorded conversations starts.")


def policies_beside(*files: Path) -> Mapping[str, str]:
    """Instructions by key, from a policies.json in the folder of one of the files; empty when there is none.

    Raises:
        declared.BadTools: the file is there and cannot be used.
    """
    for folder in dict.fromkeys(file.resolve().parent for file in files):
        path = folder / "policies.json"
        if path.is_file():
            return _policies(path)
    return {}


def _policies(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > declared.LARGEST_FILE_BYTES:
            raise declared.BadTools(f"{path} is larger than {declared.LARGEST_FILE_BYTES:,} bytes.")
        found = jsonlines.parse(path.read_bytes().removeprefix(jsonlines.BOM))
    except OSError as wrong:
        raise declared.BadTools(f"{path} cannot be read: {wrong.strerror}.") from wrong
    except jsonlines.BadJson as wrong:
        raise declared.BadTools(f"{path} {wrong}.") from wrong
    if not isinstance(found, dict):
        raise declared.BadTools(f"{path} is no JSON object of instructions by key.")
    texts = {key: text if isinstance(text, str) else json.dumps(text) for key, text in found.items()}
    return {key: text[:LONGEST_INSTRUCTIONS] for key, text in texts.items()}
