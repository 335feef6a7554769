"""The last moment before an unsafe call: whether it was begun is certain, whatever went wrong around it.

Whoever makes the call crosses its threshold first, in whatever thread. Whoever gives it up closes the threshold: then
either it was crossed, and the call may have happened, or it never will be.
"""

from __future__ import annotations

import threading
from uuid import UUID

from releases.bundles import ToolManifest


class Closed(Exception):
    """The call was given up before it was begun. It is not made."""


class NotMade(Exception):
    """An unsafe call whose intent is committed, or may be, has certainly not been made, and this turn makes it no more.

    The database went away in between. `step_id` is the intent's.
    """

    def __init__(self, step_id: UUID) -> None:
        super().__init__("the database went away before the call")
        self.step_id = step_id


class Threshold:
    """Crossed at most once, by a call that is not made without it."""

    def __init__(self, *, is_crossed: bool = False) -> None:
        self._lock = threading.Lock()
        self._is_crossed = is_crossed
        self._is_closed = False

    def cross(self) -> None:
        """Begin the call.

        Raises:
            Closed: it was given up.
        """
        with self._lock:
            if self._is_closed:
                raise Closed
            self._is_crossed = True

    def close(self) -> bool:
        """Give the call up. True: it was not begun, and never will be."""
        with self._lock:
            self._is_closed = True
            return not self._is_crossed


def of_first(manifest: ToolManifest) -> Threshold:
    """That of a call whose intent this turn has just committed.

    Only an unsafe one is watched: any other is made again without asking, and an earlier attempt of it, with the same
    key, may have happened.
    """
    return Threshold(is_crossed=manifest.retry != "unsafe")


def of_repeated() -> Threshold:
    """That of a call whose intent somebody else has committed, who may have made it."""
    return Threshold(is_crossed=True)
