"""Values in texts, by kind: addresses, links, account numbers, dates, times, amounts, identifiers.

Provenance compares values, never pieces of text: `mark@x.org` is not in `denmark@x.org`, the 13 of "June 13" is no
file 13, and an address with a letter of another alphabet is another address. Every value is a whole token of its
kind, normalised so that the ways people write the same thing compare equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Any

LONGEST_TEXT = 200_000  # characters of one text that are looked at


class Kind(StrEnum):
    ADDRESS = "address"  # of e-mail
    LINK = "link"
    ACCOUNT = "account"  # IBAN, card, telephone: long numbers that somebody is reached or paid by
    DATE = "date"
    TIME = "time"
    AMOUNT = "amount"
    IDENTIFIER = "identifier"  # letters and digits in one token, or a file's name
    NAME = "name"  # anything else


@dataclass(frozen=True)
class Value:
    """One value. `norm` compares equal for every way to write it; `text` is how it was written."""

    kind: Kind
    norm: str
    text: str


_MONTHS = {
    name: number
    for number, names in enumerate(
        ("january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
         "september sep sept", "october oct", "november nov", "december dec"),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_MONTH = "(?:" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
# In this order: what one expression has taken is not looked at by the next.
_SHAPES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.LINK, re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s<>\"'`]{1,2000}", re.I)),
    (Kind.ADDRESS, re.compile(r"[\w.+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")),
    (Kind.LINK, re.compile(r"\b(?:www\.)[^\s<>\"'`]{1,2000}", re.I)),
    (Kind.LINK, re.compile(r"\b(?:[\w-]{1,63}\.){1,8}[a-z]{2,24}/[^\s<>\"'`]{0,2000}", re.I)),
    (Kind.DATE, re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})(?=\b|T|_)")),
    (Kind.DATE, re.compile(rf"\b(?P<n>{_MONTH})\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<y>\d{{4}})\b)?", re.I)),
    (
        Kind.DATE,
        re.compile(rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<n>{_MONTH})(?:,?\s+(?P<y>\d{{4}})\b)?", re.I),
    ),
    (Kind.TIME, re.compile(r"(?<![\d:])(?P<h>\d{1,2}):(?P<min>\d{2})(?::\d{2})?\s*(?P<half>[ap]\.?m\b\.?)?", re.I)),
    (Kind.TIME, re.compile(r"(?<![\d:])(?P<h>\d{1,2})\s*(?P<half>[ap]\.?m\b\.?)", re.I)),
    (Kind.ACCOUNT, re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")),
    (Kind.ACCOUNT, re.compile(r"(?<![\w.])\+?\d(?:[ ().-]?\d){7,30}(?![\w])")),
    (Kind.IDENTIFIER, re.compile(r"\b[\w-]{1,120}(?:\.[\w-]{1,60}){0,6}\.[a-z][a-z0-9]{0,7}\b", re.I)),
    (Kind.IDENTIFIER, re.compile(r"(?<![\w-])#?(?=[\w-]*[A-Za-z])(?=[\w-]*\d)[\w-]{2,120}(?![\w-])")),
    (Kind.AMOUNT, re.compile(r"(?<![\w.,])-?(?:\d{1,3}(?:,\d{3})+|\d{1,12})(?:\.\d{1,8})?(?!\w)")),
)  # fmt: skip
_CURRENCY = re.compile(r"[$€£¥]\s*(?=\d)|(?<=\d)\s*(?:[$€£¥]|(?:usd|eur|gbp|chf|dollars?|euros?|pounds?)\b)", re.I)
_COUNTED = re.compile(
    r"\s*(?:-|st\b|nd\b|rd\b|th\b|%|days?\b|weeks?\b|months?\b|years?\b|hours?\b|minutes?\b|people\b|persons?\b"
    r"|nights?\b|times\b|items?\b|files?\b|e?mails?\b|messages?\b|events?\b)",
    re.I,
)
_CALLED = re.compile(
    r"(?<![\w-])(?P<noun>[^\W\d_]{2,40})(?:\s+(?:number|no|nr|id)\b\.?)?\s?[:#]?\s?#?(?P<number>\d{1,12})(?![\w-]|[.,:/]\d)",
    re.I,
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_GLUED = re.compile(r"((?:https?://)?[a-z0-9-]+(?:\.[a-z0-9-]+)+)\.[A-Z][a-z]*")
_EDGE = ".,;:!?)]}>\"'’”"
COMMON = frozenset((
    "a", "about", "above", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been",
    "before", "but", "by", "can", "could", "did", "do", "does", "done", "for", "from", "get", "give", "go", "had",
    "has", "have", "he", "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its",
    "just", "let", "like", "make", "me", "more", "my", "new", "no", "not", "now", "of", "on", "one", "only", "or",
    "our", "out", "over", "please", "put", "s", "send", "set", "she", "should", "so", "some", "t", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "to", "up", "us", "use", "want", "was", "we",
    "were", "what", "when", "where", "which", "who", "will", "with", "would", "you", "your", "yes",
))  # fmt: skip


def find(text: str) -> tuple[Value, ...]:
    """Every value in a text, each of one kind, in no particular order."""
    return _find(text[:LONGEST_TEXT]) if len(text) <= 2_000 else tuple(_scan(text[:LONGEST_TEXT]))


@lru_cache(maxsize=4096)
def _find(text: str) -> tuple[Value, ...]:
    return tuple(_scan(text))


def _scan(text: str) -> Iterator[Value]:
    """Look for one kind after the other; what was taken is blanked, so that nothing is two things."""
    text = unicodedata.normalize("NFC", text)
    for kind, shape in _SHAPES:
        taken = []
        for match in shape.finditer(text):
            value = _value(kind, match, text)
            if value is not None:
                yield value
                taken.append(match.span())
        for start, end in taken:
            text = f"{text[:start]}{' ' * (end - start)}{text[end:]}"


def _value(kind: Kind, match: re.Match[str], text: str) -> Value | None:
    raw = match[0]
    if kind is Kind.DATE:
        return _date(match)
    if kind is Kind.TIME:
        return _time(match)
    if kind is Kind.LINK:
        raw = raw.rstrip(_EDGE)
        return Value(kind, link(raw), raw)
    if kind is Kind.ADDRESS:
        raw = raw.strip(".'")
        return Value(kind, raw.casefold(), raw)
    if kind is Kind.ACCOUNT:
        return Value(kind, account(raw), raw)
    if kind is Kind.AMOUNT:
        return _amount(match, text)
    return Value(kind, raw.lstrip("#").casefold(), raw)


def called(text: str) -> frozenset[tuple[str, str]]:
    """The things that a text calls by a number: `("order", "10471")` for "order no. 10471" and "Order #10471"."""
    found = _CALLED.finditer(text[:LONGEST_TEXT])
    return frozenset((match["noun"].casefold(), match["number"]) for match in found)


def link(text: str) -> str:
    """A link without what does not change where it leads: scheme http(s), case of the host, a last slash."""
    bare = re.sub(r"^https?://", "", text.strip(), flags=re.I)
    host, slash, rest = bare.partition("/")
    return (host.casefold() + slash + rest).rstrip("/")


def before_a_sentence(value: Value) -> tuple[Value, ...]:
    """The link that somebody wrote whose next sentence follows without a blank, as in `www.example.org.They`.

    Only for what people say of their own accord: elsewhere `.They` is part of where a link leads.
    """
    found = _GLUED.fullmatch(value.text) if value.kind is Kind.LINK else None
    return (Value(Kind.LINK, link(found[1]), found[1]),) if found else ()


def account(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text).upper()


def _date(match: re.Match[str]) -> Value | None:
    parts = match.groupdict()
    month = int(parts["m"]) if parts.get("m") else _MONTHS[parts["n"].rstrip(".").lower()]
    day = int(parts["d"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return Value(Kind.DATE, f"{parts.get('y') or '????'}-{month:02d}-{day:02d}", match[0])


def _time(match: re.Match[str]) -> Value | None:
    hour, minute = int(match["h"]), int(match.groupdict().get("min") or 0)
    half = (match["half"] or "").lower().replace(".", "")
    if half:
        hour = hour % 12 + (12 if half == "pm" else 0)
    if hour > 24 or minute > 59:
        return None
    return Value(Kind.TIME, f"{hour % 24:02d}:{minute:02d}", match[0].strip())


def _amount(match: re.Match[str], text: str) -> Value | None:
    """A number, unless it counts things. With a currency beside it, it is an amount whatever follows."""
    norm = number(match[0])
    if norm is None:
        return None
    before, after = text[max(0, match.start() - 4) : match.end()], text[match.start() : match.end() + 10]
    has_currency = bool(_CURRENCY.search(before) or _CURRENCY.match(text, match.end()) or _CURRENCY.search(after))
    if not has_currency and _COUNTED.match(text, match.end()):
        return None
    return Value(Kind.AMOUNT, norm, match[0])


def number(value: Any) -> str | None:
    """The canonical form of a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        found = Decimal(str(value).replace(",", "").strip())
    except InvalidOperation:
        return None
    return f"{found.normalize():f}" if found.is_finite() else None


