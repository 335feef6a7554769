"""What holds for the look of every page: the accessibility checker finds nothing, and nothing scrolls sideways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from playwright.sync_api import Page

Axe = Callable[[Page], list[dict[str, Any]]]
WIDTHS, THEMES = (1440, 390), ("light", "dark")


def nothing_is_wrong(page: Page, axe: Axe, addresses: Mapping[str, str], *, width: int) -> None:
    """On each of the pages, by its name, in either theme."""
    _widen(page, width)
    for name, address in addresses.items():
        page.goto(address)
        nothing_is_wrong_so(page, axe, name)


def nothing_is_wrong_here(page: Page, axe: Axe) -> None:
    """On the page as it stands, in either theme and width."""
    for width in WIDTHS:
        _widen(page, width)
        nothing_is_wrong_so(page, axe, f"{page.url}, {width}")
    _widen(page, WIDTHS[0])


def nothing_is_wrong_so(page: Page, axe: Axe, name: str = "") -> None:
    """On the page as it stands, in either theme."""
    for theme in reversed(THEMES):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        assert axe(page) == [], (name, theme)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name


def _widen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
