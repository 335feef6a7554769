"""Whether a run goes round in circles: the same few calls, in the same order, again and again.

Calls are compared by likeness: the same tool with arguments that differ only in case, spaces or punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_ROUND = 4  # calls
MOST_REMEMBERED = 400  # calls: the longest round, as often as any budget allows it

_NOISE = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Loop:
    """`calls` calls in a row were made `times` times, and the next one would begin another round."""

    calls: int
    times: int

    @property
    def sentence(self) -> str:
        if self.calls == 1:
            return f"The same call was made {self.times} times in a row already"
        return f"The same {self.calls} calls were made {self.times} times in a row already"


def decide_loop(made: Sequence[str], proposed: str, *, most: int) -> Loop | None:
    """Say whether `proposed` begins another round after `most` equal ones. `made` are the calls before it, in order."""
    for length in range(1, LONGEST_ROUND + 1):
        if len(made) < length * most or made[-length] != proposed:
            continue
        times = rounds(made, length)
        if times >= most:
            return Loop(length, times)
    return None


def rounds(made: Sequence[str], length: int) -> int:
    """How often the last `length` calls stand at the end of `made`, one time after the other."""
    last, count = list(made[-length:]), 0
    while len(made) >= length * (count + 1):
        start = len(made) - length * (count + 1)
        if list(made[start : start + length]) != last:
            break
        count += 1
    return count


def alike(value: Any) -> Any:
    """The value without what a model varies while it repeats itself; numbers and identifiers stay what they are."""
    if isinstance(value, str):
        is_text = any(character.isalpha() for character in value)
        return _NOISE.sub(" ", value.casefold()).strip() if is_text else value
    if isinstance(value, Mapping):
        return {str(key): alike(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [alike(part) for part in value]
    return value
