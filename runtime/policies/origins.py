"""The words in which the origin of values is spoken of: labels of a tool, sources, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SELF = "$SELF"
EASY = frozenset({"label", "content", "free"})  # whatever else an argument is called counts as sensitive
EFFECTS = frozenset({"read", "write", "egress", "destructive"})


class Origin(StrEnum):
    """Who a value comes from."""

    USER = "user"  # the user's own words
    NAMED = "named"  # what the user has called by its number: which object is meant, but not that it be changed
    AUTHORED = "authored"  # the user wrote it earlier, into a record of his own
    TRUSTED = "trusted"  # an output that no outsider can influence
    MINTED = "minted"  # an id that the system made
    PRECEDENT = "precedent"  # an amount within what passed before between the user and somebody he has named
    DELEGATED = "delegated"  # a field that the user has named, of a record that he has named
    OWN = "own"  # the user's own identifier
    HARMLESS = "harmless"  # labelled as needing no source
    NOBODY = "nobody"


@dataclass(frozen=True)
class Authored:
    """Rows whose `fields` the user wrote himself: those in which every key of `where` has one of its values.

    The value `$SELF` stands for the user's own identifiers.
    """

    where: Mapping[str, tuple[str, ...]]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """What is known of a tool. Left out is the riskiest: a way out, untrusted, every argument sensitive."""

    name: str = ""  # of the tool
    effect: str = "egress"
    is_trusted: bool = False  # nobody outside can influence its output
    is_secret: bool = False  # its output is itself worth protecting
    minted: tuple[str, ...] = ()
    system: tuple[str, ...] = ()  # fields that the system fills in: outsiders cause rows, but cannot write these freely
    authored: tuple[Authored, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    harmless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_labelled: bool = True


@dataclass(frozen=True)
class Source:
    """Why a value is believed, or that nothing speaks for it. `step` is the place of the call it was read from."""

    origin: Origin
    said: str = ""
    step: int | None = None


@dataclass(frozen=True)
class Evidence:
    """One value of one argument and its source."""

    argument: str
    value: str
    source: Source


@dataclass(frozen=True)
class Justified:
    """The call may be made as far as provenance goes."""

    rule: str
    reason: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Unjustified:
    """A person has to be asked."""

    rule: str
    reason: str
    evidence: tuple[Evidence, ...] = ()


Verdict = Justified | Unjustified


SENTENCES = {
    Origin.USER: "typed by the user",
    Origin.NAMED: "named by the user",
    Origin.AUTHORED: "from a record of the user's own",
    Origin.TRUSTED: "from a result that no outsider can influence",
    Origin.MINTED: "an id that the system made",
    Origin.PRECEDENT: "within what has passed before",
    Origin.DELEGATED: "named by the user as a field of a record",
    Origin.OWN: "the user's own identifier",
    Origin.HARMLESS: "needs no source",
    Origin.NOBODY: "on nobody's word",
}


def sentence(source: Source) -> str:
    """For people: where a value comes from, or why nobody speaks for it."""
    if source.origin is Origin.NOBODY:
        return f"{SENTENCES[source.origin]}{f': {source.said}' if source.said else ''}"
    said = f" (“{source.said[:60]}”)" if source.said and source.origin is not Origin.USER else ""
    where = f", event {source.step}" if source.step is not None else ""
    return f"{SENTENCES[source.origin]}{said}{where}"
