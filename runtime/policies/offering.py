"""What an MCP server offers, judged before anybody or any model reads it: names, texts, schemas, digests.

Everything here is written by a stranger. A name is plain ASCII and unlike its neighbours; texts are stripped of what a
reader cannot see; an offer that hides something where stripping would change its meaning cannot be used at all. The
digest is taken over the offer as it came, so that nothing changes behind a review.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from releases.bundles import canonical
from releases.states import SERVER_MARK

SERVER_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]+")
LONGEST_SERVER_NAME = 40
LONGEST_NAME = 64  # of server and tool together: what the providers of models take
LONGEST_DESCRIPTION = 4000
LONGEST_OFFER = 30_000  # characters of its canonical JSON
DEEPEST_SCHEMA = 30
MOST_TOOLS = 200
MOST_REFUSED = 20
TEXTS = frozenset({"description", "title", "$comment"})
ALIKE = str.maketrans({"-": "_", "l": "1", "i": "1", "o": "0"})
# Printable by their category, and yet nothing is seen.
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


class Standing(StrEnum):
    """How a tool stands: it follows from what is offered and what was reviewed, and is not stored."""

    NEW = "new"  # offered, never reviewed
    REVIEWED = "reviewed"  # exactly this offer was reviewed
    CHANGED = "changed"  # another offer was reviewed
    UNUSABLE = "unusable"  # its offer breaks a rule of ours
    GONE = "gone"  # not offered any more


@dataclass(frozen=True)
class Offer:
    """One tool as the server describes it."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None = None
    annotations: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "input_schema": dict(self.input_schema),
        }
        if self.output_schema is not None:
            found["output_schema"] = dict(self.output_schema)
        if self.annotations is not None:
            found["annotations"] = dict(self.annotations)
        return found


@dataclass(frozen=True)
class Judged:
    """An offer that can be kept. `problem` is the rule that keeps it from being used."""

    offer: dict[str, Any]
    digest: str
    problem: str = ""


@dataclass(frozen=True)
class Listing:
    """All that a server offers at one time."""

    tools: Mapping[str, Judged]
    refused: tuple[tuple[str, str], ...] = ()  # (name as far as it can be shown, why): cannot be kept

    @property
    def digests(self) -> dict[str, str]:
        return {name: judged.digest for name, judged in self.tools.items()}


