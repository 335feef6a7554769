"""The checks of texts that a release configures: what a run is given, reads, proposes, and is about to answer.

`run` makes one check and says what follows. Every check reads at most so much, in time that grows with the text and
not faster; what it cannot decide counts as the guardrail's `unchecked` says. The list of checks, with what each
finds and what it does not, is docs/how-to/guard-texts.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from releases.bundles import Check, Guardrail
from runtime.policies.guardrails import (
    citations,
    figures,
    injection,
    languages,
    personal,
    rewriting,
    schemas,
    words,
)

# Characters that a check reads. More of it is not looked at, and the text counts as not checked.
MOST_READ: dict[Check, int] = {
    "length": 100_000_000,
    "schema": 200_000,
    "hidden_characters": 1_000_000,
    "secrets": 200_000,
    "personal_data": 50_000,
    "injection": 200_000,
    "citations": 100_000,
    "forbidden_topics": 200_000,
    "language": 1_000_000,  # it looks at the beginning only
    "banned_phrases": 200_000,
    "grounded_figures": 200_000,
    "model_graded": 50_000,
}


@dataclass(frozen=True)
class Subject:
    """A text and what is known around it. `value` is the JSON value that the text was made of, if it was."""

    text: str
    value: Any = None
    told: Sequence[str] = ()  # all that the run was told: the user's words, results of tools, instructions
    asked: str = ""  # the user's words in this run
    passages: Mapping[str, str] = field(default_factory=dict)  # what the run retrieved, by citation


@dataclass(frozen=True)
class Checked:
    """The result of one guardrail. `finding` is empty when the text passed.

    `value` is the text, or the JSON value, without what was found, where the guardrail redacts.
    """

    guardrail: Guardrail
    finding: str
    is_decided: bool = True
    evidence: tuple[str, ...] = ()
    value: Any = None

    @property
    def passed(self) -> bool:
        return not self.finding

    @property
    def then(self) -> str:
        """What follows. Where it is not known what to take out, nothing of the text may go on."""
        if self.passed or self.is_decided:
            return self.guardrail.then if self.finding else "pass"
        if self.guardrail.unchecked == "pass":
            return "flag"
        return "refuse" if self.guardrail.then == "redact" else self.guardrail.then

    @property
    def taints(self) -> bool:
        """Whether whoever reads the text is not to be trusted with a side effect."""
        is_suspicion = self.guardrail.check == "injection" and bool(self.guardrail.settings.get("taints", True))
        return not self.passed and is_suspicion


def is_early(rail: Guardrail) -> bool:
    """Whether it looks at a text before it is kept anywhere: what redacts, and what looks for what is masked then."""
    return rail.then == "redact" or rail.check == "secrets"


def is_asked(rail: Guardrail) -> bool:
    """Whether a model decides it."""
    return rail.check == "model_graded"


def covers(rail: Guardrail, tool: str) -> bool:
    return not rail.tools or tool in rail.tools


def check(guardrails: Iterable[Guardrail], on: str, text: str, told: Sequence[str] = ()) -> list[Checked]:
    """Run every guardrail of one side over a text."""
    return [run(rail, Subject(text, told=told)) for rail in guardrails if rail.on == on]


def run(rail: Guardrail, subject: Subject) -> Checked:
    """Make one check. It never raises: what goes wrong leaves the text undecided."""
    limit = MOST_READ[rail.check]
    if len(subject.text) > limit:
        size = f"{len(subject.text):,}"
        return _undecided(rail, f"The text has {size} characters; {rail.check} reads {limit:,} at most.")
    try:
        found = CHECKS[rail.check](rail.settings, subject)
    except Exception as wrong:
        return _undecided(rail, f"{rail.check} broke off ({type(wrong).__name__}: {wrong})."[:300])
    if found is None:
        return Checked(rail, "")
    if rail.then == "redact":
        return Checked(rail, found.sentence, evidence=found.evidence, value=found.redacted())
    return Checked(rail, found.sentence, evidence=found.evidence)


def undecided(rail: Guardrail, why: str) -> Checked:
    """The result of a check that could not be made."""
    return _undecided(rail, why)


def _undecided(rail: Guardrail, why: str) -> Checked:
    return Checked(rail, f"Not checked. {why}", is_decided=False)


CHECKS: dict[Check, Callable[[Mapping[str, Any], Subject], rewriting.Found | None]] = {
    "length": lambda settings, subject: words.length(settings, subject.text),
    "schema": lambda settings, subject: schemas.schema(settings, subject.text, subject.value),
    "hidden_characters": lambda settings, subject: words.hidden(settings, _given(subject)),
    "secrets": lambda settings, subject: words.secrets(_given(subject)),
    "personal_data": lambda settings, subject: personal.data(settings, _given(subject), subject.asked),
    "injection": lambda settings, subject: injection.suspicion(subject.text),
    "citations": lambda settings, subject: citations.citations(settings, subject.text, subject.passages),
    "forbidden_topics": lambda settings, subject: words.topics(settings, _given(subject)),
    "language": lambda settings, subject: languages.language(settings, subject.text, subject.asked),
    "banned_phrases": lambda settings, subject: words.banned(settings, _given(subject)),
    "grounded_figures": lambda settings, subject: figures.grounded(subject.text, subject.told),
}


def _given(subject: Subject) -> Any:
    return subject.text if subject.value is None else subject.value
