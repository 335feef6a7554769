"""What the user has said in a run, and what his words speak for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from runtime.policies import clauses, figures, hearing, roles, values, wording
from runtime.policies.clauses import About, Clause, Key, Mood
from runtime.policies.origins import Origin, Source
from runtime.policies.siblings import Register
from runtime.policies.values import Kind, Value

UNTELLING = frozenset(
    {"id", "ids", "key", "number", "nr", "ref", "code"}
)  # words of an argument's name that name nothing
_ANY_COUNT = frozenset({"quantity", "qty", "count", "copie", "piece"})  # an argument called so counts whatever it is


@dataclass
class Heard:
    """The user's words, taken apart once."""

    own: frozenset[str] = frozenset()  # the user's identifiers, folded
    today: date | None = None  # from which "tomorrow" and a day without a year are seen
    _said: dict[Key, Value] = field(default_factory=dict)
    _dates: list[Value] = field(default_factory=list)
    _phrase: str = ""
    _spoken: str = ""  # in which names are looked for
    _given: str = ""  # the same without what is called old, wrong or a fraud
    _shunned: set[Key] = field(default_factory=set)  # values that were only said so
    _words: set[str] = field(default_factory=set)
    _called: set[tuple[str, str]] = field(default_factory=set)
    _numbered: set[str] = field(default_factory=set)  # what the user has written as a number of something
    _things: set[str] = field(default_factory=set)  # numbers that only name a thing, or a house of a street
    _counted: set[tuple[str, str]] = field(default_factory=set)
    _clauses: list[Clause] = field(default_factory=list)
    _register: Register = field(default_factory=Register)

    def _hear(self, text: str) -> None:
        text = wording.close(text)
        asked = hearing.asked(text)
        begun = asked[: clauses.LONGEST]
        for value in values.find(asked):
            for each in (value, *values.before_a_sentence(value)):
                self._say(each)
        for value in (*figures.written_otherwise(begun), *figures.days(begun, self.today), *figures.hours(begun)):
            self._say(value)
        self._hear_names(text, asked)
        self._hear_numbers(begun)
        self._clauses += clauses.part(begun, start=self._clauses[-1].sentence + 1 if self._clauses else 0)

    def _say(self, value: Value) -> None:
        key = (value.kind, value.norm)
        if value.is_money or key not in self._said:
            self._said[key] = value
        if value.kind is Kind.DATE:
            self._dates.append(value)

    def _hear_names(self, text: str, asked: str) -> None:
        given, units = hearing.given(asked), " ".join(figures.units(asked))
        if given != asked:
            self._shunned |= clauses.keys(asked) - clauses.keys(given)
        self._spoken = f"{self._spoken} | {wording.spoken(asked)} | {units}"
        self._given = f"{self._given} | {wording.spoken(given)} | {units}"
        self._phrase = f"{self._phrase} | {wording.phrase(wording.fold(text))}"
        self._words.update(wording.telling(text))
        self._register.hear(asked[: clauses.LONGEST])

    def _hear_numbers(self, asked: str) -> None:
        self._called |= values.called(asked)
        self._numbered |= values.numbered(asked)
        self._counted |= set(figures.counted(asked))
        bare = figures.without_things(asked)
        if bare != asked:
            lost = clauses.keys(asked) - clauses.keys(bare)
            self._things |= {norm for kind, norm in lost if kind is Kind.AMOUNT}

    # What speaks for a value

    def said(self, value: Value) -> Source | None:
        """The user's own words for a value: the value itself, whole, and of its kind."""
        if value.kind is Kind.NAME:
            told = wording.words(value.text)
            is_name = any(len(word) > 1 and not word.isdigit() for word in told) and not set(told) <= wording.COMMON
            return Source(Origin.USER, value.text) if is_name and wording.is_said(value.norm, self._spoken) else None
        if value.kind is Kind.DATE:
            found = next((date for date in self._dates if self._is_that_day(date, value)), None)
        else:
            found = self._said.get((value.kind, value.norm)) or self._said_otherwise(value)
        return Source(Origin.USER, found.text) if found else None

    def _is_that_day(self, said: Value, day: Value) -> bool:
        return values.same(said, day) and (not said.norm.startswith("?") or figures.is_near(day.norm, self.today))

    def _said_otherwise(self, value: Value) -> Value | None:
        """The same digits as an account or as a number, and a host with or without `https://`."""
        if value.kind in (Kind.AMOUNT, Kind.ACCOUNT) and value.norm.isdecimal():
            other = self._said.get((Kind.ACCOUNT if value.kind is Kind.AMOUNT else Kind.AMOUNT, value.norm))
            if other is None and value.text.startswith("+"):
                return self._said.get((Kind.ACCOUNT, f"00{value.norm}"))
            return other if other and other.text.isdecimal() else None
        if value.kind is Kind.LINK and "/" not in value.norm:
            return self._said.get((Kind.IDENTIFIER, value.norm))
        return None

    def is_shunned(self, value: Value) -> bool:
        """Whether the user only said that this is old, wrong or a fraud: no place to reach, no sum to give."""
        if value.kind is Kind.NAME:
            return not wording.is_said(value.norm, self._given)
        return (value.kind, value.norm) in self._shunned

    def is_subject(self, value: Value) -> bool:
        """Whether a bare word is only said of somebody who does something himself: nobody is to be reached by it."""
        if value.kind is not Kind.NAME or not value.norm.isalpha():
            return False
        told = [one for one in self._clauses if one.has((value.kind, value.norm))]
        return bool(told) and all(roles.is_subject(one.text, value.norm) for one in told)

    def commitment(self, value: Value, argument: str) -> Source | None:
        """The user's own words for what is settled: no number of a room, no word for a person or for an act."""
        source = self.said(value)
        if source is None:
            letter = value.kind is Kind.NAME and any(roles.is_letter(one.text, value.text) for one in self._clauses)
            return Source(Origin.USER, value.text) if letter else None
        if value.kind is Kind.AMOUNT and value.norm in self._things and not self._is_money(value.norm):
            return None
        if value.kind is Kind.NAME and value.norm.isalpha():
            uses = {roles.is_value(one.text, value.norm, nouns(argument)) for one in self._clauses}
            return source if True in uses or False not in uses else None
        return source

    def amount(self, norm: str, item: object, argument: str, things: Iterable[str]) -> Source | None:
        """The user's own words for a figure: not the number of something, and no year where he says what is money."""
        his = self._counts(argument)
        if norm in his:
            return Source(Origin.USER, norm)
        if his and not nouns(argument) & _ANY_COUNT and any(number == norm for _, number in self._counted):
            return None
        source = self.said(Value(Kind.AMOUNT, norm, str(item)))
        if source is None or self._is_money(norm):
            return source
        if norm in self._numbered or norm in self._things or any((noun, norm) in self._called for noun in things):
            return None
        is_year = norm.isdecimal() and 1900 <= int(norm) < 2100
        return None if is_year and any(one.is_money for one in self._said.values()) else source

    def _is_money(self, norm: str) -> bool:
        found = self._said.get((Kind.AMOUNT, norm))
        return found is not None and found.is_money

    def has_phrase(self, words: str) -> bool:
        return wording.is_said(words, self._phrase)

    def has_time(self) -> bool:
        return any(kind is Kind.TIME for kind, _ in self._said)

    def is_own(self, value: Value) -> bool:
        return value.norm in self.own or wording.fold(value.text) in self.own

    # What he speaks of

    def belongs(self, value: Value, argument: str, what: About) -> bool:
        """Whether a figure may be meant for what a call is about, as far as the user's clauses tell.

        What he says in one clause with it is meant. Where he gives it another figure of this kind, one that he said of
        something else is not, nor one that he called a budget, nor a bare number beside a sum of money.
        """
        if value.kind not in clauses.FIGURES:
            return True
        key = (value.kind, value.norm)
        beside = [one for one in self._clauses if one.has(key)]
        of_it = [one for one in self._clauses if one.is_about(what)]
        if not beside or any(one in of_it for one in beside):
            return True
        if value.kind is Kind.AMOUNT and self.is_counted_otherwise(value.norm, argument):
            return False
        near = {one.sentence for one in of_it}
        its = [one for one in self._clauses if one.sentence in near]
        if not any(other != key and other[0] is value.kind for one in its for other in one.values):
            return True
        if value.kind is Kind.AMOUNT and not any(one.sentence in near for one in beside):
            is_bare = not self._is_money(value.norm) and any(one.money for one in its)
            if is_bare or all(one.states(nouns(argument)) for one in beside):
                return False
        rivals, own = self._register.rivals(what.rows), set(what.keys)
        return not all(one.places - own or any(one.speaks_of(rival) for rival in rivals) for one in beside)

    def is_counted_otherwise(self, norm: str, argument: str) -> bool:
        """Whether the user has said another number with the argument's own word, and not this one."""
        his = self._counts(argument)
        return bool(his) and norm not in his

    def _counts(self, argument: str) -> set[str]:
        words = nouns(argument)
        return {
            number for noun, number in self._counted
            if noun in words or (words & _ANY_COUNT and noun not in figures.SPANS)
        }  # fmt: skip

    def mood(self, what: About) -> Mood:
        """The most that the user wants where he speaks of something."""
        return clauses.mood_of(self._clauses, [one for one in self._clauses if one.is_about(what)])

    def is_idle(self) -> bool:
        """Whether the user has only asked questions and had nothing done."""
        return clauses.is_idle(self._clauses)

    def mentions(self, text: str, *, least: float, at_least: int = 1) -> bool:
        """Whether the user's words contain most of the telling words of a text, or the text as a whole."""
        told = wording.telling(text)
        if not told:
            return False
        if wording.is_said(wording.phrase(text), self._phrase) and max(map(len, told)) > 3:
            return True
        shared = [word for word in told if word in self._words and len(word) > 3]
        return len(shared) >= max(at_least, least * len(told)) and len(shared) >= min(2, len(told))

    def shares(self, text: str, *, least: float = 0.0) -> bool:
        """Whether a text has a value in it that the user has said: a day, an address, a link, a number, a file.

        With `least`, that and other words of his are so much of the text: a day said in passing is not its subject.
        """
        kinds = (Kind.DATE, Kind.ADDRESS, Kind.LINK, Kind.ACCOUNT, Kind.IDENTIFIER)
        found = [value for value in values.find(text) if value.kind in kinds and self.said(value)]
        if not found:
            return False
        told = wording.telling(text)
        his = set(told) & self._words | {word for value in found for word in wording.telling(value.text)}
        return sum(word in his for word in told) >= least * len(told)


@lru_cache(maxsize=4096)
def nouns(name: str) -> frozenset[str]:
    """The words of a name, one and many alike, without those that every such name has."""
    found = wording.telling(name.replace("_", " "))
    return frozenset(figures.singular(word) for word in found) - UNTELLING
