"""Template tags of the console; built in everywhere, no {% load %} needed.

Tags render small parts in templates/components/; what they say is escaped like any other variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import template
from django.forms import BoundField
from django.template.context import Context
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from console import diffs, icons, jsonview, shell, words

register = template.Library()

SPRITE = "icons on this page"


# Icons


@register.simple_tag(takes_context=True)
def icon(context: Context, name: str, classes: str = "") -> SafeString:
    """`{% icon "inbox" %}`, any name of lucide; sizes and colours as classes: `"i-s t-ok"`.

    On a full page the drawing goes once into the page's sprite; a fragment rendered alone carries it in place,
    because nobody knows which page it will land in.
    """
    drawing = icons.drawing(name)
    css = f"i {classes}".strip()
    sprite = context.get(SPRITE)
    if sprite is None:
        return format_html('<svg class="{}" viewBox="0 0 24 24" aria-hidden="true">{}</svg>', css, drawing)
    sprite.add(name)
    return format_html('<svg class="{}" aria-hidden="true"><use href="#i-{}"/></svg>', css, name)


@register.simple_tag(takes_context=True)
def icons_begin(context: Context) -> str:
    """Opens the page's sprite; base templates call it before anything else."""
    context[SPRITE] = set()
    return ""


@register.simple_tag(takes_context=True)
def icons_end(context: Context) -> SafeString:
    """The sprite with every icon the page used."""
    return format_html(
        '<svg id="icons" class="vh" width="0" height="0" aria-hidden="true" focusable="false"><defs>{}</defs></svg>',
        icons.sprite(context.get(SPRITE) or ()),
    )


# Words and figures


@register.simple_tag(takes_context=True)
def badge(context: Context, tone: str, icon_name: str, label: str, classes: str = "") -> SafeString:
    """Tones: ok warn bad info wait mute. Always an icon and a word beside the colour."""
    css = f"badge {tone} {classes}".strip()
    return format_html('<span class="{}">{}{}</span>', css, icon(context, icon_name), label)


@register.simple_tag(takes_context=True)
def when(context: Context, at: datetime | None, classes: str = "") -> SafeString:
    """A moment as the reader prefers it; exact times are in the title, `times.js` keeps it fresh."""
    if at is None:
        return format_html('<span class="faint">{}</span>', words.NOTHING)
    utc = at.astimezone(UTC)
    exact = f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    appearance = context.get("appearance") or shell.Appearance()
    shown = words.relative(at, timezone.now()) if appearance.times == "relative" else exact
    css = f"when {classes}".strip()
    return format_html('<time class="{}" datetime="{}" title="{}">{}</time>', css, utc.isoformat(), exact, shown)


@register.simple_tag
def due(at: datetime | None, near_s: int = 300) -> SafeString:
    """A deadline that counts down; marked in its last five minutes and once it is over."""
    if at is None:
        return SafeString("")
    left = (at - timezone.now()).total_seconds()
    state = "data-over" if left <= 0 else "data-near" if left < near_s else ""
    text = f"Overdue {words.span(left)}" if left <= 0 else words.span(left)
    utc = at.astimezone(UTC)
    return format_html(
        '<time class="due" data-due datetime="{}" title="Due {} UTC" {}>{}</time>',
        utc.isoformat(), f"{utc:%Y-%m-%d %H:%M:%S}", SafeString(state), text,
    )  # fmt: skip


@register.simple_tag
def duration(value: words.Duration | None) -> str:
    return words.duration(value)


@register.simple_tag
def money(usd: Decimal | float | None) -> str:
    return words.money(usd)


@register.simple_tag
def number(value: float | int | None) -> str:
    return words.number(value)


@register.simple_tag
def visible(text: object) -> SafeString:
    """Text of a customer, model or tool."""
    return format_html('<span class="untrusted">{}</span>', words.visible(text))


@register.simple_tag
def json_view(value: Any, label: str = "JSON") -> SafeString:
    # Focusable, so that the keyboard can scroll it.
    return format_html(
        '<div class="json" tabindex="0" role="region" aria-label="{}">{}</div>', label, jsonview.render(value)
    )


@register.simple_tag
def avatar(name: object, classes: str = "") -> SafeString:
    css = f"av {classes}".strip()
    return format_html('<span class="{}" aria-hidden="true">{}</span>', css, words.initials(str(name)))


