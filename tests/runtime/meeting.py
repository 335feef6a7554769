"""Callers who meet: each on a database connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connection


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What `count` callers get who start together, each on a connection of its own."""
    barrier, answers = threading.Barrier(count), [None] * count

    def go(place: int) -> None:
        barrier.wait()
        try:
            answers[place] = act(place)
        except Exception as said:
            answers[place] = said
        finally:
            connection.close()

    callers = [threading.Thread(target=go, args=(place,)) for place in range(count)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return answers
