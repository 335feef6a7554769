"""Whether this process was asked to stop: for answers that would otherwise go on for ever."""

from __future__ import annotations

import threading

_asked = threading.Event()


def begin() -> None:
    _asked.set()


def is_asked() -> bool:
    return _asked.is_set()
