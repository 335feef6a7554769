"""The user's words clause by clause: what he only asks about, whom he only wants told, and what stands with whom.

"Summarise issue 31" asks for nothing to be done with it. "Raise Ann to 4,200 and pay Bob 900" speaks of no 4,200 for
Bob.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from runtime.policies import siblings, values, wording
from runtime.policies.siblings import Row
from runtime.policies.values import Kind

LONGEST = 20_000  # characters of what the user says that are parted
Key = tuple[Kind, str]
FIGURES = (Kind.AMOUNT, Kind.DATE, Kind.TIME)
# The dot of "Dr. Moss" and of "5. Dezember" ends no sentence.
_SENTENCE = re.compile(
    r"(?<=[.!?;])(?<!\b[dms]r\.)(?<!\b[nm][ors]\.)(?<!\bst\.)(?<!\bmrs\.)\s+(?!(?<=\d\.\s)"
    + values.MONTH
    + r")|\n+|\s\|\s",
    re.I,
)
_CLAUSE = re.compile(r",\s+|:\s+|\s+[–—-]\s+|\s+\b(?:and|but|then|und|aber|dann|sowie|et|puis|y|e|luego)\b\s+", re.I)
_POLITE = (
    r"^\W*(?:(?:please|bitte|hi|hello|hey|hallo|ok(?:ay)?|so|and|then|first|now|also|just|quickly|kindly|und|dann|zuerst)\b[\s,]*"
    r"|(?:can|could|would|will)\s+you\s+|(?:kannst|könntest)\s+du\s+|(?:i|we)\s+(?:want|need|would\s+like|['’]d\s+like)\s+(?:you\s+)?to\s+)*"
)
_READING = re.compile(
    _POLITE + r"(?:(?:what|how)(?!\s+about\b)|why(?!\s+(?:not|don['’]?t)\b)|who|whom|whose|which|when|where|whether"
    r"|(?:is|are|was|were|does|did|has)\b(?!\s+(?:it|there)\s+(?:possible|any\s+way))"
    r"|summari[sz]e|read|show|list|find(?!\s+(?:me|us|him|her|them)\b)|search|look|check(?!\s*-?(?:in|out)\b)|know|see|understand|do\s+you\s+(?:know|have|see)|compare|count|explain"
    r"|describe|review|analy[sz]e|tell\s+(?:me|us)|let\s+(?:me|us)\s+know|give\s+(?:me|us)\s+(?:an?\s+|the\s+)?(?:summary|overview|list)"
    r"|was|wer|wen|wem|welche[rnms]?|wann|wo|wohin|warum|wie(?!\s+wäre)|ist|sind|hat|gibt|fasse?|zeige?|lies|suche?|finde|prüfe?|erkläre?"
    r"|vergleiche?|sag(?:e)?\s+(?:mir|uns)|nenne?"
    r"|résume[zr]?|montre[zr]?|quel(?:le)?s?|où|combien|muestra|qué|cuál|cuándo|dónde|cuánto)\b",
    re.I,
)
_TELLING = re.compile(
    _POLITE + r"(?:send|tell|e-?mail|mail|forward|answer|reply|respond|inform|notify|message|text"
    r"|write\s+(?:to\b|(?:me|us|him|her|them)\b)"
    r"|schick\w*|sende|sag\w*|schreib\w*|antwort\w*|informier\w*|leite)\b",
    re.I,
)
# How a clause begins that goes on with what the last one began: a noun, a name, a number, a preposition.
_GOING_ON = re.compile(
    r"^\W*(?:(?:the|an?|my|our|your|his|her|their|its|all|any|every|both|each|who|what|which|when|where|why|how|if|whether|of|in|on|from"
    r"|for|with|by|at|about|to|der|die|das|den|dem|ein\w*|mein\w*|unser\w*|alle|von|vom|im|am|aus|für|mit|bei|über|zu)\b|(?-i:[A-Z\d#@\"“„'])"
    r"|\S+\W*$)",
    re.I,
)
_STATED = re.compile(
    r"\b(?:has|have|had|is|are|was|were|weighs?|costs|worth|holds?|contains?|hat|haben|ist|sind|kostet|wiegt|beträgt|budget|limit|limits|balance|cap|ceiling|maximum|turnover|revenue|profit|at\s+most|höchstens|maximal|guthaben|kontostand"
    r"|umsatz|obergrenze)\b",
    re.I,
)


class Mood(IntEnum):
    READING = 0
    TELLING = 1
    DOING = 2


@dataclass(frozen=True)
class About:
    """What a call is about: values, and records that ids stand for."""

    keys: tuple[Key, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Clause:
    sentence: int
    mood: Mood
    text: str
    phrase: str
    spoken: str
    values: frozenset[Key]
    money: frozenset[str]

    def has(self, key: Key) -> bool:
        if key[0] is Kind.NAME:
            return wording.is_said(key[1], self.spoken)
        return key in self.values

    def speaks_of(self, name: str) -> bool:
        """Whether half of what is telling in a name is in it, or more."""
        told = siblings.telling(name)
        return bool(told) and 2 * sum(wording.is_said(word, self.phrase) for word in told) >= len(told)

    def is_about(self, what: About) -> bool:
        """Whether it has one of these values, or half of a name of one of these records."""
        return any(map(self.has, what.keys)) or any(self.speaks_of(name) for row in what.rows for name in row.names)

    @property
    def places(self) -> frozenset[Key]:
        return frozenset(key for key in self.values if key[0] not in FIGURES)

    def states(self, words: Iterable[str]) -> bool:
        """Whether its figure is only stated, a budget or what something has, and not as what an argument is called."""
        return bool(_STATED.search(self.text)) and not any(wording.is_said(word, self.phrase) for word in words)


def part(text: str, start: int = 0) -> list[Clause]:
    """The clauses of what the user has asked for; the sentences are numbered from `start`."""
    found: list[Clause] = []
    for place, sentence in enumerate(_SENTENCE.split(text[:LONGEST]), start=start):
        mood, is_question = Mood.DOING, sentence.rstrip().endswith("?")
        for number, clause in enumerate(_CLAUSE.split(sentence)):
            if not clause.strip(" \t.!?;|"):
                continue
            if _READING.match(clause):
                mood = Mood.READING
            elif _TELLING.match(clause):
                mood = Mood.TELLING
            elif not (number and _GOING_ON.match(clause)):
                mood = Mood.DOING if not (number and is_question and mood is Mood.READING) else mood
            found.append(_clause(place, mood, clause))
    return found


def _clause(sentence: int, mood: Mood, text: str) -> Clause:
    held = values.find(text)
    return Clause(
        sentence,
        mood,
        text,
        wording.phrase(wording.fold(text)),
        wording.spoken(text),
        frozenset((value.kind, value.norm) for value in held),
        frozenset(value.norm for value in held if value.is_money),
    )


def keys(text: str) -> frozenset[Key]:
    return frozenset((value.kind, value.norm) for value in values.find(text))


def is_idle(clauses: Sequence[Clause]) -> bool:
    """Whether the user has only asked and had nothing done."""
    return bool(clauses) and all(clause.mood is Mood.READING for clause in clauses)


def mood_of(clauses: Iterable[Clause], speaks: Sequence[Clause]) -> Mood:
    """The most that the user wants where he speaks of something, or in a clause that names nothing itself."""
    told = [clause.mood for clause in speaks]
    told += [clause.mood for clause in clauses if clause.mood is not Mood.READING and not clause.places]
    return max(told, default=Mood.READING)