def of(value: Any) -> tuple[Value, ...]:
    """What one argument is: the values it consists of, or a name when it is nothing more precise.

    A text with a value and words beside it is a name: nobody is reached by "please write to a@b.org".
    """
    if isinstance(value, bool) or value is None:
        return ()
    if isinstance(value, int | float | Decimal):
        norm = number(value)
        return (Value(Kind.AMOUNT, norm, str(value)),) if norm is not None else ()
    text = unicodedata.normalize("NFC", str(value)).strip()
    if not text:
        return ()
    found = find(text)
    if found and sum(len(each.text) for each in found) >= len(re.sub(r"[\sT,]+", "", text)):
        return found
    if "@" in text and " " not in text:
        return (Value(Kind.ADDRESS, text.casefold(), text),)
    if "." in text.strip(".") and " " not in text:
        return (Value(Kind.LINK, link(text), text),)
    return (Value(Kind.NAME, phrase(text), text),)


def same(left: Value, right: Value) -> bool:
    """Whether two values mean the same. A date without a year means that day of any year."""
    if left.kind != right.kind:
        return {left.kind, right.kind} == {Kind.AMOUNT, Kind.ACCOUNT} and left.norm == right.norm
    if left.kind is Kind.DATE:
        return left.norm[5:] == right.norm[5:] and (
            "????" in (left.norm[:4], right.norm[:4]) or left.norm == right.norm
        )
    return left.norm == right.norm


def words(text: str) -> list[str]:
    """The words of a text, folded."""
    return [word.casefold().replace("’", "'").removesuffix("'s") for word in _WORD.findall(text)]


def telling(text: str) -> list[str]:
    """Its words without those that every text has, and without bare numbers."""
    return [word for word in words(text) if word not in COMMON and not word.isdigit()]


def phrase(text: str) -> str:
    return " ".join(words(text))


def is_said(wanted: str, told: str) -> bool:
    """Whether the words `wanted` (a `phrase`) stand together, whole, in the phrase `told`."""
    return bool(wanted) and f" {wanted} " in f" {told} "


def scalars(value: Any) -> Iterator[str]:
    """Every text and number within a JSON value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from scalars(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from scalars(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def flat(value: Any) -> Iterable[Any]:
    """The single values of an argument: items of a list, values of an object, or the value itself."""
    if isinstance(value, list | tuple):
        return [item for each in value for item in flat(each)]
    if isinstance(value, dict):
        return [item for each in value.values() for item in flat(each)]
    return [value]
