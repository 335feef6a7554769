"""Values in texts, by kind: addresses, links, account numbers, dates, times, amounts, identifiers.

Provenance compares values, never pieces of text: `mark@x.org` is not in `denmark@x.org`, the 13 of "June 13" is no
file 13, and an address with a letter of another alphabet is another address. Every value is a whole token of its
kind, normalised so that the ways people write the same thing compare equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from typing import Any

from runtime.policies import wording

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
    is_money: bool = field(default=False, compare=False)  # an amount with a currency beside it


_MONTHS = {
    name: number
    for number, names in enumerate(
        ("january jan januar januari janvier enero gennaio janeiro",
         "february feb februar februari février febrero febbraio fevereiro",
         "march mar märz maart mars marzo março",
         "april apr avril abril aprile",
         "may mai mei mayo maggio maio",
         "june jun juni juin junio giugno junho",
         "july jul juli juillet julio luglio julho",
         "august aug augustus août agosto",
         "september sep sept septembre septiembre settembre setembro",
         "october oct oktober octobre octubre ottobre outubro",
         "november nov novembre noviembre novembro",
         "december dec dezember décembre diciembre dicembre dezembro"),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
MONTH = "(?:" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
_ENGLISH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_GROUPS = r"\d{1,3}(?:\.\d{3}){2,}(?:,\d{1,2})?|\d{1,3}\.\d{3},\d{1,2}"  # 1.250.000 and 1.250,50
_NUMBER = (
    rf"(?:{_GROUPS}|\d{{1,3}}(?:[ \u00a0\u202f]\d{{3}})+,\d{{1,2}}|\d{{1,3}}(?:['’]\d{{3}})+(?:\.\d{{1,2}})?"
    r"|\d{1,3}(?:,\d{3})+(?:\.\d{1,8})?|\d{1,12},\d{1,2}(?!\d)|\d{1,12}(?:\.\d{1,8})?)"
)
_BETWEEN = r"[ ().\u00a0\u202f\u2010-\u2015-]"  # what people put between the digits of an account or a telephone
# In this order: what one expression has taken is not looked at by the next. Where the text between is missing, there is
# nothing to look for.
_SHAPES: tuple[tuple[Kind, str, re.Pattern[str]], ...] = (
    (Kind.LINK, "://", re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s<>\"'`]{1,2000}", re.I)),
    (Kind.ADDRESS, "@", re.compile(r"[\w.+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")),
    (Kind.LINK, ".", re.compile(r"\b(?:www\.)[^\s<>\"'`]{1,2000}", re.I)),
    (Kind.LINK, "/", re.compile(r"\b(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?::\d{1,5})?/[^\s<>\"'`]{0,2000}", re.I)),
    (Kind.LINK, ".", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?:/[^\s<>\"'`]{0,2000})?(?![\w.])")),
    (Kind.DATE, "-", re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})(?=\b|T|_)")),
    (Kind.DATE, ".", re.compile(r"(?<![\d.])(?P<d>\d{1,2})\.[ ]?(?P<m>\d{1,2})\.[ ]?(?P<y>\d{4})\b")),
    (Kind.DATE, "/", re.compile(r"(?<![\d/])(?P<left>\d{1,2})/(?P<right>\d{1,2})/(?P<y>\d{4})\b")),
    (
        Kind.DATE, "",
        re.compile(rf"\b(?P<n>{_ENGLISH})\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<y>\d{{4}})\b)?", re.I),
    ),
    (
        Kind.DATE, "",
        re.compile(
            rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th|er|\.)?\s+(?:(?:of|de)\s+)?(?P<n>{MONTH})"
            r"(?:,?\s+(?:de\s+)?(?P<y>\d{4})\b)?",
            re.I,
        ),
    ),
    (
        Kind.TIME, ":",
        re.compile(
            r"(?<![\d:])(?P<h>\d{1,2}):(?P<min>\d{2})(?::\d{2})?\s*(?:(?P<half>[ap]\.?m\b\.?)|Uhr\b)?", re.I
        ),
    ),
    (
        Kind.TIME,
        "",
        re.compile(
            r"(?<![\d:])(?<![^\W\d]-)(?P<h>\d{1,2})\s*(?:(?P<half>[ap]\.?m\b\.?)|Uhr\b|h(?P<min>\d{2})\b)", re.I
        ),
    ),
    (Kind.ACCOUNT, "", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")),
    (Kind.ACCOUNT, "-", re.compile(r"\b[A-Z]{2}\d{2}(?:-[A-Z0-9]{4}){3,7}(?:-[A-Z0-9]{1,4})?\b(?!-)")),
    (
        Kind.ACCOUNT, "",
        re.compile(
            r"\b(?:[a-z]{2}\d{2}(?=(?:[a-z]*\d){8})[a-z0-9]{11,30}|0x[0-9a-f]{40}|bc1[a-z0-9]{25,60})\b", re.I
        ),
    ),
    (
        Kind.ACCOUNT, "",
        re.compile(
            rf"(?<![\w.])(?!\d+\.\d{{1,2}}(?![\d.]))(?!(?:{_GROUPS})(?![\w.]))"
            rf"\+?\d(?:{_BETWEEN}?\d){{7,30}}(?![\w])"
        ),
    ),
    (
        Kind.IDENTIFIER, "/",  # a file with its folders is one: the main.py of src/main.py is another
        re.compile(r"(?<![\w/.~:@-])(?:~|\.{1,2})?/?(?:[\w.@~-]{1,80}/){1,12}[\w-]{1,120}(?:\.[\w-]{1,60}){0,4}\.[^\W\d_][^\W_]{0,9}\b"),
    ),
    (Kind.IDENTIFIER, ".", re.compile(r"\bv?(?!\d{1,3}(?:\.\d{3}){2})\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w.]{,80}\d)", re.I)),
    (Kind.IDENTIFIER, ".", re.compile(r"\b[\w-]{1,120}(?:\.[\w-]{1,60}){0,6}\.[^\W\d_][^\W_]{0,23}\b", re.I)),
    (Kind.IDENTIFIER, "", re.compile(r"(?<![\w-])#?(?=[\w-]*[A-Za-z])(?=[\w-]*\d)[\w-]{2,120}(?![\w-])")),
    (Kind.AMOUNT, "", re.compile(rf"(?<![\w.,])-?{_NUMBER}(?!\w)")),
)  # fmt: skip
_CODE = re.compile(r"0\d+")  # 0412 is a code, not the number 412
_PLAIN_NUMBER = re.compile(rf"-?{_NUMBER}")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:\.0{1,6})?Z?")  # as programs write a time
_MAILBOX = re.compile(r'(?:"?[^"<>@,;\r\n]{0,80}"?\s*)?<([^<>\s@,;]+@[^<>\s@,;]+)>')  # Ann Lee <ann@x.org>
_FILE = re.compile(
    r"pdf|txt|md|[ct]sv|json|xml|ya?ml|docx?|xlsx?|pptx?|od[tsp]|rtf|png|jpe?g|gif|svg|webp|heic|bmp|tiff?|psd|eps|mp[34]"
    r"|mov|avi|wav|zip|gz|tar|tgz|rar|py|ipynb|[jt]sx?|java|go|rs|rb|php|cpp|cs|sh|bat|sql|html?|css|log|ini|cfg|conf"
    r"|toml|lock|env|ics|eml|msg|pages|numbers|dat|db|parquet|tex|bib|bak|tmp|exe|iso"
)
_DOMAIN = re.compile(r"com|net|org|io|co|info|biz|app|dev|example|ru|cn|de|uk|fr|eu|me|xyz|top|site|online|shop")
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
_NUMBERED = re.compile(r"(?:#|\b(?:no|nr|number|id)\b\.?:?)\s?#?(\d{1,12})(?![\w-]|[.,:/]\d)", re.I)
_GLUED = re.compile(r"((?:https?://)?[a-z0-9-]+(?:\.[a-z0-9-]+)+)\.[A-Z][a-z]*")
_EDGE = ".,;:!?)]}>\"'’”"


def find(text: str) -> tuple[Value, ...]:
    """Every value in a text, each of one kind, in no particular order."""
    return _parts(text)[0]


def every(text: str) -> tuple[Value, ...]:
    """What a text is as a whole, and every value in it."""
    return (*of(text), *find(text))


def without(text: str) -> str:
    """A text without the values in it."""
    return _parts(text)[1]


def product(text: str, factor: int) -> str | None:
    """A number so many times, in its canonical form."""
    norm = number(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
    return f"{(Decimal(norm) * factor).normalize():f}" if norm is not None else None


def _parts(text: str) -> tuple[tuple[Value, ...], str]:
    return _kept(text) if len(text) <= 2_000 else _apart(text[:LONGEST_TEXT])


@lru_cache(maxsize=4096)
def _kept(text: str) -> tuple[tuple[Value, ...], str]:
    return _apart(text)


def _apart(text: str) -> tuple[tuple[Value, ...], str]:
    """The values of a text, and what is left of it without them.

    Look for one kind after the other; what was taken is blanked, so that nothing is two things.
    """
    text = unicodedata.normalize("NFC", text)
    found: list[Value] = []
    for kind, needed, shape in _SHAPES:
        if needed not in text:
            continue
        taken = []
        for match in shape.finditer(text):
            value = _value(kind, match, text)
            if value is not None:
                found.append(value)
                start = match.start() + match[0].index(value.text)
                taken.append((start, start + len(value.text)))
        for start, end in taken:
            text = f"{text[:start]}{' ' * (end - start)}{text[end:]}"
    return tuple(found), text


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
        return Value(kind, wording.fold(raw), raw)
    if kind is Kind.ACCOUNT:
        return Value(kind, account(raw), raw)
    if kind is Kind.AMOUNT:
        return Value(Kind.IDENTIFIER, raw, raw) if _CODE.fullmatch(raw) else _amount(match, text)
    return Value(kind, wording.fold(raw.lstrip("#")), raw)


def called(text: str) -> frozenset[tuple[str, str]]:
    """The things that a text calls by a number: `("order", "10471")` for "order no. 10471" and "Order #10471"."""
    found = _CALLED.finditer(text[:LONGEST_TEXT])
    return frozenset((match["noun"].casefold(), match["number"]) for match in found)


def numbered(text: str) -> frozenset[str]:
    """The numbers that a text calls a number of something, `#10471` and `no. 7`."""
    return frozenset(match[1].lstrip("0") or "0" for match in _NUMBERED.finditer(text[:LONGEST_TEXT]))


def link(text: str) -> str:
    """A link without what does not change where it leads: scheme http(s), case of the host, a last slash."""
    bare = re.sub(r"^https?://", "", text.strip(), flags=re.I)
    host, slash, rest = bare.partition("/")
    return (wording.fold(host) + slash + rest).rstrip("/")


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
    if parts.get("left"):  # 25/12/2025 and 12/25/2025; of 02/01/2025 nobody can say which day it is
        left, right = int(parts["left"]), int(parts["right"])
        if left <= 12 and right <= 12 and left != right:
            return None
        day, month = (left, right) if left > 12 else (right, left)
    else:
        month = int(parts["m"]) if parts.get("m") else _MONTHS[parts["n"].rstrip(".").lower()]
        day = int(parts["d"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return Value(Kind.DATE, f"{parts.get('y') or '????'}-{month:02d}-{day:02d}", match[0])


def _time(match: re.Match[str]) -> Value | None:
    parts = match.groupdict()
    hour, minute = int(match["h"]), int(parts.get("min") or 0)
    half = (parts.get("half") or "").lower().replace(".", "")
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
    has_currency = is_priced(match.start(), match.end(), text)
    if not has_currency and _COUNTED.match(text, match.end()):
        return None
    return Value(Kind.AMOUNT, norm, match[0], is_money=has_currency)


def is_priced(start: int, end: int, text: str) -> bool:
    """Whether the number at this place has a currency beside it."""
    before, after = text[max(0, start - 4) : end], text[start : end + 10]
    return bool(_CURRENCY.search(before) or _CURRENCY.match(text, end) or _CURRENCY.search(after))


def number(value: Any) -> str | None:
    """The canonical form of a finite number, also of one written as people do; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    text = str(value).strip()
    if _PLAIN_NUMBER.fullmatch(text):
        text = re.sub(r"[ \u00a0\u202f'’]", "", text)
        if re.fullmatch(r"-?(?:[\d.]+,\d{1,2}|\d{1,3}(?:\.\d{3}){2,})", text):
            text = text.replace(".", "").replace(",", ".")
        text = text.replace(",", "")
    try:
        found = Decimal(text)
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
    text = str(value)
    return _of_kept(text) if len(text) <= 2_000 else _of_text(text)


