"""Where the values of a proposed call come from, and whether that is enough to make it without asking a person.

Once a run has read untrusted content, whatever the model proposes may be somebody else's wish. A side effect then
needs, for each sensitive argument, a source that an outsider cannot have written: the user's own words, a value that
the user authored earlier, a trusted output, or, for which object is meant, an id that the system minted. And the
call as a whole has to be tied to what the user asked for. Structure is not authorship: a field of a record says
nothing about who chose its value. What a call was given, a refusal or an error repeats, or a tainted run wrote,
earns nothing by being read back.

Sources: FIDES and CaMeL (provenance of values), the Agents Rule of Two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from runtime.policies import values, wording
from runtime.policies.clauses import About, Mood
from runtime.policies.knowing import NOBODY, Knowledge, is_given
from runtime.policies.origins import (
    EASY,
    EFFECTS,
    SELF,
    SENTENCES,
    Authored,
    Evidence,
    Justified,
    Labels,
    Origin,
    Source,
    Unjustified,
    Verdict,
    sentence,
)  # fmt: skip
from runtime.policies.siblings import LONGEST_NAME
from runtime.policies.values import Kind, Value

__all__ = [
    "NOBODY", "SELF", "SENTENCES", "Authored", "Evidence", "Justified", "Knowledge", "Labels", "Origin",
    "Source", "Unjustified", "Verdict", "as_json", "decide", "sentence",
]  # fmt: skip
ANOTHER = Source(Origin.NOBODY, "the user has named another one")
OF_OTHERS = Source(Origin.NOBODY, "the user said it of something else")
IN_PASSING = Source(Origin.NOBODY, "the user used the word for something else")
SHUNNED = Source(Origin.NOBODY, "the user only called it old, wrong or a fraud")
SECRET = Source(Origin.NOBODY, "it stands in a secret output")
REACHES = (Kind.LINK, Kind.ACCOUNT, Kind.ADDRESS)  # by which somebody is reached or paid
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")  # a key that can only be a field's name


def as_json(verdict: Verdict, known: Knowledge) -> dict[str, Any]:
    """What is stored with a step, with the step whose text an outsider may have written."""
    return {
        "rule": verdict.rule,
        "reason": verdict.reason,
        "is_justified": isinstance(verdict, Justified),
        "tainted_by": known.tainted_by,
        "tainted_tool": known.tainted_tool,
        "evidence": [
            {
                "argument": each.argument,
                "value": each.value[:LONGEST_NAME],
                "origin": each.source.origin.value,
                "sentence": sentence(each.source),
                "said": each.source.said[:LONGEST_NAME],
                "step": each.source.step,
            }
            for each in verdict.evidence
        ],
    }


def decide(known: Knowledge, labels: Labels, arguments: Mapping[str, Any]) -> Verdict:
    """Say whether a call needs a person for what it does and for where its values come from."""
    if labels.effect == "read":
        return Justified("read", "It changes nothing.")
    if not labels.is_labelled or labels.effect not in EFFECTS:
        return Unjustified("unlabelled", "Nobody has reviewed what this tool can do.")
    if labels.effect == "destructive":
        return Unjustified("destructive", "This cannot be undone.")
    if not known.is_tainted:
        return Justified("untainted", "The run has read nothing that an outsider could have written.")
    return _decide_tainted(known, labels, arguments)


def _decide_tainted(known: Knowledge, labels: Labels, arguments: Mapping[str, Any]) -> Verdict:
    known.catch_up()
    evidence: list[Evidence] = []
    parties, company = _parties(known, labels, arguments), _Company(known, labels, arguments)
    for name, given in arguments.items():
        kind = labels.arguments.get(name, "unlabelled")
        if kind not in EASY:
            for of, item in _items(kind, name, given):
                source = _source(known, labels, of, kind, item, parties)
                evidence.append(Evidence(name, str(item), company.judge(of, kind, item, source)))
            if kind == "target" and labels.effect == "egress":
                evidence += _made(known, name, given)
        elif labels.effect == "egress":
            evidence += _foreign(known, name, given, is_text=kind != "free")
    found = tuple(evidence)
    alone = [each for each in found if each.source.origin is Origin.NOBODY]
    if alone:
        listed = ", ".join(dict.fromkeys(f"{each.argument} “{each.value[:60]}”" for each in alone))
        return Unjustified("provenance", f"On nobody's word: {listed}.", found)
    if not _is_tied(known, labels, arguments, found):
        return Unjustified("provenance-untied", "Nothing ties this call to what the user asked for.", found)
    return Justified("provenance", "Every sensitive value is the user's own or the system's.", found)


class _Company:
    """In whose company the values of one call stand: what the user has said of somebody else is not theirs."""

    def __init__(self, known: Knowledge, labels: Labels, arguments: Mapping[str, Any]) -> None:
        self.known = known
        self.given = [
            (of, item)
            for name, kind in labels.arguments.items()
            if kind in ("destination", "target")
            for of, item in _items(kind, name, arguments.get(name))
        ]

    @cached_property
    def about(self) -> About:
        keys = [(value.kind, value.norm) for _, item in self.given for value in values.of(item)]
        return About(tuple(keys), tuple(row for of, item in self.given for row in self.known.rows(item, of)))

    def judge(self, name: str, kind: str, item: Any, source: Source) -> Source:
        if source.origin is not Origin.USER or kind not in ("amount", "commitment"):
            return source
        norm = values.number(item) if kind == "amount" else None
        found = (Value(Kind.AMOUNT, norm, str(item)),) if norm is not None else values.of(item)
        return source if all(self.known.belongs(one, name, self.about) for one in found) else OF_OTHERS


def _items(kind: str, name: str, given: Any) -> Iterator[tuple[str, Any]]:
    """The single values of an argument, each with the name it goes by; a key that is no plain word is a value, too.

    What tells an attachment's type from its id is harmless beside the id.
    """
    if isinstance(given, list | tuple):
        for item in given:
            yield from _items(kind, name, item)
    elif isinstance(given, dict):
        is_empty = not any(is_given(item) for item in given.values())
        for key, item in given.items():
            if is_empty or not _PLAIN.fullmatch(key):
                yield name, key
            is_type = key.casefold() in ("type", "kind") and isinstance(item, str) and _PLAIN.fullmatch(item)
            if not (kind == "target" and is_type and len(given) > 1):
                yield from _items(kind, key if kind == "target" else name, item)
    elif is_given(given):
        yield name, given


def _parties(known: Knowledge, labels: Labels, arguments: Mapping[str, Any]) -> list[Value]:
    """Whom the call reaches, as far as the user has named them himself."""
    ways = [name for name, kind in labels.arguments.items() if kind == "destination"]
    given = [item for name in ways for item in values.flat(arguments.get(name)) if is_given(item)]
    return [value for item in given for value in values.of(item) if known.said(value)]


def _source(known: Knowledge, labels: Labels, name: str, kind: str, item: Any, parties: Sequence[Value] = ()) -> Source:
    if str(item) in labels.harmless.get(name, ()):
        return Source(Origin.HARMLESS)
    if kind == "amount":
        return _sum(known, labels, name, item, parties)
    if kind == "target":
        return _target(known, labels, name, item)
    found = values.of(item)
    if kind == "destination":
        if found and all(known.is_own(value) for value in found):
            return Source(Origin.OWN, str(item))
        sources = [_place(known, name, value, item, parties) for value in found]
    else:
        is_day = any(value.kind is Kind.DATE for value in found) and not known.has_time()
        found = tuple(value for value in found if not (is_day and value.kind is Kind.TIME and value.norm == "00:00"))
        sources = [_commitment(known, labels, name, value) for value in found]
    return next((source for source in sources if source.origin is Origin.NOBODY), sources[0] if sources else NOBODY)


def _sum(known: Knowledge, labels: Labels, name: str, item: Any, parties: Sequence[Value]) -> Source:
    norm = values.number(item)
    if norm is None:
        return NOBODY
    nouns = {word for other, kind in labels.arguments.items() if kind in ("target", "destination") and other != name
             for word in wording.telling(other.replace("_", " "))}  # fmt: skip
    value = Value(Kind.AMOUNT, norm, str(item))
    if known.is_shunned(value):
        return SHUNNED
    said = known.amount(norm, item, name, nouns) or known.precedents(name, parties, item)
    if said is None and known.is_counted_otherwise(norm, name):
        return ANOTHER
    return said or _believed(known, value) or (OF_OTHERS if known.said(value) else NOBODY)


def _place(known: Knowledge, name: str, value: Value, item: Any, parties: Sequence[Value]) -> Source:
    """Where something goes. A bare number is a place only where the user has called it what the argument is called."""
    if value.kind is Kind.AMOUNT:
        value = Value(Kind.IDENTIFIER, value.norm, value.text)
        called = known.called_so(name, item)
        if called:
            return Source(Origin.USER, called.said)
    found = _best(known, value)
    if found.origin is Origin.USER and (known.is_shunned(value) or known.is_subject(value)):
        return SHUNNED if known.is_shunned(value) else IN_PASSING
    if found.origin is not Origin.NOBODY:
        return found
    other = known.elsewhere(value, parties)
    return found if other.origin is Origin.NOBODY else other


def _commitment(known: Knowledge, labels: Labels, name: str, value: Value) -> Source:
    if known.said(value) and known.is_shunned(value):
        return SHUNNED
    called = known.called_so(name, value.norm) if value.kind is Kind.AMOUNT else None
    if called:
        return Source(Origin.USER, called.said)
    found = known.commitment(value, f"{name}_{labels.name}") or _believed(known, value)
    return found or (IN_PASSING if known.said(value) else NOBODY)


def _target(known: Knowledge, labels: Labels, argument: str, item: Any) -> Source:
    """Which object is meant: the system's own id for it, or a name that the user has said; a bare number is none.

    One with the right word before it is a name, but naming an object is not asking to change it: see `_is_tied`.
    """
    minted = known.minted(str(item), argument)
    if minted:
        return ANOTHER if known.is_another(str(item), argument) else minted
    found = values.of(item)
    if not found or any(value.kind in (Kind.AMOUNT, Kind.TIME, Kind.DATE) for value in found):
        return known.called_so(argument, item, labels.name) or NOBODY
    sources = [_best(known, value) for value in found]
    return next((source for source in sources if source.origin is Origin.NOBODY), sources[0])


def _best(known: Knowledge, value: Value) -> Source:
    return known.said(value) or _believed(known, value) or NOBODY


def _believed(known: Knowledge, value: Value) -> Source | None:
    """A value that no outsider can have written, unless it is that of another record than the user has named."""
    found = known.believed(value)
    if found and found.origin is Origin.TRUSTED:
        rival = known.rival(value)
        return Source(Origin.NOBODY, f"the user has named “{rival}”, another record", found.step) if rival else found
    return found


def _made(known: Knowledge, name: str, given: Any) -> list[Evidence]:
    """What this run has put into an object that leaves now is looked through like a text that leaves."""
    texts = (text for item in values.scalars(given) for text in known.made(item))
    return [one for text in texts for one in _foreign(known, name, text, is_text=True)]


def _foreign(known: Knowledge, name: str, given: Any, *, is_text: bool) -> list[Evidence]:
    """What leaves must not carry on nobody's word: what a secret output held, in a text also links and accounts."""
    found = []
    for text in values.scalars(given, keys=True):
        if len(text) > values.LONGEST_TEXT:
            found.append(Evidence(name, f"{len(text)} characters, more than can be looked through", NOBODY))
        for value in values.find(wording.shown(text)):
            is_secret = known.withheld.has(value)
            is_hot = is_secret or (is_text and (value.kind in REACHES or values.is_domain(value)))
            is_open = not is_secret and (known.is_own(value) or known.believed(value))
            if is_hot and not (is_open or known.said(value)):
                found.append(Evidence(name, value.text, SECRET if is_secret else NOBODY))
        found += [
            Evidence(name, run, SECRET)
            for run in known.withheld.within(wording.shown(text))
            if not known.has_phrase(run)
        ]
    return found


