"""What one run knows about where values come from: what the user said, what it has read, what it has said itself.

Structure is not authorship: a field of a record says nothing about who chose its value. What a call was given, a
refusal or an error repeats, or a tainted run wrote, earns nothing by being read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any

from runtime.policies import siblings, values, wording
from runtime.policies.clauses import Key
from runtime.policies.heard import UNTELLING, Heard, nouns
from runtime.policies.origins import EASY, SELF, Authored, Labels, Origin, Source
from runtime.policies.siblings import LONGEST_NAME, Row
from runtime.policies.values import Kind, Value
from runtime.policies.withholding import PLACES, Withheld

FIGURES = (Kind.AMOUNT, Kind.DATE, Kind.TIME)
MOST_ROWS = 20  # in which one value is looked for
NOBODY = Source(Origin.NOBODY)


@dataclass(frozen=True)
class _Record:
    """A row that the system filled in part: what it is called, and what stands in it."""

    step: int
    key: str  # its minted id; empty without one
    names: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class _Minted:
    """Where an id of the system's was read: the words for what it is the id of, and what the record is called."""

    source: Source
    nouns: frozenset[str]
    row: Row


@dataclass
class Knowledge(Heard):
    """What one run knows, indexed as it is read: each text once, so that a verdict costs the same at any length."""

    is_tainted: bool = False  # an outsider may have written something that the run, its thread or a memory has read
    tainted_by: int | None = None  # the place of the first call of this run that brought such a text
    tainted_tool: str = ""  # and its tool
    _unread: list[Callable[[], None]] = field(default_factory=list)
    _stands: dict[Key, list[Row]] = field(default_factory=dict)  # in which rows a trusted value stands
    _made: dict[str, list[Any]] = field(default_factory=dict)  # what the tainted run has put into an object
    _believed: dict[Key, Source] = field(default_factory=dict)
    _minted: dict[str, list[_Minted]] = field(default_factory=dict)
    _precedents: dict[tuple[Key, str], tuple[Decimal, int]] = field(default_factory=dict)  # by party and field
    _paid: list[tuple[str, str, Decimal, int]] = field(default_factory=list)  # what the user called a payment of his
    _fields: dict[Key, list[tuple[str, _Record]]] = field(default_factory=dict)
    _records: list[_Record] = field(default_factory=list)
    withheld: Withheld = field(default_factory=Withheld)  # what secret outputs held
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
        was_tainted = self.is_tainted
        self.called(arguments)
        self._unread.append(partial(self._read, step, labels, arguments, result, tool, was_tainted))
        if not labels.is_trusted:
            self.taint_by(step, tool)

    def catch_up(self) -> None:
        """Index what was heard and read since the last time, in its order. A run that is never tainted never does."""
        for take_in in self._unread:
            take_in()
        self._unread.clear()

    def _spoil(self, arguments: Any) -> None:
        self._spoiled.update(_norms(arguments))

    def _read(self, step: int, labels: Labels, arguments: Any, result: Any, tool: str, was_tainted: bool) -> None:
        echo = _norms(arguments) | self._spoiled
        if was_tainted and labels.effect != "read":
            self._keep_made(labels, arguments, result)
        if labels.is_trusted:
            is_made = self._making(arguments, result) if was_tainted else (lambda value: False)
            for text in values.scalars(result):
                self._believe(text, Source(Origin.TRUSTED, text[:LONGEST_NAME], step), echo, is_made)
        for group, row in siblings.rows(result, tool):
            if labels.is_trusted:
                self._place_row(group, row)
            if "" not in row:
                self._read_row(row, step, labels, echo, tool, group)
        if labels.is_secret:
            self.withheld.take_in(values.scalars(result))

    def _place_row(self, group: str, row: Mapping[str, Any]) -> None:
        """Keep in which of several rows the values of a trusted result stand."""
        placed = Row(group, siblings.fields(row))
        self._register.add(placed)
        for text in siblings.direct(row):
            for value in values.every(text):
                self._stands.setdefault((value.kind, value.norm), []).append(placed)

    def _keep_made(self, labels: Labels, arguments: Any, result: Any) -> None:
        """What this call has put into an object, by the ids that it made and those it was given."""
        if not isinstance(arguments, dict):
            return
        texts = [given for name, given in arguments.items() if labels.arguments.get(name) in EASY]
        ids = [
            str(row[name]) for _, row in siblings.rows(result, "") for name in labels.minted if is_given(row.get(name))
        ]
        ids += [
            text for name, given in arguments.items() if labels.arguments.get(name) in ("target", "label")
            for text in values.scalars(given)
        ]  # fmt: skip
        for key in ids:
            self._made.setdefault(wording.fold(key), []).extend(texts)

    def made(self, key: str) -> Sequence[Any]:
        """What this run, tainted, has put into an object."""
        return self._made.get(wording.fold(key), ())

    def _making(self, arguments: Any, result: Any) -> Callable[[Value], bool]:
        """What a tool of ours may have made of what a tainted run gave it, on nobody's word.

        An address or a link with a piece of that in it, and the figure that a calculation comes to.
        """
        given = [value for text in values.scalars(arguments) for value in values.every(text)]
        foreign = [value for value in given if not (self.said(value) or self.believed(value))]
        pieces = {value.norm.lower() for value in foreign if value.kind is not Kind.AMOUNT and len(value.norm) > 2}
        is_single = sum(1 for _ in values.scalars(result)) == 1
        figures = {value.kind for value in foreign if value.kind in FIGURES} if is_single else set()

        def is_made(value: Value) -> bool:
            if value.kind in FIGURES:
                return value.kind in figures
            return value.kind in PLACES and any(piece in value.norm.lower() for piece in pieces)

        return is_made

    def taint_by(self, step: int, tool: str = "") -> None:
        """An outsider may have written what this call returned, in a result or in an error."""
        self.is_tainted = True
        if self.tainted_by is None:
            self.tainted_by, self.tainted_tool = step, tool

    def _read_row(
        self, row: Mapping[str, Any], step: int, labels: Labels, echo: set[str], tool: str, group: str
    ) -> None:
        for authored in labels.authored:
            if self._matches(row, authored):
                for name in authored.fields:
                    for item in values.flat(row.get(name)):
                        if item not in (None, ""):
                            self._believe(str(item), Source(Origin.AUTHORED, str(item)[:LONGEST_NAME], step), echo)
        for name in labels.minted:
            key = row.get(name)
            if isinstance(key, str | int) and not isinstance(key, bool) and str(key).casefold() not in echo:
                of = nouns(name) or nouns(tool)
                kept = self._minted.setdefault(str(key), [])
                if all(one.nouns != of for one in kept):
                    placed = Row(f"{name} in {group}", siblings.fields_beside(row, name))
                    self._register.add(placed)
                    kept.append(_Minted(Source(Origin.MINTED, _title(row), step), of, placed))
        if any(name in row for name in labels.system):
            self._read_record(row, step, labels, echo)

    def _read_record(self, row: Mapping[str, Any], step: int, labels: Labels, echo: set[str]) -> None:
        """Keep what the system filled in, and how much has passed with whom.

        A party is known by its own identifier; by a name only in a row that the user wrote himself.
        """
        filled = [(name, item) for name in labels.system for item in values.flat(row.get(name)) if is_given(item)]
        texts = [(name, value) for name, item in filled if isinstance(item, str) for value in values.of(item)]
        amounts = [
            (name, Decimal(norm))
            for name, item in filled
            if name not in labels.minted and (norm := values.number(item)) is not None
        ]
        key = next((str(row[name]) for name in labels.minted if is_given(row.get(name))), "")
        record = _Record(step, key, siblings.names(row), tuple(value for _, value in texts))
        self._records.append(record)
        if amounts and any(self._matches(row, authored) for authored in labels.authored):
            self._paid += [(wording.name(one), name, most, step) for one in record.names for name, most in amounts]
        for name, value in texts:
            place = (value.kind, value.norm)
            if value.norm in echo:
                continue
            self._fields.setdefault(place, []).append((name, record))
            for of, most in amounts:
                self._precedents[place, of] = max(self._precedents.get((place, of), (Decimal(0), step)), (most, step))

    def _matches(self, row: Mapping[str, Any], authored: Authored) -> bool:
        return all(self._has(row.get(key), wanted) for key, wanted in authored.where.items())

    def _has(self, given: Any, wanted: tuple[str, ...]) -> bool:
        accepted = {wording.fold(one) for one in wanted if one != SELF} | (self.own if SELF in wanted else set())
        return wording.fold(str(given)) in accepted

    def _believe(
        self, text: str, source: Source, echo: set[str], is_made: Callable[[Value], bool] = lambda value: False
    ) -> None:
        for value in values.every(text):
            if value.norm not in echo and not is_made(value):
                self._believed.setdefault((value.kind, value.norm), source)

    # What speaks for a value

    def believed(self, value: Value) -> Source | None:
        return self._believed.get((value.kind, value.norm))

    def minted(self, key: str, argument: str = "") -> Source | None:
        """The system's own id, read where ids of such things are read: the number of a mail is no number of a file."""
        found = self._ids(key, argument)
        return found[0].source if found else None

    def _ids(self, key: str, argument: str) -> list[_Minted]:
        wanted = nouns(argument)
        return [
            one for one in self._minted.get(key, ())
            if not (key.isdecimal() and wanted and one.nouns) or wanted & one.nouns
        ]  # fmt: skip

    def is_another(self, key: str, argument: str) -> bool:
        """Whether the user has named an object of this kind, by its id or by its name, and this is not the one."""
        wanted = nouns(argument)
        named = {number for noun, number in self._called if noun in wanted}
        for kind, norm in self._said:
            found = self._minted.get(self._said[kind, norm].text.lstrip("#")) if kind is Kind.IDENTIFIER else None
            if found and any(not wanted or wanted & one.nouns for one in found):
                named.add(norm)
        if wording.fold(key) in named:
            return False
        rows = [one.row for one in self._ids(key, argument)]
        return (bool(named) and not self.names(key)) or (bool(rows) and bool(self._rival(rows)))

    def rival(self, value: Value) -> str:
        """The record that the user has named instead of the one in which a trusted value stands; empty for none."""
        rows = self._stands.get((value.kind, value.norm), ())
        return self._rival(rows) if rows and self.said(value) is None else ""

    def _rival(self, rows: Sequence[Row]) -> str:
        name = ""
        for row in rows:
            name = self._register.rival(row)
            if not name:
                return ""
        return name

    def rows(self, item: Any, argument: str) -> list[Row]:
        """The records that a value of an argument is the id of or stands in."""
        found = [one.row for one in self._ids(str(item), argument)]
        standing = (row for value in values.of(item) for row in self._stands.get((value.kind, value.norm), ()))
        return found or list(islice(standing, MOST_ROWS))

    def has_named(self, item: Any, argument: str) -> bool:
        """Whether the user has said a name of the record, of two words or more, as it stands."""
        return any(self._register.has_said(name) for row in self.rows(item, argument) for name in row.names)

    def called_so(self, argument: str, item: Any, tool: str = "") -> Source | None:
        """Whether the user has named the object by its number, with the word that the argument has for it.

        "Order 10471" names the `order_id` 10471; the 13 of "June 13" names no file. Where the argument's name tells
        nothing, the tool's does: "issue 31" names the `number` of `close_issue`.
        """
        if not isinstance(item, int | str) or isinstance(item, bool):
            return None
        own = set(wording.telling(argument.replace("_", " "))) - UNTELLING
        noun = next((one for one in sorted(own or nouns(tool)) if (one, str(item)) in self._called), None)
        return Source(Origin.NAMED, f"{noun} {item}") if noun else None

    def precedents(self, argument: str, parties: Sequence[Value], amount: Any) -> Source | None:
        return next(filter(None, (self.precedent(argument, party, amount) for party in parties)), None)

    def precedent(self, argument: str, party: Value, amount: Any) -> Source | None:
        """Whether at least this much has passed before, as the same figure, between the user and the party."""
        words = nouns(argument)
        known = [
            most for (place, of), most in self._precedents.items()
            if place == (party.kind, party.norm) and words & nouns(of)
        ]  # fmt: skip
        if party.kind is Kind.NAME:
            known += [
                (most, step) for name, of, most, step in self._paid
                if words & nouns(of) and wording.is_said(party.norm, name)
            ]  # fmt: skip
        norm = values.number(amount)
        if not known or norm is None or not 0 < Decimal(norm) <= max(known)[0]:
            return None
        most, step = max(known)
        return Source(Origin.PRECEDENT, f"{most} with {party.text}", step)

    def beside(self, value: Value, parties: Sequence[Value]) -> Source | None:
        """A number that is part of where something goes, as a postal code is: the user wrote it beside another part."""
        if not value.text.isdecimal():
            return None
        places = [party.norm for party in parties if party.kind is Kind.NAME]
        pairs = (pair for place in places for pair in (f"{value.text} {place}", f"{place} {value.text}"))
        said = next((pair for pair in pairs if wording.is_said(pair, self._spoken)), None)
        return Source(Origin.USER, said) if said else None

    def elsewhere(self, value: Value, parties: Sequence[Value]) -> Source:
        """What speaks for a destination that the user has not said for itself."""
        return self.beside(value, parties) or self.delegated(value) or NOBODY

    def delegated(self, value: Value) -> Source | None:
        """Whether the user has named the field and, by its name and a second value in it, the record it stands in."""
        for name, record in self._fields.get((value.kind, value.norm), ()):
            if not self._words & _spellings(name) or not self._is_meant(record, value):
                continue
            called = {one.lower() for one in record.names if self._is_called(one)}
            twins = (one for one in self._records if called & {name.lower() for name in one.names})
            if called and not any(_is_another(one, record) and self._is_meant(one) for one in twins):
                return Source(Origin.DELEGATED, f"{name} of {next(iter(called))}", record.step)
        return None

    def _is_meant(self, record: _Record, value: Value | None = None) -> bool:
        """Whether the user has said a second value of a record, besides `value`."""
        return any(self.said(other) for other in record.values if other != value and other.kind is not Kind.NAME)

    def _is_called(self, name: str) -> bool:
        return len(wording.telling(name)) > 1 and wording.is_said(wording.phrase(name), self._phrase)

    def names(self, key: str) -> bool:
        """Whether the user has named the record with this minted id."""
        return any(self.mentions(name, least=0.6) for found in self._minted.get(key, ()) for name in found.row.names)


def is_given(value: Any) -> bool:
    return value is not None and value != "" and value != [] and value != {}


def _norms(arguments: Any) -> set[str]:
    return {value.norm for text in values.scalars(arguments) for value in values.every(text)}


def _is_another(one: _Record, record: _Record) -> bool:
    return one.key != record.key if one.key and record.key else one.values != record.values


def _spellings(name: str) -> set[str]:
    """A field's name as people write it, one and many."""
    found = wording.telling(name.replace("_", " "))
    return {form for word in found for form in (word, word + "s", word.removesuffix("s"))}


def _title(row: Mapping[str, Any]) -> str:
    return next(iter(siblings.names(row)), "")
