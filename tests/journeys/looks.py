"""What holds for the look of every page: the accessibility checker finds nothing, and nothing scrolls sideways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from playwright.sync_api import Page

Axe = Callable[[Page], list[dict[str, Any]]]
WIDTHS, THEMES = (1440, 390), ("light", "dark")


def nothing_is_wrong(page: Page, axe: Axe, addresses: Mapping[str, str], *, theme: str, width: int) -> None:
    """On each of the pages, by its name."""
    _show(page, theme, width)
    for name, address in addresses.items():
        page.goto(address)
        _is_sound(page, axe, name)


def nothing_is_wrong_here(page: Page, axe: Axe) -> None:
    """On the page as it stands, in either theme and width."""
    for width in WIDTHS:
        for theme in THEMES:
            _show(page, theme, width)
            _is_sound(page, axe, f"{page.url}, {theme}, {width}")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.emulate_media(color_scheme="light")


def _show(page: Page, theme: str, width: int) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})


def _is_sound(page: Page, axe: Axe, name: str) -> None:
    assert axe(page) == [], name
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
