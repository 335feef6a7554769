"""Icons from the installed package lucide: one <symbol> per name, repeated on a page by <use>."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from xml.etree import ElementTree

import lucide
from django.utils.safestring import SafeString, mark_safe


@lru_cache(maxsize=512)
def drawing(name: str) -> SafeString:
    """The shapes of one icon, without the surrounding element.

    Raises:
        lucide.IconDoesNotExist: no icon has this name.
    """
    svg = lucide._load_icon(name)  # the package offers no public way to the shapes alone
    return mark_safe("".join(ElementTree.tostring(shape, encoding="unicode").strip() for shape in svg))


def sprite(names: Iterable[str]) -> SafeString:
    symbols = (f'<symbol id="i-{name}" viewBox="0 0 24 24">{drawing(name)}</symbol>' for name in sorted(names))
    return mark_safe("".join(symbols))