@register.simple_tag(takes_context=True)
def query(context: Context, **changes: Any) -> str:
    """The current query string with changes; None or "" removes a key: `href="{% query risk="high" after=None %}"`."""
    found = context["request"].GET.copy()
    for key, value in changes.items():
        if value is None or value == "":
            found.pop(key, None)
        else:
            found[key] = str(value)
    return f"?{found.urlencode()}"


@register.simple_tag
def spark(points: Sequence[float | None], classes: str = "") -> SafeString:
    """A sparkline drawn on the server; the tile beside it says the same in words, so it is hidden from readers."""
    line = shape(points)
    if not line:
        return SafeString("")
    css = f"spark {classes}".strip()
    return format_html(
        '<svg class="{}" aria-hidden="true" viewBox="0 0 100 36" preserveAspectRatio="none">'
        '<line class="z" x1="0" x2="100" y1="35" y2="35"/>{}</svg>',
        css,
        format_html_join("", '<polyline class="l" points="{}"/>', ((part,) for part in line)),
    )


def shape(points: Sequence[float | None]) -> list[str]:
    """Polylines on a 100 by 36 ground; a gap in the data is a gap in the line."""
    known = [float(point) for point in points if point is not None]
    if len(known) < 2:
        return []
    low, high = min(known), max(known)
    step = 100 / (len(points) - 1)
    parts: list[list[str]] = [[]]
    for index, point in enumerate(points):
        if point is None:
            parts.append([])
            continue
        level = 0.5 if high == low else (float(point) - low) / (high - low)
        parts[-1].append(f"{index * step:.1f},{32 - level * 26:.1f}")
    return [" ".join(part) for part in parts if len(part) > 1]


# The shell


@register.simple_tag(takes_context=True)
def shell_nav(context: Context) -> list[tuple[str, list[shell.NavLink]]]:
    return shell.navigation(context["request"], current=str(context.get("nav") or ""))


@register.simple_tag(takes_context=True)
def shell_strips(context: Context) -> list[tuple[shell.Strip, str, SafeString]]:
    return shell.strips(context["request"])


@register.simple_tag(takes_context=True)
def may(context: Context, permission: str) -> bool:
    """`{% may "people.read" as sees_people %}`: whether this person holds it on any agent. The server checks again."""
    return shell.actor_of(context["request"]).may(permission)


# Parts with a body


def _part(context: Context, part: str, /, **values: Any) -> SafeString:
    engine = context.template.engine  # type: ignore[union-attr]  # bound while a tag runs
    with context.push(**values):
        return engine.get_template(f"components/{part}.html").render(context)


@register.simple_block_tag(takes_context=True)
def empty(context: Context, content: str, icon_name: str, title: str) -> SafeString:
    """`{% empty "inbox" "Nothing is waiting" %}What to do next.{% endempty %}`"""
    return _part(context, "empty", icon_name=icon_name, title=title, content=content)


@register.simple_block_tag(takes_context=True)
def dialog(
    context: Context,
    content: str,
    key: str,
    label: str,
    *,
    action: str,
    title: str = "",
    icon_name: str = "",
    tone: str = "",
    confirm: str = "",
    confirm_tone: str = "",
    cancel: str = "Cancel",
    phrase: str = "",
    reason: str = "required",
    target: str = "",
    is_open: bool = False,
) -> SafeString:
    """A button that asks before it posts to `action`.

    `reason`: required, optional or none. With `phrase` the button stays off until it is typed, and it is posted as
    `phrase` for the server to check. With `target` htmx replaces that element from the answer. Extra fields go in the
    body. `key` must be unique on the page. `is_open`: it asks right away, because a link led to it.
    """
    return _part(
        context, "dialog", content=content, key=key, label=label, action=action, title=title or label,
        icon_name=icon_name, tone=tone, confirm=confirm or label, confirm_tone=confirm_tone or tone or "primary",
        cancel=cancel, phrase=phrase, reason=reason, target=target, is_open=is_open,
    )  # fmt: skip


@register.simple_block_tag(takes_context=True)
def notice(context: Context, content: str, tone: str, icon_name: str, title: str = "") -> SafeString:
    """A tinted box inside a page. Tones: wait warn bad info ok."""
    return _part(context, "notice", content=content, tone=tone, icon_name=icon_name, title=title)


# Parts without a body