def _is_tied(known: Knowledge, labels: Labels, arguments: Mapping[str, Any], evidence: Iterable[Evidence]) -> bool:
    """Whether something of the call is what the user asked for, in his words. Who only asks questions wants no act."""
    if known.is_idle():
        return False
    if any(_ties(known, each) and _is_wanted(known, labels, arguments, each) for each in evidence):
        return True
    named = [name for name, kind in labels.arguments.items() if kind == "label" and is_given(arguments.get(name))]
    told = named or [name for name in arguments if labels.arguments.get(name) in ("content", "free")]
    return any(
        _is_asked_for(known, str(item), is_text=labels.arguments.get(name) == "content")
        for name in told
        for item in values.flat(arguments[name])
    )


def _ties(known: Knowledge, each: Evidence) -> bool:
    """Whether the user has spoken of this value or of the record it is from."""
    match each.source.origin:
        case Origin.USER | Origin.DELEGATED:
            return True
        case Origin.MINTED:
            is_said = any(known.said(value) for value in values.of(each.value) if value.kind is Kind.IDENTIFIER)
            return is_said or known.names(each.value) or known.has_named(each.value, each.argument)
        case Origin.AUTHORED | Origin.OWN:
            return known.mentions(each.value, least=0.3)
        case Origin.TRUSTED:
            return known.mentions(each.value, least=0.3) or known.has_named(each.value, each.argument)
    return False


def _is_wanted(known: Knowledge, labels: Labels, arguments: Mapping[str, Any], each: Evidence) -> bool:
    """Whether the user wants something done with an object: not only to hear of it, nor somebody else to be told."""
    if labels.arguments.get(each.argument) != "target":
        return True
    keys = tuple((value.kind, value.norm) for value in values.of(each.value))
    mood = known.mood(About(keys, tuple(known.rows(each.value, each.argument))))
    ways = [name for name, kind in labels.arguments.items() if kind == "destination"]
    is_telling = labels.effect == "egress" or any(is_given(arguments.get(name)) for name in ways)
    return mood is Mood.DOING or (mood is Mood.TELLING and is_telling)


def _is_asked_for(known: Knowledge, text: str, *, is_text: bool) -> bool:
    least = 0.5 if is_text else 0.0
    is_his = known.mentions(text, least=0.5, at_least=2 if " " in text.strip() else 1)
    return is_his or known.shares(text, least=least)
