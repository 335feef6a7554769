"""Personal data in texts: mail addresses, telephone, card and account numbers, US social security numbers.

Card numbers, IBANs and social security numbers are told from other digits by python-stdnum (check digits, ranges that
exist), telephone numbers by phonenumbers (the plans of all countries). Mail addresses are matched here. Names, postal
addresses, dates of birth and identifiers of other countries are not found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from runtime.policies.guardrails.rewriting import HIDDEN, Found, counted, rewrite, texts

NAMES = {
    "email": "e-mail address",
    "phone": "phone number",
    "card": "card number",
    "iban": "IBAN",
    "ssn": "social security number",
}
# The last part of a domain begins with a letter: `refunds#window@2026.11` is a citation, not an address.
EMAIL = re.compile(r"[\w.+'-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.[^\W\d_][\w-]{1,62}")
CARD = re.compile(r"(?<![\w.])[2-6]\d(?:[ -]?\d){11,17}(?![\w-])")
IBAN = re.compile(r"(?<!\w)([A-Za-z]{2})\d{2}(?: ?[A-Za-z0-9]){11,30}")
SSN = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
PHONE = re.compile(r"(?<![\w+])(?:\+|\(?\d)[\d ()./-]{5,22}\d(?!\w)")
# How long an account number is in each country of the IBAN registry.
IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL", "19": "MK SI", "20": "AT BA EE KZ LT LU XK",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "PT ST", "26": "IS TR",
        "27": "FR GR IT MC MR SM", "28": "AL AZ CY DO GT HU LB PL BY SV", "29": "BR EG PS QA UA", "30": "JO KW",
        "31": "MT SC", "32": "LC",
    }.items()
    for country in countries.split()
}  # fmt: skip


class Hit(NamedTuple):
    kind: str
    start: int
    end: int


def data(settings: Mapping[str, Any], value: Any, asked: str = "") -> Found | None:
    """Which personal data a text or value holds. `asked` is what the user himself wrote."""
    kinds = [kind for kind in settings.get("kinds") or NAMES if kind in NAMES]
    region = settings.get("region")
    known = {_bare(text) for text in settings.get("allowed", [])}
    if settings.get("users_own"):
        known |= {_bare(asked[hit.start : hit.end]) for hit in find(asked, kinds, region)}
    counts: Counter[str] = Counter()
    places = []
    for place, text in texts(value):
        hits = [hit for hit in find(text, kinds, region) if _bare(text[hit.start : hit.end]) not in known]
        counts.update(NAMES[hit.kind] for hit in hits)
        places += [place] if hits and place else []
    if not counts:
        return None
    return Found(
        f"The text contains {counted(counts)}.",
        tuple(dict.fromkeys(places))[:10],
        lambda: rewrite(value, lambda text: _masked(text, kinds, region, known)),
    )


def find(text: str, kinds: list[str], region: str | None = None) -> list[Hit]:
    """What of these kinds stands in the text, in order and without overlap; the longest match wins."""
    if not text or not ("@" in text or any(character.isdecimal() for character in text)):
        return []
    hits = [hit for kind in kinds for hit in FINDERS[kind](text, region)]
    found: list[Hit] = []
    for hit in sorted(hits, key=lambda one: (one.start, -one.end)):
        if not found or hit.start >= found[-1].end:
            found.append(hit)
    return found


def _masked(text: str, kinds: list[str], region: str | None, known: set[str]) -> str:
    parts, reached = [], 0
    for hit in find(text, kinds, region):
        if _bare(text[hit.start : hit.end]) not in known:
            parts += [text[reached : hit.start], f"[{NAMES[hit.kind]} removed]"]
            reached = hit.end
    return "".join([*parts, text[reached:]])


def _emails(text: str, region: str | None) -> Iterator[Hit]:
    if "@" in text:
        for match in EMAIL.finditer(text):
            yield Hit("email", *match.span())


def _cards(text: str, region: str | None) -> Iterator[Hit]:
    from stdnum import luhn

    for match in CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if len(digits) in _card_lengths(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield Hit("card", *match.span())


def _card_lengths(digits: str) -> tuple[int, ...]:
    """How long a number of its brand can be: Visa, Mastercard, American Express, Diners, those with 6."""
    if digits.startswith(("34", "37")):
        return (15,)
    if digits.startswith(("30", "36", "38", "39")):
        return (14,)
    return {"4": (13, 16, 19), "6": (16, 17, 18, 19)}.get(digits[0], (16,))


def _ibans(text: str, region: str | None) -> Iterator[Hit]:
    from stdnum import iban

    for match in IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match[1].upper())
        whole = _first(match[0], length) if length else None
        if whole and iban.is_valid(whole):
            yield Hit("iban", match.start(), match.start() + len(whole))


def _first(text: str, characters: int) -> str | None:
    """The beginning with so many characters that are no spaces; None where a word goes on after it."""
    count = 0
    for place, character in enumerate(text):
        count += character != " "
        if count == characters:
            return None if text[place + 1 : place + 2].isalnum() else text[: place + 1]
    return None


def _ssns(text: str, region: str | None) -> Iterator[Hit]:
    from stdnum.us import ssn

    for match in SSN.finditer(text):
        if ssn.is_valid(match[0]):
            yield Hit("ssn", *match.span())


def _phones(text: str, region: str | None) -> Iterator[Hit]:
    """With a country code; without one only where the operator says whose numbers they are."""
    import phonenumbers

    for match in PHONE.finditer(text):
        written = match[0]
        if not (written.startswith(("+", "00")) or region):
            continue
        international = f"+{written[2:]}" if written.startswith("00") else written
        try:
            number = phonenumbers.parse(international, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            yield Hit("phone", *match.span())


FINDERS = {"email": _emails, "phone": _phones, "card": _cards, "iban": _ibans, "ssn": _ssns}


def _bare(text: str) -> str:
    return re.sub(r"[\s().-]", "", HIDDEN.sub("", text)).casefold()