@register.simple_tag(takes_context=True)
def tile(
    context: Context,
    label: str,
    value: str,
    note: str = "",
    *,
    tone: str = "mute",
    icon_name: str = "minus",
    word: str = "",
    points: Sequence[float | None] = (),
    url: str = "",
) -> SafeString:
    """A figure with its target state (icon and word) and a sparkline."""
    return _part(
        context, "tile", label=label, value=value, note=note, tone=tone, icon_name=icon_name, word=word,
        points=points, url=url,
    )  # fmt: skip


@register.simple_tag
def stat(label: str, value: object, note: object = "") -> SafeString:
    return format_html(
        '<div class="stat"><p class="k">{}</p><p class="v">{}</p><p class="s">{}</p></div>', label, value, note
    )


@register.simple_tag
def meter_bar(width: str, state: str = "") -> SafeString:
    """How much of a limit is used (`width` as SVG wants it); the figures stand beside it. States: near, full, ended."""
    return format_html(
        '<svg class="meter-bar" data-state="{}" aria-hidden="true"><rect class="all" width="100%" height="4" rx="2"/>'
        '<rect class="part" width="{}" height="4" rx="2"/></svg>',
        state,
        width,
    )


@register.simple_tag(takes_context=True)
def meter(context: Context, label: str, used: str, limit: str, width: str = "", state: str = "", word: str = "") -> Any:
    """One limit and what is used of it, as an item of a list `meters`. Without a width there is no limit to fill."""
    alarm = {"near": "gauge", "full": "circle-alert", "ended": "octagon-x"}.get(state)
    return format_html(
        '<li class="meter" data-state="{}"><p class="k">{}</p><p class="s"><span class="v">{}</span>{}{}</p>{}{}</li>',
        state,
        label,
        used,
        " of " if width else ", " if used else "",
        limit,
        meter_bar(width, state) if width else "",
        format_html('<p class="word">{}{}</p>', icon(context, alarm, "i-s"), word) if alarm else "",
    )


@register.simple_tag
def kv(pairs: Iterable[tuple[str, object]], classes: str = "") -> SafeString:
    css = f"kv {classes}".strip()
    rows = format_html_join("", "<dt>{}</dt><dd>{}</dd>", pairs)
    return format_html('<dl class="{}">{}</dl>', css, rows)


@register.simple_tag(takes_context=True)
def diff(context: Context, before: Any, after: Any, label: str = "Difference") -> SafeString:
    return _part(context, "diff", lines=diffs.lines(before, after), label=label)


@register.simple_tag(takes_context=True)
def pager(context: Context, page: Any, note: str = "") -> SafeString:
    """Newer / Older for a `paging.Page`, keeping every filter of the URL."""
    newer = query(context, after=page.newer, before=None) if page.newer else ""
    older = query(context, before=page.older, after=None) if page.older else ""
    return _part(context, "pager", newer=newer, older=older, note=note)


@register.simple_tag(takes_context=True)
def field(context: Context, bound: BoundField, hint: str = "", icon_name: str = "") -> SafeString:
    """A form field with label, hint and error, wired together for screen readers."""
    described = " ".join(
        f"{bound.id_for_label}-{part}" for part, is_there in
        (("hint", hint or bound.help_text), ("error", bound.errors)) if is_there
    )  # fmt: skip
    attrs: dict[str, str | bool] = {"aria-describedby": described} if described else {}
    if bound.errors:
        attrs["aria-invalid"] = "true"
    return _part(
        context, "field", bound=bound, control=bound.as_widget(attrs=attrs), hint=hint or bound.help_text,
        icon_name=icon_name, kind=getattr(bound.field.widget, "input_type", "") or "text",
    )  # fmt: skip


@register.simple_tag(takes_context=True)
def pick(
    context: Context, name: str, label: str, options: Iterable[tuple[str, str]], *, many: bool = True
) -> SafeString:
    """A filter chip that opens a list of choices; part of a GET form. `options` are (value, label)."""
    chosen = [value for value in context["request"].GET.getlist(name) if value]
    marked = [(value, text, value in chosen) for value, text in options]
    words_chosen = ", ".join(text for _, text, is_on in marked if is_on)
    return _part(
        context, "pick", name=name, label=label, options=marked, chosen=words_chosen,
        kind="checkbox" if many else "radio",
    )  # fmt: skip
