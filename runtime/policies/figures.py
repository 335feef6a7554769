"""How people say numbers and days besides writing them out: counted, in words, with a unit, seen from today.

A number goes with the word beside it: "3 days" speaks for an argument called days, and where the user has said so no
other number does. One that is the name of a room or part of a street's address is no figure at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

from runtime.policies import values, wording
from runtime.policies.values import Kind, Value

LONGEST_SPAN = timedelta(days=370)  # how far from today a day without a year may lie
_IN_WORDS = {
    word: str(number)
    for number, words in enumerate(
        ("two twice zwei zweimal deux dos", "three thrice drei dreimal trois tres", "four vier quatre cuatro",
         "five fünf cinq cinco", "six sechs seis", "seven sieben sept siete", "eight acht huit ocho",
         "nine neun neuf nueve", "ten zehn dix diez", "eleven elf onze once", "twelve zwölf douze doce dozen dutzend"),
        start=2,
    )
    for word in words.split()
}  # fmt: skip
_UNIT = r"mg|µg|mcg|kg|g|t|ml|cl|l|mm|cm|km|m|kb|mb|gb|tb|kwh|kw|x|h|hrs?|min|ms|s|pcs|k"
_COUNTED = re.compile(
    rf"(?<![\w.,/:-])(?P<number>\d{{1,3}}(?:,\d{{3}})+|\d{{1,9}}(?:[.,]\d{{1,2}})?|{'|'.join(_IN_WORDS)})"
    rf"(?:\s?(?P<unit>%|{_UNIT})(?![\w])|[\s-](?P<noun>[^\W\d_]{{2,30}})\b"
    r"(?:(?=\s+(?P<second>[^\W\d_]{2,30})\b))?)",
    re.I,
)
TIMES = {"week": ("day", 7), "day": ("hour", 24), "hour": ("minute", 60), "minute": ("second", 60)}
SPANS = frozenset({*TIMES, "second", "month", "year"})
_SPAN = re.compile(r"\b(?P<part>half\s+)?(?:an?|one|the\s+next)\s+(?P<noun>minute|hour|day|week)\b", re.I)
# A number in words that counts nothing, as "to six" does; the Spanish `once` is an English word.
_ALONE = re.compile(
    rf"(?<![\w-])(?!once\b)({'|'.join(_IN_WORDS)})(?=\s*(?:$|[.,;:!?)\n]|\b(?:please|pls|and|then|in|on|for|bitte|und)\b))",
    re.I,
)
_SHORT = {
    "min": "minute", "h": "hour", "hr": "hour", "s": "second", "ms": "millisecond", "x": "time", "pc": "piece",
    "mg": "milligram", "g": "gram", "kg": "kilogram", "t": "ton", "ml": "millilitre", "cl": "centilitre", "l": "litre",
    "mm": "millimetre", "cm": "centimetre", "m": "metre", "km": "kilometre", "kwh": "kilowatt",
}  # fmt: skip
_GLUED = re.compile(rf"(?<![\w.,/:-])(\d{{1,9}}(?:[.,]\d{{1,3}})?)({_UNIT})(?!\w)", re.I)
_MANY = re.compile(
    r"(?<![\w.,-])(\d{1,6}(?:[.,]\d{1,3})?)\s?(?:(k|thousand|tsd\.?|tausend)|(million|mio\.?|millionen))(?!\w)", re.I
)
_CENTS = re.compile(r"(?<![\w.,-])(\d{1,6}(?:\.\d{1,2})?)\s?(?:cents?\b|ct\b|pence\b|¢)", re.I)
_THOUSANDS = re.compile(r"\d{1,3}\.\d{3}")  # with a currency beside it: money has two decimals
# What a number is the name of, or a part of an address.
_OF_A_THING = re.compile(
    r"\b(?:rooms?|house|floor|level|gate|doors?|desk|seat|row|aisle|rank|table|bay|dock|ward|bed|apartment|apt|flat|suite|unit|box|locker"
    r"|bus|train|flight|tram|line|page|chapter|section|paragraph|article|class|extension|ext|postcode|zip|building|hall"
    r"|orders?|invoices?|bills?|tickets?|cases?|issues?|version|batch|lot"
    r"|zimmer|raum|haus|hausnummer|stock|tür|bett|station|linie|zug|flug|seite|reihe|kapitel|klasse|rechnung|bestellung|auftrag)"
    r"\s+(?:no\.?\s?|nr\.?\s?|number\s|#)?\d{1,9}\b(?![.,]\d)"
    r"|\b\d{1,5}[a-z]?\s+(?:[^\W\d_][\w.'’-]*\s+){1,3}?(?:street|st|road|rd|lane|ln|avenue|ave|drive|way|court|square|close|hill"
    r"|place|boulevard|blvd|terrace|quay|row|park)\b"
    r"|\b\d{1,5}(?:\s?(?:bis|ter))?,?\s+(?:rue|avenue|boulevard|allée|place|quai|chemin)\b"
    r"|\b[^\W\d_]*(?:straße|strasse|str\.|weg|platz|gasse|allee|ring|ufer|damm)\s+\d{1,5}\b",
    re.I,
)
_DAYS = {
    word: number
    for number, words in enumerate(("today heute hoy", "tomorrow tmrw tmr demain mañana", "übermorgen"))
    for word in words.split()
}
_WEEKDAYS = {
    word: number
    for number, words in enumerate(
        ("monday montag lundi lunes", "tuesday dienstag mardi martes", "wednesday mittwoch mercredi miércoles",
         "thursday donnerstag jeudi jueves", "friday freitag vendredi viernes", "saturday samstag samedi sábado",
         "sunday sonntag dimanche domingo"),
    )
    for word in words.split()
}  # fmt: skip
_RELATIVE = re.compile(
    rf"\b(?:(?P<after>day\s+after\s+tomorrow)|(?P<day>{'|'.join(_DAYS)}|(?-i:morgen)(?!s))"
    rf"|(?P<next>(?:next|nächste[nr]?|kommende[nr]?)\s+)?(?P<weekday>{'|'.join(_WEEKDAYS)})"
    rf"|in\s+(?P<count>\d{{1,3}}|{'|'.join(_IN_WORDS)})\s+(?P<span>days?|weeks?|tagen?|wochen?))\b",
    re.I,
)
_RANGE = re.compile(r"(?<![\w.])(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?\s*(?:to|until|till|bis|and|und|-|–)\s*$", re.I)
_HOUR = re.compile(r"\b(?:at|by|um|bis|à|a\s+las)\s+(?P<hour>\d{1,2})(?![\w.,:/%-]*\d|\s*(?:[ap]\.?m|[$€£¥]|\w))", re.I)
_NOON = re.compile(r"\b(?:noon|midday|mittags?|midi|mediodía)\b", re.I)


def counted(text: str) -> Iterator[tuple[str, str]]:
    """What a text counts: `("day", "3")` for "3 days" and "three-day", `("percent", "5")` for "5 %".

    A span of time also in smaller units: two hours are 120 minutes.
    """
    for match in _SPAN.finditer(text[: values.LONGEST_TEXT]):
        noun = match["noun"].lower()
        if match["part"]:
            smaller, times = TIMES[noun]
            yield from _smaller(smaller, str(times // 2))
        else:
            yield from _smaller(noun, "1")
    for match in _COUNTED.finditer(text[: values.LONGEST_TEXT]):
        word, unit = match["number"].lower(), (match["unit"] or "").lower()
        number = _IN_WORDS.get(word) or values.number(word)
        noun = unit or match["noun"].casefold()
        if number is None or singular(noun) in wording.COMMON:
            continue
        further = () if singular(noun) in SPANS else _after(match["second"])
        for other in (noun, *_other_words(word, unit), *further):
            yield from _smaller(singular(other), number)
    for value in values.find(text):
        if value.is_money and (cents := values.product(value.norm, 100)):
            yield "cent", cents


def _after(second: str | None) -> Iterator[str]:
    """The word after the one beside a number, as in "two extra days"."""
    word = (second or "").casefold()
    if word and word not in wording.COMMON and word not in _IN_WORDS:
        yield word


def _smaller(noun: str, number: str) -> Iterator[tuple[str, str]]:
    """A count, and a span of time in every smaller unit as well."""
    yield noun, number
    if noun in TIMES:
        smaller, times = TIMES[noun]
        yield from _smaller(smaller, values.product(number, times) or number)


def _other_words(number: str, unit: str) -> Iterator[str]:
    if unit == "%":
        yield "percent"
    elif unit:
        plain = _SHORT.get(singular(unit) if unit in ("hrs", "pcs") else unit)
        yield from (plain, plain.replace("metre", "meter").replace("litre", "liter")) if plain else ()
    elif number.endswith(("ice", "mal")):
        yield "time"


def singular(noun: str) -> str:
    return noun.removesuffix("s")


def written_otherwise(text: str) -> Iterator[Value]:
    """Amounts that are no number by themselves: 500mg, 2k, 1.500 EUR, three."""
    for match in _MANY.finditer(text):
        norm = values.product(match[1], 1_000 if match[2] else 1_000_000)
        if norm:
            yield Value(Kind.AMOUNT, norm, match[0], values.is_priced(match.start(), match.end(), text))
    for match in _GLUED.finditer(text):
        norm = values.number(match[1])
        if norm and match[2].lower() != "k":
            yield Value(Kind.AMOUNT, norm, match[0])
    for match in _CENTS.finditer(text):
        norm = values.number(match[1])
        if norm:
            yield Value(Kind.AMOUNT, f"{(Decimal(norm) / 100).normalize():f}", match[0], is_money=True)
    for match in _ALONE.finditer(text):
        yield Value(Kind.AMOUNT, _IN_WORDS[match[1].lower()], match[0])
    for value in values.find(text):
        if value.is_money and _THOUSANDS.fullmatch(value.text):
            yield Value(Kind.AMOUNT, value.text.replace(".", ""), value.text, is_money=True)


def units(text: str) -> Iterator[str]:
    """The units that are written without a blank, as words of their own."""
    for match in _GLUED.finditer(text):
        yield match[2].lower()


def without_things(text: str) -> str:
    """A text without the numbers that name a thing, those of streets' addresses and those of cents."""
    for shape in (_OF_A_THING, _CENTS):
        text = shape.sub(lambda found: re.sub(r"\d", " ", found[0]), text)
    return text


