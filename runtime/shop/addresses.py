"""Reading a postal address out of a message: `14 Broad Street, 100221 Lagos, Nigeria`. Pure."""

from __future__ import annotations

import re

COUNTRIES = {
    name.casefold(): name
    for name in (
        "Portugal", "Germany", "United Kingdom", "United States", "Spain", "France", "India", "Japan", "Nigeria",
        "Brazil", "South Korea", "Italy", "Netherlands", "Belgium", "Austria", "Poland", "Ireland", "Sweden",
        "Denmark", "Finland", "Greece", "Czechia", "Switzerland", "Norway", "Canada", "Mexico", "Australia",
        "Hungary", "Romania", "Croatia",
    )
} | {
    "uk": "United Kingdom", "england": "United Kingdom", "scotland": "United Kingdom",
    "great britain": "United Kingdom",
    "usa": "United States", "us": "United States", "united states of america": "United States",
    "deutschland": "Germany", "españa": "Spain", "brasil": "Brazil", "korea": "South Korea",
}  # fmt: skip

_START = re.compile(r"\b(?:to|is)\b:?|:", re.IGNORECASE)
_END = re.compile(r"[\n;!?]|\.\s|\.$|\b(?:please|pls|plz|thanks|thank you|thx|instead|and|asap)\b", re.IGNORECASE)
_POSTAL = r"(?=[A-Z0-9 -]*\d)[A-Z0-9][A-Z0-9 -]{1,11}[A-Z0-9]"
_POSTAL_CITY = re.compile(
    r"^(?P<postal>(?=\S*\d)[A-Z0-9][A-Z0-9-]*(?: [A-Z0-9-]*\d[A-Z0-9-]*)?) (?P<city>[^\d,]{2,60})$", re.IGNORECASE
)
_CITY_POSTAL = re.compile(rf"^(?P<city>[^\d,]{{2,60}}?) (?P<postal>{_POSTAL})$")
_ONLY_POSTAL = re.compile(rf"^{_POSTAL}$")
_ONLY_CITY = re.compile(r"^[^\d,]{2,60}$")


def find(text: str) -> dict[str, str]:
    """The parts that could be read: street, city, postal_code, country; a full address has all four."""
    tails = [text[found.end() :] for found in _START.finditer(text)] + [text]
    read = [_parse(tail) for tail in tails]
    return max(read, key=lambda parts: (len(parts), -len(parts.get("street", ""))))


def _parse(tail: str) -> dict[str, str]:
    ended = _END.split(tail.strip(), maxsplit=1)[0]
    parts = [part.strip(" .") for part in ended.split(",") if part.strip(" .")]
    if len(parts) < 2:
        return {}
    found: dict[str, str] = {}
    country = COUNTRIES.get(parts[-1].casefold())
    if country:
        found["country"] = country
        parts.pop()
    while len(parts) > 1 and not {"city", "postal_code"} <= set(found):
        town = _town(parts[-1], found)
        if not town:
            break
        found |= town
        parts.pop()
    street = ", ".join(parts)
    if re.search(r"\d", street) and len(street) <= 120 and "city" in found:
        found["street"] = street
    return found if "street" in found else {}


def _town(part: str, found: dict[str, str]) -> dict[str, str]:
    both = _POSTAL_CITY.match(part) or _CITY_POSTAL.match(part)
    if both and re.fullmatch(r"[A-Z]{2}", both["city"]):  # a state, as in "OR 97205"
        return {"postal_code": part} if "postal_code" not in found else {}
    if both and not found.keys() & {"city", "postal_code"}:
        return {"postal_code": both["postal"].strip(), "city": both["city"].strip()}
    if "postal_code" not in found and _ONLY_POSTAL.match(part):
        return {"postal_code": part}
    if "city" not in found and _ONLY_CITY.match(part):
        return {"city": part}
    return {}
