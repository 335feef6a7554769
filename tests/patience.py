"""How a test waits: until something is so, however long that takes; and what it says of speed: in work, not in time.

The machine may be slow, and it does much else meanwhile. A limit is there only so that a hang ends and tells where.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 240.0  # less than `faulthandler_timeout`


def until(happened: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"It did not happen within {seconds:.0f} s."
        time.sleep(0.02)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """The block makes its thread work for less than that. What other processes do beside it does not count."""
    began = time.thread_time()
    yield
    spent = time.thread_time() - began
    assert spent < seconds, f"It took {spent:.1f} s of work, and may take {seconds:g}."
