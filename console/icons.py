"""Icons from the installed package lucide: one <symbol> per name, repeated on a page by <use>."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from xml.etree import ElementTree as ET

import lucide
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe


@lru_cache(maxsize=512)
def drawing(name: str) -> SafeString:
    """The shapes of one icon, without the surrounding element.

    Raises:
        lucide.IconDoesNotExist: no icon has this name.
    """
    svg = lucide._load_icon(name)  # noqa: SLF001  # the package offers no public way to the shapes alone
    shapes = "".join(ET.tostring(shape, encoding="unicode").strip() for shape in svg)
    return mark_safe(shapes)  # noqa: S308  # drawings of the installed package, never input


def sprite(names: Iterable[str]) -> SafeString:
    symbol = '<symbol id="i-{}" viewBox="0 0 24 24">{}</symbol>'
    return format_html_join("", symbol, ((name, drawing(name)) for name in sorted(names)))
