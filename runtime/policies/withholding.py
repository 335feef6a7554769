"""What secret outputs held, and whether a text that leaves has it in it as it stood there.

Values are known again however they are written; of words only runs that stand as they were: a short field whole, five
in a row of a longer text. Who says the same in other words is not noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from runtime.policies import values, wording
from runtime.policies.clauses import Key
from runtime.policies.values import Kind, Value

PLACES = (Kind.ADDRESS, Kind.LINK, Kind.ACCOUNT, Kind.IDENTIFIER)
LONGEST_RUN = 5  # words
MOST_WORDS = 20_000  # of one text that are looked at


@dataclass
class Withheld:
    """The values and runs of words that secret outputs of a run had."""

    _keys: set[Key] = field(default_factory=set)
    _runs: set[str] = field(default_factory=set)

    def take_in(self, texts: Iterable[str]) -> None:
        for text in texts:
            self._keys.update(_hot(text))
            words = wording.words(text)[:MOST_WORDS]
            if len(words) > LONGEST_RUN:
                self._runs.update(_runs(words, LONGEST_RUN))
            elif len(wording.telling(text)) > 1:
                self._runs.add(" ".join(words))

    def has(self, value: Value) -> bool:
        return (value.kind, value.norm) in self._keys

    def within(self, text: str) -> Iterator[str]:
        """The runs of words that a text has of them."""
        if self._runs:
            words = wording.words(text)[:MOST_WORDS]
            for length in range(2, LONGEST_RUN + 1):
                yield from (run for run in _runs(words, length) if run in self._runs)


def _runs(words: Sequence[str], length: int) -> Iterator[str]:
    return (" ".join(words[at : at + length]) for at in range(len(words) - length + 1))


def _hot(text: str) -> Iterator[Key]:
    for value in values.find(text):
        if value.kind in PLACES or (value.kind is Kind.AMOUNT and len(value.norm) > 3):
            yield value.kind, value.norm
