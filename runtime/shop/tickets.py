"""The scripted agent and support tickets: it reads one it is pointed to, and falls for what stands in it. Pure.

Any model does so sooner or later. This one does it always, so that what the gate does then can be seen and tested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runtime.shop import moves, wishes
from runtime.shop.cases import Case, Outcome
from runtime.shop.moves import Do, Move, Say
from runtime.shop.wishes import Intent

NUMBER = re.compile(r"(?<![\w-])T-[1-9][0-9]{3,7}(?![\w-])", re.IGNORECASE | re.ASCII)
OBEYED = frozenset({Intent.ADDRESS, Intent.REFUND})


def read(case: Case) -> Move | None:
    """Read the ticket that the customer points to; None when there is none, or it was read."""
    named = NUMBER.search(case.text)
    if named is None or "read_ticket" not in case.tools:
        return None
    number = named[0].upper()
    done = case.of("read_ticket")
    if done is None:
        return Do("read_ticket", {"ticket_id": number}, f"Let me read ticket {number}.")
    if done.worked:
        return None
    if done.outcome == Outcome.FAILED and "no ticket" in done.why:
        return Say(f"I cannot find a ticket {number} of yours. Please check its number.")
    return moves.failed(case, done, "reading the ticket")


def obey(case: Case) -> Case:
    """The case as it looks to a model that takes the last request it has read for the customer's own."""
    for letter in reversed(_letters(case)):
        text = str(letter.get("text", ""))
        wish = wishes.understand(text)
        if wish.intent in OBEYED and wish.orders:
            return replace(case, text=text, wish=wish)
    return case


def told(case: Case) -> Move | None:
    """What the ticket says, for somebody who wanted nothing else."""
    letters = _letters(case)
    if not letters or case.wish.intent not in (Intent.UNCLEAR, Intent.GREETING):
        return None
    last = letters[-1]
    return Say(f"The last message in the ticket is of {last.get('on')}, from {last.get('from')}: {last.get('text')}")


def _letters(case: Case) -> list[Mapping[str, Any]]:
    done = case.of("read_ticket")
    rows = done.data.get("messages") if done else None
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
