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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any

from runtime.policies import values
from runtime.policies.values import Kind, Value

SELF = "$SELF"
SENSITIVE = frozenset({"destination", "amount", "commitment", "target"})
LONGEST_NAME = 120  # characters of a field that can name its record
MOST_NAMES = 12
UNTELLING = frozenset(
    {"id", "ids", "key", "number", "nr", "ref", "code"}
)  # words of an argument's name that name nothing


class Origin(StrEnum):
    """Who a value comes from."""

    USER = "user"  # the user's own words
    NAMED = "named"  # what the user has called by its number: which object is meant, but not that it be changed
    AUTHORED = "authored"  # the user wrote it earlier, into a record of his own
    TRUSTED = "trusted"  # an output that no outsider can influence
    MINTED = "minted"  # an id that the system made
    PRECEDENT = "precedent"  # an amount within what passed before between the user and somebody he has named
    DELEGATED = "delegated"  # a field that the user has named, of a record that he has named
    OWN = "own"  # the user's own identifier
    HARMLESS = "harmless"  # labelled as needing no source
    NOBODY = "nobody"


@dataclass(frozen=True)
class Authored:
    """Rows whose `fields` the user wrote himself: those in which every key of `where` has one of its values.

    The value `$SELF` stands for the user's own identifiers.
    """

    where: Mapping[str, tuple[str, ...]]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """What is known of a tool. Left out is the riskiest: a way out, untrusted, every argument sensitive."""

    effect: str = "egress"
    is_trusted: bool = False  # nobody outside can influence its output
    is_secret: bool = False  # its output is itself worth protecting
    minted: tuple[str, ...] = ()
    system: tuple[str, ...] = ()  # fields that the system fills in: outsiders cause rows, but cannot write these freely
    authored: tuple[Authored, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    harmless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_labelled: bool = True


@dataclass(frozen=True)
class Source:
    """Why a value is believed, or that nothing speaks for it. `step` is the place of the call it was read from."""

    origin: Origin
    said: str = ""
    step: int | None = None


@dataclass(frozen=True)
class Evidence:
    """One value of one argument and its source."""

    argument: str
    value: str
    source: Source


@dataclass(frozen=True)
class Justified:
    """The call may be made as far as provenance goes."""

    rule: str
    reason: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Unjustified:
    """A person has to be asked."""

    rule: str
    reason: str
    evidence: tuple[Evidence, ...] = ()


Verdict = Justified | Unjustified


SENTENCES = {
    Origin.USER: "typed by the user",
    Origin.NAMED: "named by the user",
    Origin.AUTHORED: "from a record of the user's own",
    Origin.TRUSTED: "from a result that no outsider can influence",
    Origin.MINTED: "an id that the system made",
    Origin.PRECEDENT: "within what has passed before",
    Origin.DELEGATED: "named by the user as a field of a record",
    Origin.OWN: "the user's own identifier",
    Origin.HARMLESS: "needs no source",
    Origin.NOBODY: "on nobody's word",
}


def sentence(source: Source) -> str:
    """For people: where a value comes from."""
    said = f" (“{source.said[:60]}”)" if source.said and source.origin is not Origin.USER else ""
    where = f", event {source.step}" if source.step is not None else ""
    return f"{SENTENCES[source.origin]}{said}{where}"


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


Key = tuple[Kind, str]
NOBODY = Source(Origin.NOBODY)


@dataclass(frozen=True)
class _Record:
    """A row that the system filled in part: what it is called, and what stands in it."""

    step: int
    names: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass
class Knowledge:
    """What one run knows, indexed as it is read: each text once, so that a verdict costs the same at any length."""

    own: frozenset[str] = frozenset()  # the user's identifiers, folded
    is_tainted: bool = False  # an outsider may have written something that the run, its thread or a memory has read
    tainted_by: int | None = None  # the place of the first call of this run that brought such a text
    tainted_tool: str = ""  # and its tool
    _unread: list[Callable[[], None]] = field(default_factory=list)
    _said: dict[Key, Value] = field(default_factory=dict)
    _phrase: str = ""
    _called: set[tuple[str, str]] = field(default_factory=set)
    _words: set[str] = field(default_factory=set)
    _dates: list[Value] = field(default_factory=list)
    _believed: dict[Key, Source] = field(default_factory=dict)
    _minted: dict[str, tuple[Source, tuple[str, ...]]] = field(default_factory=dict)
    _precedents: dict[Key, tuple[Decimal, int]] = field(default_factory=dict)
    _paid: list[tuple[str, Decimal, int]] = field(default_factory=list)  # what the user called a payment of his
    _fields: dict[Key, list[tuple[str, _Record]]] = field(default_factory=dict)
    _secrets: set[Key] = field(default_factory=set)
    _spoiled: set[str] = field(default_factory=set)  # what calls of the tainted run were given

    def hear(self, text: str) -> None:
        """The user's own words."""
        self._unread.append(partial(self._hear, text))

    def taint(self) -> None:
        """The run, its thread or a memory it was given has been tainted before."""
        self.is_tainted = True

    def called(self, arguments: Any) -> None:
        """A call was proposed, whatever became of it: what a tainted run says itself, it cannot be told as news."""
        if self.is_tainted:
            self._unread.append(partial(self._spoil, arguments))

    def read(self, step: int, labels: Labels, arguments: Any, result: Any, *, tool: str = "") -> None:
        """A call was made and its result read. Refusals and errors are not results: they teach nothing."""
        self.called(arguments)
        self._unread.append(partial(self._read, step, labels, arguments, result))
        if not labels.is_trusted:
            self.taint_by(step, tool)

    def catch_up(self) -> None:
        """Index what was heard and read since the last time, in its order. A run that is never tainted never does."""
        for take_in in self._unread:
            take_in()
        self._unread.clear()

    def _hear(self, text: str) -> None:
        for value in values.find(text):
            for each in (value, *values.before_a_sentence(value)):
                self._said[each.kind, each.norm] = each
            if value.kind is Kind.DATE:
                self._dates.append(value)
        self._phrase = f"{self._phrase} | {values.phrase(text)}"
        self._called |= values.called(text)
        self._words.update(values.telling(text))

    def _spoil(self, arguments: Any) -> None:
        self._spoiled.update(_norms(arguments))

    def _read(self, step: int, labels: Labels, arguments: Any, result: Any) -> None:
        echo = _norms(arguments) | self._spoiled
        if labels.is_trusted:
            for text in values.scalars(result):
                self._believe(text, Source(Origin.TRUSTED, text[:LONGEST_NAME], step), echo)
        for row in _rows(result):
            self._read_row(row, step, labels, echo)
        if labels.is_secret:
            self._secrets.update(_hot(values.scalars(result)))

    def taint_by(self, step: int, tool: str = "") -> None:
        """An outsider may have written what this call returned, in a result or in an error."""
        self.is_tainted = True
        if self.tainted_by is None:
            self.tainted_by, self.tainted_tool = step, tool

    def _read_row(self, row: Mapping[str, Any], step: int, labels: Labels, echo: set[str]) -> None:
        for authored in labels.authored:
            if self._matches(row, authored):
                for name in authored.fields:
                    for item in values.flat(row.get(name)):
                        if item not in (None, ""):
                            self._believe(str(item), Source(Origin.AUTHORED, str(item)[:LONGEST_NAME], step), echo)
        for name in labels.minted:
            key = row.get(name)
            if isinstance(key, str | int) and not isinstance(key, bool) and str(key).casefold() not in echo:
                self._minted.setdefault(str(key), (Source(Origin.MINTED, _title(row), step), _names(row)))
        if any(name in row for name in labels.system):
            self._read_record(row, step, labels, echo)

    def _read_record(self, row: Mapping[str, Any], step: int, labels: Labels, echo: set[str]) -> None:
        """Keep what the system filled in, and how much has passed with whom.

        A party is known by its own identifier; by a name only in a row that the user wrote himself.
        """
        filled = [(name, item) for name in labels.system for item in values.flat(row.get(name)) if _given(item)]
        texts = [(name, value) for name, item in filled if isinstance(item, str) for value in values.of(item)]
        amounts = [
            Decimal(str(item))
            for name, item in filled
            if name not in labels.minted and isinstance(item, int | float) and not isinstance(item, bool)
        ]
        record = _Record(step, _names(row), tuple(value for _, value in texts))
        if amounts and any(self._matches(row, authored) for authored in labels.authored):
            self._paid += [(values.phrase(name), max(amounts), step) for name in record.names]
        for name, value in texts:
            key = (value.kind, value.norm)
            if value.norm in echo:
                continue
            self._fields.setdefault(key, []).append((name, record))
            if amounts:
                self._precedents[key] = max(self._precedents.get(key, (Decimal(0), step)), (max(amounts), step))

    def _matches(self, row: Mapping[str, Any], authored: Authored) -> bool:
        return all(self._has(row.get(key), wanted) for key, wanted in authored.where.items())

    def _has(self, given: Any, wanted: tuple[str, ...]) -> bool:
        accepted = {one.casefold() for one in wanted if one != SELF} | (self.own if SELF in wanted else set())
        return str(given).casefold() in accepted

    def _believe(self, text: str, source: Source, echo: set[str]) -> None:
        for value in (*values.of(text), *values.find(text)):
            if value.norm not in echo:
                self._believed.setdefault((value.kind, value.norm), source)

    # What speaks for a value

    def said(self, value: Value) -> Source | None:
        """The user's own words for a value: the value itself, whole, and of its kind."""
        if value.kind is Kind.NAME:
            is_name = any(len(word) > 1 and not word.isdigit() for word in value.norm.split())
            is_named = is_name and not set(value.norm.split()) <= values.COMMON
            return Source(Origin.USER, value.text) if is_named and values.is_said(value.norm, self._phrase) else None
        if value.kind is Kind.DATE:
            found = next((date for date in self._dates if values.same(date, value)), None)
        else:
            found = self._said.get((value.kind, value.norm))
            if found is None and value.kind in (Kind.AMOUNT, Kind.ACCOUNT):
                other = Kind.ACCOUNT if value.kind is Kind.AMOUNT else Kind.AMOUNT
                found = self._said.get((other, value.norm))
        return Source(Origin.USER, found.text) if found else None

    def believed(self, value: Value) -> Source | None:
        return self._believed.get((value.kind, value.norm))

    def minted(self, key: str) -> Source | None:
        found = self._minted.get(key)
        return found[0] if found else None

    def called_so(self, argument: str, item: Any) -> Source | None:
        """Whether the user has named the object by its number, with the word that the argument has for it.

        "Order 10471" names the `order_id` 10471; the 13 of "June 13" names no file.
        """
        if not isinstance(item, int | str) or isinstance(item, bool):
            return None
        nouns = set(values.telling(argument.replace("_", " "))) - UNTELLING
        noun = next((one for one in sorted(nouns) if (one, str(item)) in self._called), None)
        return Source(Origin.NAMED, f"{noun} {item}") if noun else None

    def precedent(self, party: Value, amount: Any) -> Source | None:
        """Whether at least this much has passed before between the user and the party."""
        known = self._precedents.get((party.kind, party.norm))
        if party.kind is Kind.NAME:
            named = [(most, step) for name, most, step in self._paid if values.is_said(party.norm, name)]
            known = max([*named, *([known] if known else [])], default=None)
        norm = values.number(amount)
        if known is None or norm is None or not 0 < Decimal(norm) <= known[0]:
            return None
        return Source(Origin.PRECEDENT, f"{known[0]} with {party.text}", known[1])

    def beside(self, value: Value, parties: Sequence[Value]) -> Source | None:
        """A number that is part of where something goes, as a postal code is: the user wrote it beside another part."""
        if not value.text.isdecimal():
            return None
        places = [party.norm for party in parties if party.kind is Kind.NAME]
        pairs = (pair for place in places for pair in (f"{value.text} {place}", f"{place} {value.text}"))
        said = next((pair for pair in pairs if values.is_said(pair, self._phrase)), None)
        return Source(Origin.USER, said) if said else None

    def elsewhere(self, value: Value, parties: Sequence[Value]) -> Source:
        """What speaks for a destination that the user has not said for itself."""
        return self.beside(value, parties) or self.delegated(value) or NOBODY

    def delegated(self, value: Value) -> Source | None:
        """Whether the user has named the field and, by its name and a second value in it, the record it stands in."""
        for name, record in self._fields.get((value.kind, value.norm), ()):
            if not self._words & _spellings(name):
                continue
            called = next((one for one in record.names if self._is_called(one)), None)
            second = any(self.said(other) for other in record.values if other != value and other.kind is not Kind.NAME)
            if called and second:
                return Source(Origin.DELEGATED, f"{name} of {called}", record.step)
        return None

    def _is_called(self, name: str) -> bool:
        return len(values.telling(name)) > 1 and values.is_said(values.phrase(name), self._phrase)

    def is_own(self, value: Value) -> bool:
        return value.norm in self.own or value.text.casefold() in self.own

    def is_secret(self, value: Value) -> bool:
        return (value.kind, value.norm) in self._secrets

    def names(self, key: str) -> bool:
        """Whether the user has named the record with this minted id."""
        _, names = self._minted.get(key, (NOBODY, ()))
        return any(self.mentions(name, least=0.6) for name in names)

    def mentions(self, text: str, *, least: float, at_least: int = 1) -> bool:
        """Whether the user's words contain most of the telling words of a text, or the text as a whole."""
        told = values.telling(text)
        if not told:
            return False
        if values.is_said(values.phrase(text), self._phrase) and max(map(len, told)) > 3:
            return True
        shared = [word for word in told if word in self._words and len(word) > 3]
        return len(shared) >= max(at_least, least * len(told)) and len(shared) >= min(2, len(told))

    def shares(self, text: str) -> bool:
        """Whether a text has a value in it that the user has said: a day, an address, a link, a number, a file."""
        kinds = (Kind.DATE, Kind.ADDRESS, Kind.LINK, Kind.ACCOUNT, Kind.IDENTIFIER)
        return any(self.said(value) for value in values.find(text) if value.kind in kinds)


def decide(known: Knowledge, labels: Labels, arguments: Mapping[str, Any]) -> Verdict:
    """Say whether a call needs a person for what it does and for where its values come from."""
    effect = effective(labels, arguments)
    if effect == "read":
        return Justified("read", "It changes nothing.")
    if not labels.is_labelled:
        return Unjustified("unlabelled", "Nobody has reviewed what this tool can do.")
    if effect == "destructive":
        return Unjustified("destructive", "This cannot be undone.")
    if not known.is_tainted:
        return Justified("untainted", "The run has read nothing that an outsider could have written.")
    return _decide_tainted(known, labels, effect, arguments)


def effective(labels: Labels, arguments: Mapping[str, Any]) -> str:
    """The effect of this call: with every destination left out, nothing leaves, and a way out is a plain write."""
    ways = [name for name, kind in labels.arguments.items() if kind == "destination"]
    if labels.effect == "egress" and ways and not any(_given(arguments.get(name)) for name in ways):
        return "write"
    return labels.effect


def _decide_tainted(known: Knowledge, labels: Labels, effect: str, arguments: Mapping[str, Any]) -> Verdict:
    known.catch_up()
    evidence: list[Evidence] = []
    parties = _parties(known, labels, arguments)
    for name, given in arguments.items():
        kind = labels.arguments.get(name, "unlabelled")
        if kind in SENSITIVE or kind == "unlabelled":
            evidence += [
                Evidence(name, str(item), _source(known, labels, name, kind, item, parties))
                for item in _items(kind, given)
            ]
        elif effect == "egress" and kind in ("content", "label"):
            evidence += _foreign(known, name, given)
    found = tuple(evidence)
    alone = [each for each in found if each.source.origin is Origin.NOBODY]
    if alone:
        listed = ", ".join(dict.fromkeys(f"{each.argument} “{each.value[:60]}”" for each in alone))
        return Unjustified("provenance", f"On nobody's word: {listed}.", found)
    if not _is_tied(known, labels, arguments, found):
        return Unjustified("provenance-untied", "Nothing ties this call to what the user asked for.", found)
    return Justified("provenance", "Every sensitive value is the user's own or the system's.", found)


def _items(kind: str, given: Any) -> list[Any]:
    """The single values of an argument. What tells an attachment's type from its id is harmless beside the id."""
    items = [item for item in values.flat(given) if _given(item)]
    if kind == "target" and isinstance(given, list | tuple | dict):
        keyed = [item for part in ([given] if isinstance(given, dict) else given) if isinstance(part, dict)
                 for key, item in part.items() if key.casefold() not in ("type", "kind") and _given(item)]  # fmt: skip
        return keyed or items
    return items


def _parties(known: Knowledge, labels: Labels, arguments: Mapping[str, Any]) -> list[Value]:
    """Whom the call reaches, as far as the user has named them himself."""
    ways = [name for name, kind in labels.arguments.items() if kind == "destination"]
    given = [item for name in ways for item in values.flat(arguments.get(name)) if _given(item)]
    return [value for item in given for value in values.of(item) if known.said(value)]


def _source(known: Knowledge, labels: Labels, name: str, kind: str, item: Any, parties: Sequence[Value] = ()) -> Source:
    if str(item) in labels.harmless.get(name, ()):
        return Source(Origin.HARMLESS)
    if kind == "amount":
        norm = values.number(item)
        said = _best(known, Value(Kind.AMOUNT, norm, str(item))) if norm is not None else NOBODY
        before = (known.precedent(party, item) for party in parties)
        return said if said.origin is not Origin.NOBODY else next(filter(None, before), NOBODY)
    if kind == "target":
        return _target(known, name, item)
    found = values.of(item)
    if kind == "destination":
        found = tuple(Value(Kind.IDENTIFIER, value.norm, value.text) if value.kind is Kind.AMOUNT else value
                      for value in found)  # fmt: skip
        if found and all(known.is_own(value) for value in found):
            return Source(Origin.OWN, str(item))
    sources = [_best(known, value) for value in found]
    if kind == "destination":
        sources = [
            source if source.origin is not Origin.NOBODY else known.elsewhere(value, parties)
            for source, value in zip(sources, found, strict=True)
        ]
    return next((source for source in sources if source.origin is Origin.NOBODY), sources[0] if sources else NOBODY)


def _target(known: Knowledge, argument: str, item: Any) -> Source:
    """Which object is meant: the system's own id for it, or a name that the user has said; a bare number is none.

    One with the right word before it is a name, but naming an object is not asking to change it: see `_is_tied`.
    """
    minted = known.minted(str(item))
    if minted:
        return minted
    found = values.of(item)
    if not found or any(value.kind in (Kind.AMOUNT, Kind.TIME, Kind.DATE) for value in found):
        return known.called_so(argument, item) or NOBODY
    return _best(known, found[0])


def _best(known: Knowledge, value: Value) -> Source:
    return known.said(value) or known.believed(value) or NOBODY


def _foreign(known: Knowledge, name: str, given: Any) -> list[Evidence]:
    """What a text that leaves must not carry on nobody's word: links, account numbers, what a secret output held."""
    found = []
    for item in values.flat(given):
        for value in values.find(str(item)):
            is_hot = value.kind in (Kind.LINK, Kind.ACCOUNT) or known.is_secret(value)
            if is_hot and not (known.said(value) or (known.believed(value) and not known.is_secret(value))):
                found.append(Evidence(name, value.text, NOBODY))
    return found


def _is_tied(known: Knowledge, labels: Labels, arguments: Mapping[str, Any], evidence: Iterable[Evidence]) -> bool:
    """Whether something of the call is what the user asked for, in his words."""
    for each in evidence:
        if each.source.origin in (Origin.USER, Origin.DELEGATED):
            return True
        if each.source.origin is Origin.MINTED and known.names(each.value):
            return True
        if each.source.origin in (Origin.AUTHORED, Origin.TRUSTED, Origin.OWN) and known.mentions(
            each.value, least=0.3
        ):
            return True
    named = [name for name, kind in labels.arguments.items() if kind == "label" and _given(arguments.get(name))]
    told = named or [name for name in arguments if labels.arguments.get(name) in ("content", "free")]
    return any(_is_asked_for(known, str(item)) for name in told for item in values.flat(arguments[name]))


def _is_asked_for(known: Knowledge, text: str) -> bool:
    return known.shares(text) or known.mentions(text, least=0.5, at_least=2 if " " in text.strip() else 1)


def _given(value: Any) -> bool:
    return value is not None and value != "" and value != [] and value != {}


def _norms(arguments: Any) -> set[str]:
    return {value.norm for text in values.scalars(arguments) for value in (*values.of(text), *values.find(text))}


def _hot(texts: Iterable[str]) -> Iterator[Key]:
    for text in texts:
        for value in values.find(text):
            if value.kind in (Kind.ACCOUNT, Kind.IDENTIFIER, Kind.ADDRESS):
                yield value.kind, value.norm


def _rows(result: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(result, dict):
        yield result
        for item in result.values():
            yield from _rows(item)
    elif isinstance(result, list | tuple):
        for item in result:
            yield from _rows(item)


def _names(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = [item for item in row.values() if isinstance(item, str) and 3 <= len(item) <= LONGEST_NAME]
    return tuple(found[:MOST_NAMES])


def _spellings(name: str) -> set[str]:
    """A field's name as people write it, one and many."""
    found = values.telling(name.replace("_", " "))
    return {form for word in found for form in (word, word + "s", word.removesuffix("s"))}


def _title(row: Mapping[str, Any]) -> str:
    return next(iter(_names(row)), "")