def digest(offer: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of an offer, hexadecimal."""
    return hashlib.sha256(canonical(offer).encode("utf-8", "surrogatepass")).hexdigest()


def judge(server: str, offers: Iterable[Offer], check_schema: Callable[[Mapping[str, Any]], str]) -> Listing:
    """Sort what is offered. `check_schema` says why a schema of arguments cannot be used, or nothing."""
    found = list(offers)
    skeletons = Counter(skeleton(offer.name) for offer in found)
    tools: dict[str, Judged] = {}
    refused: list[tuple[str, str]] = []
    for offer in found:
        why = _name_problem(server, offer.name, skeletons) or _not_kept(offer, len(tools))
        if why:
            refused.append((shown_name(offer.name), why))
            continue
        plain = offer.as_json()
        tools[offer.name] = Judged(plain, digest(plain), _problem(offer) or check_schema(offer.input_schema))
    return Listing(tools, tuple(refused[:MOST_REFUSED]))


def decide_standing(offered: str, reviewed: Collection[str], problem: str) -> Standing:
    """How a tool stands whose offer has this digest now (empty: it is not offered)."""
    if not offered:
        return Standing.GONE
    if problem:
        return Standing.UNUSABLE
    if offered in reviewed:
        return Standing.REVIEWED
    return Standing.CHANGED if reviewed else Standing.NEW


def decide_call(name: str, pin: str, offered: str | None, *, is_reviewed: bool) -> str:
    """Why a call of a pinned tool is refused; empty when the server offers exactly what was reviewed and pinned."""
    if offered is None:
        return f"The MCP server does not offer {name} any more. A person has to look at it."
    if offered != pin:
        return (
            f"The MCP server describes {name} differently from what was reviewed. It stays off until a person has"
            " reviewed the change and a new release names it."
        )
    if not is_reviewed:
        return f"Nobody has reviewed what the MCP server says of {name}."
    return ""


def server_name_problem(name: str, others: Iterable[str]) -> str:
    """Why a server cannot have this name, or nothing."""
    if name == "new" or len(name) > LONGEST_SERVER_NAME or not SERVER_NAME.fullmatch(name):
        return (
            f"A name has at most {LONGEST_SERVER_NAME} small letters and digits, begins with a letter, and has single"
            " hyphens or underscores between them, such as git-files."
        )
    alike = next((other for other in others if skeleton(other) == skeleton(name)), "")
    return f"It reads like the server {alike}. Choose one that cannot be taken for it." if alike else ""


def skeleton(name: str) -> str:
    """The same for names that an eye could take for one another."""
    return name.casefold().translate(ALIKE)


def full_name(server: str, tool: str) -> str:
    return server + SERVER_MARK + tool


def shown_name(name: str) -> str:
    return "".join(letter if not is_hidden(letter) else "\N{REPLACEMENT CHARACTER}" for letter in name[:80])


def is_hidden(letter: str) -> bool:
    """Whether a reader does not see this character, though a program or a model reads it."""
    if letter in "\n\t":
        return False
    if letter in BLANK or "\ufe00" <= letter <= "\ufe0f" or "\U000e0100" <= letter <= "\U000e01ef":
        return True
    return unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def description(offer: Mapping[str, Any]) -> str:
    """What a model is told of a tool: as reviewed, without hidden characters, capped."""
    text = _seen(str(offer.get("description", "")))
    cut = " … (cut)"
    return text if len(text) <= LONGEST_DESCRIPTION else text[: LONGEST_DESCRIPTION - len(cut)] + cut


def parameters(offer: Mapping[str, Any]) -> dict[str, Any]:
    """The schema a model is shown and arguments are held to: texts cleaned, no argument that it does not name."""
    schema = _clean(offer["input_schema"])
    is_composed = {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf"} & schema.keys()
    return schema if is_composed else {"additionalProperties": False, **schema}


def _name_problem(server: str, name: str, skeletons: Mapping[str, int]) -> str:
    if not TOOL_NAME.fullmatch(name):
        return "Its name has other characters than A-Z, a-z, 0-9, hyphen and underscore."
    if len(full_name(server, name)) > LONGEST_NAME:
        return f"{full_name(server, name)[:80]} is longer than {LONGEST_NAME} characters."
    if skeletons[skeleton(name)] > 1:
        return "Another tool of this server is called the same, or so that it can be taken for it."
    return ""


def _not_kept(offer: Offer, kept: int) -> str:
    if kept >= MOST_TOOLS:
        return f"Of one server at most {MOST_TOOLS} tools are kept."
    plain = offer.as_json()
    if _depth(plain) > DEEPEST_SCHEMA:
        return f"Its schema is nested deeper than {DEEPEST_SCHEMA} levels."
    if not _is_storable(plain):
        return "Its description or schema holds characters or numbers that no JSON may hold."
    if len(canonical(plain)) > LONGEST_OFFER:
        return f"Description and schemas are longer than {LONGEST_OFFER:,} characters."
    return ""


def _problem(offer: Offer) -> str:
    if offer.input_schema.get("type") != "object":
        return "The schema of its arguments is not one of an object."
    hidden = _hidden_place(offer.input_schema)
    return f"Hidden characters stand in its schema at {hidden}, where they would change its meaning." if hidden else ""


def _hidden_place(value: Any, place: str = "") -> str:
    """Where a hidden character stands that cannot be left out: anywhere but in texts for people."""
    if isinstance(value, str):
        return (place or "the top") if any(map(is_hidden, value)) else ""
    if isinstance(value, Mapping):
        for key, item in value.items():
            here = f"{place}.{shown_name(key)}".lstrip(".")
            if any(map(is_hidden, key)):
                return here
            if not (key in TEXTS and isinstance(item, str)) and (found := _hidden_place(item, here)):
                return found
    if isinstance(value, list):
        return next((found for item in value if (found := _hidden_place(item, place))), "")
    return ""


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _seen(item) if key in TEXTS and isinstance(item, str) else _clean(item) for key, item in value.items()
        }
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _seen(text: str) -> str:
    return "".join(letter for letter in text if not is_hidden(letter))


def _depth(value: Any, level: int = 0) -> int:
    if level > DEEPEST_SCHEMA:
        return level
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return max((_depth(item, level + 1) for item in inner), default=level)


def _is_storable(value: Any) -> bool:
    """Whether PostgreSQL takes it as JSON: no NUL, no half of a surrogate pair, no infinite number."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
    return all(map(_is_storable, value)) if isinstance(value, list) else True
