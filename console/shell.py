"""The frame of every page: navigation, banners, search, appearance.

Apps fill it in `apps.ready()`; this app never imports them.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.urls import NoReverseMatch, resolve, reverse
from django.utils.safestring import SafeString, mark_safe

from console import problems
from console.actors import ANONYMOUS, Actor

log = logging.getLogger(__name__)
T = TypeVar("T")

GROUPS = ("Work", "Observe", "Ship", "Control", "Try")


@dataclass(frozen=True)
class NavItem:
    """One line of the sidebar. `letter` goes there after `g`; `permission` hides it from those who lack it.

    `count_url_name` names a fragment that renders `<span class="count">3</span>` or nothing;
    it is asked again whenever `count_topic` is announced.
    """

    key: str
    label: str
    url_name: str
    icon: str
    permission: str = ""
    count_url_name: str = ""
    count_topic: str = ""
    letter: str = ""
    order: int = 50


@dataclass(frozen=True)
class Strip:
    """A banner on every page, rendered by a fragment URL that answers with nothing when all is well.

    `permission` keeps it off the pages of those who lack it: asked for again, it would only be refused.
    """

    url_name: str
    topic: str
    permission: str = ""


@dataclass(frozen=True)
class Found:
    """One result of the palette. `kind` is the word on its right: Run, Approval, Page."""

    label: str
    kind: str
    url: str
    icon: str = "arrow-right"


Search = Callable[[Actor, str], Iterable[Found]]


@dataclass
class _Registry:
    items: dict[str, list[NavItem]] = field(default_factory=lambda: {group: [] for group in GROUPS})
    strips: list[Strip] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)


_known = _Registry()


def register(group: str, item: NavItem) -> None:
    """Put a line into one of GROUPS; a key registered twice replaces the first."""
    rest = [other for other in _known.items[group] if other.key != item.key]
    _known.items[group] = sorted([*rest, item], key=lambda known: known.order)


def strip(url_name: str, topic: str, permission: str = "") -> None:
    added = Strip(url_name, topic, permission)
    if added not in _known.strips:
        _known.strips.append(added)


def register_search(search: Search) -> None:
    """Add a provider for the palette: (actor, text) -> a few results the actor may see."""
    if search not in _known.searches:
        _known.searches.append(search)


@dataclass(frozen=True)
class NavLink:
    item: NavItem
    url: str
    is_current: bool
    count: SafeString
    count_url: str


def navigation(request: HttpRequest, *, current: str = "") -> list[tuple[str, list[NavLink]]]:
    """The groups this person may see. `current` is an item's key; without it the longest matching path wins."""
    actor = actor_of(request)
    shown = [(group, item, _url(item.url_name)) for group, items in _known.items.items() for item in items]
    shown = [(group, item, url) for group, item, url in shown if url and _may_see(actor, item)]
    if not current:
        matches = [(len(url), item.key) for _, item, url in shown if request.path.startswith(url)]
        current = max(matches, default=(0, ""))[1]
    links: dict[str, list[NavLink]] = {group: [] for group in GROUPS}
    for group, item, url in shown:
        count = fragment(request, item.count_url_name) if item.count_url_name else SafeString("")
        count_url = _url(item.count_url_name) if item.count_url_name else ""
        links[group].append(NavLink(item, url, item.key == current, count, count_url))
    return [(group, found) for group, found in links.items() if found]


def strips(request: HttpRequest) -> list[tuple[Strip, str, SafeString]]:
    """Each banner this person may see, with its URL and what it says now."""
    actor = actor_of(request)
    seen = [one for one in _known.strips if _may_see(actor, one)]
    return [(one, _url(one.url_name), fragment(request, one.url_name)) for one in seen]


def find(actor: Actor, text: str) -> list[Found]:
    """Pages and objects that match; a provider that fails costs its own results only."""
    wanted = text.strip().lower()
    results = [found for found in _pages(actor) if wanted in found.label.lower()]
    for search in _known.searches:
        try:
            results += list(search(actor, text.strip()))[:8]
        except Exception:
            log.exception("A search of the palette failed")
    return results


def _pages(actor: Actor) -> list[Found]:
    items = [item for group in _known.items.values() for item in group if _may_see(actor, item)]
    pages = [Found(item.label, "Page", _url(item.url_name), item.icon) for item in items]
    pages.append(Found("Appearance and keys", "Page", reverse("console:appearance"), "settings"))
    pages.append(Found("API tokens", "Page", reverse("console:token-list"), "key-round"))
    if actor.may("people.read"):
        pages.append(Found("People", "Page", reverse("console:person-list"), "users"))
    return [page for page in pages if page.url]


def _may_see(actor: Actor, item: NavItem | Strip) -> bool:
    return not item.permission or actor.may(item.permission)


def _url(url_name: str) -> str:
    try:
        return reverse(url_name)
    except NoReverseMatch:
        log.error("The shell points to %r, which no urls.py defines", url_name)
        return ""


_SHARED = "shared_by_fragments"


def once(request: HttpRequest, key: str, make: Callable[[], T]) -> T:
    """What several fragments of one page show, made for the first of them. A fragment asked for alone makes its own."""
    known: dict[str, Any] = request.__dict__.setdefault(_SHARED, {})
    if key not in known:
        known[key] = make()
    found: T = known[key]
    return found


def fragment(request: HttpRequest, url_name: str) -> SafeString:
    """What a fragment URL answers for this person, rendered in place.

    So a banner is on the page from its first paint and without script. A fragment that fails is left out:
    a page about stopping agents must open when a counter cannot be computed.
    """
    url = _url(url_name)
    if not url:
        return SafeString("")
    request.__dict__.setdefault(_SHARED, {})
    inner = copy.copy(request)
    inner.method, inner.path, inner.path_info, inner.GET = "GET", url, url, QueryDict()
    try:
        match = resolve(url)
        answer = match.func(inner, *match.args, **match.kwargs)
    except (problems.Problem, Http404):  # not open to this person
        return SafeString("")
    except Exception:
        log.exception("The fragment %s failed and was left out", url_name)
        return SafeString("")
    if not isinstance(answer, HttpResponse) or answer.status_code != 200:
        return SafeString("")
    return mark_safe(answer.content.decode())  # noqa: S308  # rendered by one of our own views


@dataclass(frozen=True)
class Appearance:
    """How this browser wants pages: kept in cookies, so that the sign-in page has them too."""

    theme: str = "system"
    keys: str = "on"
    times: str = "relative"

    @classmethod
    def of(cls, request: HttpRequest) -> Appearance:
        chosen = {name: request.COOKIES.get(name, "") for name in APPEARANCE}
        return cls(**{name: value for name, value in chosen.items() if value in APPEARANCE[name]})


APPEARANCE = {
    "theme": ("system", "light", "dark"),
    "keys": ("on", "off"),
    "times": ("relative", "local", "utc"),
}


def actor_of(request: HttpRequest) -> Actor:
    return getattr(request, "actor", ANONYMOUS)


def context(request: HttpRequest) -> dict[str, Any]:
    return {
        "actor": actor_of(request),
        "appearance": Appearance.of(request),
        "environment": settings.ENVIRONMENT_LABEL,
    }
