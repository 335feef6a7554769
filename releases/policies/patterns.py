"""Patterns that somebody else wrote: matched by RE2, whose time is linear whatever they and the text are."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re2

MEMORY = 1 << 20  # bytes of one compiled pattern


@lru_cache(maxsize=2048)
def compiled(pattern: str, *, case_sensitive: bool = False) -> re2.Pattern:
    """A pattern in bounded memory. RE2 knows no look-around and no references back.

    Raises:
        re2.error: it cannot be used.
    """
    import re2

    options = re2.Options()
    options.max_mem, options.log_errors, options.case_sensitive = MEMORY, False, case_sensitive
    return re2.compile(pattern, options)
