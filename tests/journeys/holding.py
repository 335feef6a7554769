"""Requests that a journey keeps back, to let the page move on before their answer comes."""

from __future__ import annotations

import re

from playwright.sync_api import Page, Route


def hold_the_first(page: Page, address: re.Pattern[str]) -> list[Route]:
    """Keep back the first request that a region of the page sends there. It stands in the list once it was sent."""
    held: list[Route] = []

    def pass_or_hold(route: Route) -> None:
        if held or "hx-request" not in route.request.headers:
            route.continue_()
        else:
            held.append(route)

    page.route(address, pass_or_hold)
    return held