def days(text: str, today: date | None) -> Iterator[Value]:
    """The days that a text means without writing them out: tomorrow, in two weeks, the 1 of "1 to 5 May"."""
    for value in values.find(text):
        if value.kind is Kind.DATE:
            start = text.find(value.text)
            before = _RANGE.search(text[max(0, start - 24) : start])
            if before and 1 <= int(before["day"]) <= 31:
                yield Value(Kind.DATE, f"{value.norm[:8]}{int(before['day']):02d}", f"{before[0]}{value.text}")
    if today is not None:
        for match in _RELATIVE.finditer(text):
            for day in _meant(match, today):
                yield Value(Kind.DATE, day.isoformat(), match[0])


def _meant(match: re.Match[str], today: date) -> list[date]:
    if match["after"]:
        return [today + timedelta(days=2)]
    if match["day"]:
        return [today + timedelta(days=_DAYS.get(match["day"].lower(), 1))]
    if match["weekday"]:
        ahead = (_WEEKDAYS[match["weekday"].lower()] - today.weekday() - 1) % 7 + 1
        first = today + timedelta(days=ahead)
        return [first, first + timedelta(days=7)] if match["next"] else [first]
    number = int(_IN_WORDS.get(match["count"].lower()) or match["count"])
    return [today + timedelta(days=number * (7 if match["span"].lower().startswith("w") else 1))]


def hours(text: str) -> Iterator[Value]:
    """Times of day without minutes: "at 9", "noon"."""
    for match in _HOUR.finditer(text):
        if int(match["hour"]) < 24:
            yield Value(Kind.TIME, f"{int(match['hour']):02d}:00", match[0])
    for match in _NOON.finditer(text):
        yield Value(Kind.TIME, "12:00", match[0])


def is_near(day: str, today: date | None) -> bool:
    """Whether a day lies within a year of today, as one does that is said without its year."""
    if today is None or day.startswith("?"):
        return True
    try:
        return abs(date.fromisoformat(day) - today) <= LONGEST_SPAN
    except ValueError:
        return False
