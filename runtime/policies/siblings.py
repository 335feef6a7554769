"""Records side by side: who names one of several means that one, and none of its siblings.

"Write to Helen Moss" speaks for the address in her row of the staff list and for no other row of it, and "the Leeds
depot" for no other depot. Where the user names none of them, or speaks of all of them or of the others, nothing
follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from runtime.policies import values, wording

LONGEST_NAME = 120  # characters of a field that can name its record
MOST_NAMES = 12
SHORTEST_WORD = 3
_OF_ALL = re.compile(
    r"\b(?:every(?:thing|body|one)|all\s+(?:of\b|the\b|my\b|our\b|their\b|items?\b|\w+s\b)|the\s+(?:rest|others?|remaining|whole|entire)"
    r"|both|whole\s+order|alle[ns]?|übrige[nr]?|restliche[nr]?|beide[nr]?|tou(?:te?s?|s)\s+les|todos?|todas?|los\s+demás)\b",
    re.I,
)


@dataclass(frozen=True)
class Row:
    """One of several records of a kind, with what can name it by its field."""

    group: str
    fields: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.fields)


@dataclass
class Register:
    """The rows that a run has read, and what the user has said: as a phrase, and in words that name something."""

    phrase: str = ""
    words: set[str] = field(default_factory=set)
    is_of_all: bool = False  # the user speaks of all of something, or of the others
    _rows: dict[str, list[Row]] = field(default_factory=dict)
    _named: dict[str, tuple[int, int, list[Row]]] = field(default_factory=dict)

    def hear(self, text: str) -> None:
        """Words within an address or a link name no record: they stand for themselves."""
        self.phrase = f"{self.phrase} | {wording.phrase(wording.fold(text))}"
        self.words.update(telling(values.without(text)))
        self.is_of_all = self.is_of_all or _OF_ALL.search(text) is not None

    def add(self, row: Row) -> None:
        self._rows.setdefault(row.group, []).append(row)

    def named(self, group: str) -> list[Row]:
        """The rows of a group that the user has named: a name of theirs whole, or at least half of it."""
        rows = self._rows.get(group, [])
        length, heard, found = self._named.get(group, (-1, -1, []))
        if (length, heard) != (len(rows), len(self.phrase)):
            found = [row for row in rows if any(is_named(name, self.words, self.phrase) for name in row.names)]
            self._named[group] = (len(rows), len(self.phrase), found)
        return found

    def has_said(self, name: str) -> bool:
        return len(telling(name)) > 1 and _whole(name, self.phrase)

    def rivals(self, kept: Sequence[Row]) -> list[str]:
        """The names that the user has said of the siblings of these rows."""
        own = {name for row in kept for name in row.names}
        others = (other for group in {row.group for row in kept} for other in self.named(group) if other not in kept)
        return [
            name for other in others for name in other.names
            if name not in own and is_named(name, self.words, self.phrase)
        ]  # fmt: skip

    def rival(self, row: Row) -> str:
        """The name of a sibling that the user means instead: by a field that this row has otherwise, and not said.

        Where he speaks of all, only by what several of them share: "everyone in Platform" is nobody of Design.
        """
        for other in self.named(row.group):
            if other.fields == row.fields or (_words(row.names) - _words(other.names)) & self.words:
                continue
            mine, words = dict(row.fields), self.words - _words(row.names)
            for place, name in other.fields:
                if mine.get(place, name) == name or (place and _is_state_or_id(name)):
                    continue
                if self.is_of_all and not self._is_shared(row.group, place, name):
                    continue
                if is_named(name, words, self.phrase):
                    return "" if _whole(mine[place], self.phrase) else name
        return ""

    def _is_shared(self, group: str, place: str, name: str) -> bool:
        rows = self._rows.get(group, ())
        return sum((place, name) in row.fields for row in rows) > 1


def is_named(name: str, told: set[str] | frozenset[str], phrase: str) -> bool:
    """Whether words say a name: at least half of what is telling in it, or all of it as it stands."""
    words = telling(name)
    shared = sum(word in told for word in words)
    if shared and shared * 2 >= len(words):
        return True
    return (bool(shared) or _is_numbered(name)) and _whole(name, phrase)


def rows(result: Any, group: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every record in a result with the path of its kind; the single items of a list are records of one value."""
    if isinstance(result, dict):
        yield group, result
        for key, item in result.items():
            if isinstance(item, dict | list | tuple):
                yield from rows(item, f"{group}.{key}")
    elif isinstance(result, list | tuple):
        for item in result:
            if isinstance(item, dict | list | tuple):
                yield from rows(item, f"{group}[]")
            elif isinstance(item, str):
                yield f"{group}[]", {"": item}


def direct(row: Mapping[str, Any]) -> Iterator[str]:
    """The values that stand in a row itself, not in a record within it."""
    for item in row.values():
        if isinstance(item, list | tuple):
            yield from (str(one) for one in item if isinstance(one, str | int | float) and not isinstance(one, bool))
        elif isinstance(item, str | int | float) and not isinstance(item, bool):
            yield str(item)


def fields(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What can name a record: its short texts."""
    found = [(key, item) for key, item in row.items() if isinstance(item, str) and 3 <= len(item) <= LONGEST_NAME]
    return tuple(found[:MOST_NAMES])


def fields_beside(row: Mapping[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    """What can name the record with the id in the field `name`: its other texts, and the id where it is a word."""
    key = row[name]
    own = (("", key),) if isinstance(key, str) and not any(map(str.isdigit, key)) and len(key) <= LONGEST_NAME else ()
    return own + tuple(one for one in fields(row) if one[0] != name)


def names(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for _, name in fields(row))


def _is_numbered(name: str) -> bool:
    """Whether letters and a number are a name together: ThinkBook 16, B-RT 1204."""
    return any(map(str.isdigit, name)) and any(map(str.isalpha, name))


def _is_state_or_id(name: str) -> bool:
    """A lone small word is a state, as "pending" is; a lone word with digits is an id, and several may be meant."""
    return len(name.split()) == 1 and (_is_numbered(name) or (name.isalpha() and name.islower()))


def _whole(name: str, phrase: str) -> bool:
    return wording.is_said(_phrase(name), phrase)


@lru_cache(maxsize=8192)
def _phrase(name: str) -> str:
    return wording.phrase(wording.fold(name))


@lru_cache(maxsize=8192)
def telling(text: str) -> frozenset[str]:
    """The words that can tell a record from others."""
    return frozenset(word for word in wording.telling(text) if len(word) >= SHORTEST_WORD)


def _words(texts: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(telling(text) for text in texts))
