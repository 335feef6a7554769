"""Moving between states: one function, used with the table of moves that each app keeps."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)


class IllegalMove(Exception):
    """The table of moves has no such move. Nothing was changed."""


def move(moves: Mapping[S, frozenset[S]], before: S, after: S) -> S:
    """Return `after` when the table allows it.

    Raises:
        IllegalMove: names both states and what would be legal.
    """
    legal = moves[before]
    if after in legal:
        return after
    ways = ", ".join(sorted(legal)) or "none: this is a final state"
    raise IllegalMove(f"Cannot go from {before} to {after}. Legal moves: {ways}.")