@lru_cache(maxsize=4096)
def _of_kept(text: str) -> tuple[Value, ...]:
    return _of_text(text)


def _of_text(text: str) -> tuple[Value, ...]:
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        return ()
    if text[-1] == ">":
        mailbox = _MAILBOX.fullmatch(text)
        text = mailbox[1] if mailbox else text
    found, rest = _parts(_STAMP.sub(r"\1 \2", text))
    if found and not rest.strip(" ,;\t\r\n"):
        return found
    if "@" in text.lstrip("@") and " " not in text:
        return (Value(Kind.ADDRESS, wording.fold(text), text),)
    if "." in text.strip(".") and " " not in text:
        return (Value(Kind.LINK, link(text), text),)
    return (Value(Kind.NAME, wording.name(text), text),)


def is_domain(value: Value) -> bool:
    """Whether a dotted token leads somewhere, `evil.example`: neither a file nor two sentences without a blank."""
    last = value.text.rpartition(".")[2]
    is_dotted = value.kind is Kind.IDENTIFIER and "." in value.text and len(last) > 1 and last.isalpha()
    if not is_dotted or _FILE.fullmatch(last.lower()):
        return False
    return last == last.lower() or value.text == value.text.upper() or bool(_DOMAIN.fullmatch(last.lower()))


def same(left: Value, right: Value) -> bool:
    """Whether two values mean the same. A date without a year means that day of any year."""
    if left.kind != right.kind:
        return {left.kind, right.kind} == {Kind.AMOUNT, Kind.ACCOUNT} and left.norm == right.norm
    if left.kind is Kind.DATE:
        return left.norm[5:] == right.norm[5:] and (
            "????" in (left.norm[:4], right.norm[:4]) or left.norm == right.norm
        )
    return left.norm == right.norm


def scalars(value: Any, *, keys: bool = False) -> Iterator[str]:
    """Every text and number within a JSON value, with `keys` also what its values go by."""
    if isinstance(value, dict):
        for key, item in value.items():
            if keys:
                yield str(key)
            yield from scalars(item, keys=keys)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from scalars(item, keys=keys)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def flat(value: Any) -> Iterable[Any]:
    """The single values of an argument: items of a list, values of an object, or the value itself."""
    if isinstance(value, list | tuple):
        return [item for each in value for item in flat(each)]
    if isinstance(value, dict):
        return [item for each in value.values() for item in flat(each)]
    return [value]
