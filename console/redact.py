"""Masking of secrets before anything is written to a trace, a log, the audit or an export."""

from __future__ import annotations

import re
from typing import Any

import re2

MASK = "•••"

# Shapes of well-known credentials; each expression runs in linear time.
SHAPES = [
    re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.{0,8000}?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)", re.S),
    re.compile(r"\beyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{10,2000}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    re.compile(r"\b(?:sk|pk|rk)[-_](?:live|test|ant|proj|or)?[-_]?[A-Za-z0-9_-]{20,200}"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,255}"),
    re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,200}"),
    re.compile(r"\bsth_[a-z0-9]{8}_[A-Za-z0-9_-]{30,100}"),
    re.compile(r"(?<=://)[^\s/:@]{1,100}:[^\s/@]{1,200}(?=@)"),
    re.compile(r"(?i)(?<=\bbearer )(?=[a-z._~+/=-]{0,100}\d)[\w.~+/=-]{16,2000}"),
]
# The last words of a name; what stands before them (`DB_`, `x-`) does not matter.
NAMES = (
    r"password|passwd|passphrase|pwd|secret(?:[_-]?access)?(?:[_-]?key)?|api[_-]?key|private[_-]?key"
    r"|(?:access|auth|refresh|id|session|bearer)[_-]?token"
)
QUOTE = r"\\?[\"']"
NAMED = re.compile(
    rf"(?i)((?<![^\W_])(?:{NAMES})(?:{QUOTE})?\s{{0,3}}[=:]\s{{0,3}}"
    rf"|\bauthorization(?:{QUOTE})?\s{{0,3}}[=:]\s{{0,3}}(?:{QUOTE})?(?:basic|bearer|digest|token)\s)"
    rf"(?:({QUOTE})(?:(?!\2)[^\n]){{4,200}}(?=\2)|((?:{QUOTE})?)[^\s\"'&,;\\]{{4,2000}})"
)
# Without one of these pieces in it, no expression above can match a text. Looking for them costs two microseconds.
PIECES = (
    "PRIVATE KEY", "eyJ", "AKIA", "ASIA", "AIza", "sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "ghp_", "gho_", "ghu_",
    "ghs_", "ghr_", "xox[abprs]-", "sth_", "\u017f", "\u212a",
)  # fmt: skip
WORDS = (
    "passw",
    "passphrase",
    "pwd",
    "bearer ",
    "secret",
    "api_key",
    "api-key",
    "apikey",
    "token",
    "authorization",
    "private",
    "cookie",
)
SUSPECT = re2.compile(("|".join(PIECES) + f"|(?i:{'|'.join(WORDS)})|" + r"://[^\s/@]{1,301}@").encode())
SHORTEST = 6  # characters of a text that could hold one, and of the JSON of a field with a secret's name
SECRET_NAMES = re.compile(rf"(?i)^(?:token|(?:proxy-)?authorization|cookie|set-cookie|.{{0,60}}(?:{NAMES}))$")


def may_hold_secret(text: str) -> bool:
    """Whether masking could change this text, or the value that it is the JSON of. False is certain, True is not."""
    # Half a surrogate pair, which no credential has, cannot be encoded.
    return len(text) >= SHORTEST and SUSPECT.search(text.encode("utf-8", "replace")) is not None


def text(value: str) -> str:
    """The text with every known shape of a credential masked."""
    if not may_hold_secret(value):
        return value
    for shape in SHAPES:
        value = shape.sub(MASK, value)
    return NAMED.sub(lambda m: f"{m[1]}{m[2] or m[3] or ''}{MASK}", value)


def value(thing: Any) -> Any:
    """The same for a JSON value: strings are scanned, fields with a secret's name are masked whole."""
    if isinstance(thing, str):
        return text(thing)
    if isinstance(thing, dict):
        named = "value" if any(SECRET_NAMES.match(str(thing.get(name, ""))) for name in ("name", "key")) else None
        return {
            text(str(key)): _whole(item) if key == named or SECRET_NAMES.match(str(key)) else value(item)
            for key, item in thing.items()
        }
    if isinstance(thing, list | tuple):
        return [value(item) for item in thing]
    return thing


def _whole(item: Any) -> Any:
    """What stands under a secret's name: a text, or in the audit the text before and after."""
    if isinstance(item, str | int | float) and not isinstance(item, bool):
        return MASK if item else item
    return [_whole(part) for part in item] if isinstance(item, list | tuple) else value(item)


def has_secret(thing: Any) -> bool:
    """Whether masking would change the value."""
    return bool(value(thing) != (list(thing) if isinstance(thing, tuple) else thing))


# Personal data. Shown to those who work on a case, masked for those who only look on (see `personal`).
PERSONAL_SHAPES = [
    # The last part of a domain begins with a letter: `refunds#window@2026.11` is a citation, not an address.
    re.compile(r"[\w.+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[^\W\d_][\w-]{1,62}"),
    # Telephone numbers: with a country code, or in groups parted as people write them. Order numbers and dates stay.
    re.compile(r"(?<![\w+])(?:\+|00)\d{1,3}[ ./-]?(?:\(\d{1,5}\)[ ./-]?)?\d(?:[ ./-]?\d){5,12}(?![\w-])"),
    re.compile(r"(?<![\w.-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"),
    # Postal addresses: a house number beside a word for a street, and the rest of the line up to a postal code.
    re.compile(
        r"\b\d{1,5}[A-Za-z]?,? (?:[A-Z][\w'.]{0,30} ){1,4}?(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr"
        r"|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Square|Sq|Terrace|Parkway|Pkwy|Highway|Hwy|Circle)\b\.?"
        r"(?:,? (?:Apt|Suite|Unit|Floor|#)\.? ?[\w-]{1,8})?(?:,[^\n\"\d]{1,60}\d{4,6}(?:-\d{4})?)?"
    ),
    re.compile(
        r"\b(?:[A-ZÄÖÜ][\wäöüß'.-]{0,30} ){0,2}[A-ZÄÖÜ][\wäöüß-]{0,30}(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse"
        r"|gade|vej|laan|straat| Stra(?:ß|ss)e| Str\.) \d{1,4}[a-z]?\b(?:, ?\d{4,6} [A-ZÄÖÜ][\wäöüß-]{1,40})?"
    ),
]
PERSONAL_NAMES = re.compile(
    r"(?i)^(?:e-?mail(?:_?address)?|phone(?:_?number)?|mobile|telephone|street|address(?:_?line)?_?[12]?|line_?[12]|zip"
    r"|zip_?code|post_?code|postal_?code)$"
)


def personal(value: Any) -> Any:
    """A text or JSON value with e-mail addresses, telephone numbers and postal addresses masked.

    For showing only: what is stored stays whole. Names are kept, because a case is told by them.
    """
    if isinstance(value, str):
        for shape in PERSONAL_SHAPES:
            value = shape.sub(MASK, value)
        return value
    if isinstance(value, dict):
        return {
            key: MASK if PERSONAL_NAMES.match(str(key)) and isinstance(item, str) and item else personal(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [personal(item) for item in value]
    return value
