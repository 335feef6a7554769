"""What of the user's words speaks for a value: not what he passes on from a stranger, and not what he forbids.

"Do not send it to x@y.org" names an address, and so does a mail that he has pasted to ask whether it is genuine.
Neither asks for anything to go there.
"""

from __future__ import annotations

import re

LONGEST_SUBJECT = 80  # characters before "must not get it" that say who
APART = " | "  # stands where something was left out, so that what was around it does not become neighbours
_PASTED = re.compile(
    r"(?:^[ \t]*|:[ \t]*)>.*$"
    r"|^[ \t]*(?:begin forwarded message|-{3}[^\n]*(?:original|forwarded|ursprüngliche|weitergeleitete)[^\n]*)\b"
    r"[\s\S]*",
    re.I | re.M,
)
_RECEIVED = re.compile(
    r"\b(?:got|received|claims|claimed|(?:emailed|wrote|sent|told|asked|asks|tells|writes)\s+(?:to\s+)?(?:me|us)"
    r"|bekommen|erhalten|reçu|recibido)\b[^\"“„«\n.!?]{0,80}[\"“„«]([^\"”“»]{20,2000})[\"”“»]",
    re.I,
)
# Up to the end of the clause, or to a comma after which the user begins something else.
_CLAUSE = (
    r"(?:(?![.!?;](?:\s|$)|\n|\b(?:but|instead|rather|sondern)\b|,\s+(?!(?:and|or|nor|und|oder)\b)(?-i:[a-z])[^\W\d_]*\s)"
    r".){0,400}"
)
_FORBIDDEN = re.compile(
    r"(?:(?:^|(?<=[.!?;:,(\n–—])|(?<=please)|(?<=and)|(?<=but)|(?<=so)|(?<=also)|(?<=then))\s*\b(?:do\s+not|don['’]?t|never)"
    r"|\b(?:must\s+not|mustn['’]t|should\s+not|shouldn['’]t|may\s+not|under\s+no\s+circumstances|on\s+no\s+account|no\s+(?:e?-?mails?|messages?|payments?|money|invitations?)\s+to"
    r"|niemals|keinesfalls|auf\s+keinen\s+fall))\b"
    r"(?!\s+(?:forget|hesitate|miss|worry|mind|need|know|have|think|remember|want|only|just|fail|\w+ed|came|got|was)\b)"
    + _CLAUSE,
    re.I,
)
# "Mallory must not get it", "Eva soll nichts davon erfahren": what it is about stands before it.
_DENIED = re.compile(
    r"\b(?:(?:must|may|should|shall)(?:\s+not|n['’]t)\s+(?:be\s+(?:told|informed|paid|added|invited|notified|included)"
    r"|get|receive|have|know|see|hear|learn|find\s+out)\b"
    r"|(?:soll(?:en|te)?|darf|dürfen)\b[^.!?;,\n]{0,60}\b(?:nichts?|kein\w*)\b)" + _CLAUSE,
    re.I,
)
_BEGINNING = re.compile(r"[.!?;,:\n][^.!?;,:\n]*$")
# "without telling Mallory", "keep it from Mallory", "nichts an Eva", "n'envoyez rien à Eve", "nunca escribas a Eve".
_HELD_BACK = re.compile(
    r"(?:\bwithout\s+(?:telling|informing|copying|involving|notifying|including|paying|adding|sending)\b"
    r"|\bkeep\s+(?:it|this|that|them|everything)\s+from\b"
    r"|(?:^|(?<=[.!?;,:(\n])|(?<=and)|(?<=but)|(?<=please))\s*(?:exclude|skip|omit|leave\s+out)\b"
    r"|\b(?:nichts|keine?n?\s+[^\W\d_]+|nie)\s+(?:an|zu)\b"
    r"|\bohne\b(?=[^.!?;\n]{0,60}\bzu\s+(?:informieren|benachrichtigen|sagen|fragen)\b)"
    r"|(?<!\bje )(?<!\bil )(?<!\bon )(?<!elle )(?<!nous )(?<!ils )\bn(?:e\s+|['’])[^\W\d_]+\s+(?:surtout\s+)?"
    r"(?:pas|jamais|rien|plus)\b"
    r"|(?<!\bsi )\b(?:jamais|nunca|jamás|niet\s+(?:aan|naar)|nooit|não)\b"
    r"|\bno\s+(?:se\s+)?(?:l[aeo]s?\s+)?(?:env[ií]|escrib|pag|mand|transfi|compart|invit|avis)\w+"
    r"|\bnon\s+(?:\w+(?:are|ere|ire|arlo|arla)|inviate|scrivete|mandate|pagate)\b)" + _CLAUSE,
    re.I,
)
# What there was, or what is not what it seems.
_SHUNNED = re.compile(
    r"\b(?:old|former|previous|outdated|wrong|mistaken|expired|alte[nrms]?|frühere[nrms]?|bisherige[nrms]?|falsche[nrms]?|ancien(?:ne)?s?"
    r"|vieux|vieille|antigu[oa]|viej[oa])\s+(?:\w+\s+){0,2}?(?:e-?mails?|mail|address(?:es)?|accounts?|numbers?|phones?|ibans?|banks?|sites?|links?|adressen?"
    r"|konto|nummer|adresse|compte|numéro|dirección|cuenta|número)\b"
    r"|\b(?:no\s+longer|used\s+to|nicht\s+mehr)\b"
    r"|\b(?:phishing|spam|scam\w*|fraud\w*|suspicious|fake|betrug\w*|verdächtig\w*|arnaque|estafa)\b",
    re.I,
)
_PIECE = re.compile(r"(?:(?![.!?;](?:\s|$)|\n|\b(?:but|instead|now|sondern|jetzt|aber)\b).)+", re.I)
# Only what follows at once: "pay X instead of Y", "to X, not to Y".
_NOT_THIS = re.compile(
    r"(?:,\s*not|\b(?:and|but)\s+not|\binstead\s+of|\brather\s+than|\bexcept(?:\s+for)?|\bnicht\s+(?:an|nach|für|zu[mr]?)|\banstatt|\bstatt)\b"
    r"(?:\s+(?:to|for|with|from|an|at|it|sending|paying|using|the|die|das|den)\b){0,4}"
    r"\s+(?-i:[^\s,;]+(?:\s+[A-Z0-9][^\s,;]*){0,9})"
    r"(?:(?:,|,?\s*(?:and|or|und|oder)\b)\s*[^\s,;]*[@\d_][^\s,;]*){0,20}",
    re.I,
)  # fmt: skip


def asked(text: str) -> str:
    """The text without what was pasted from somebody else and without what must not be."""
    text = _allowed(_PASTED.sub(APART, text))
    for shape in (_HELD_BACK, _FORBIDDEN, _NOT_THIS):
        text = shape.sub(APART, text)
    return _RECEIVED.sub(lambda found: found[0].replace(found[1], APART), text)


def _allowed(text: str) -> str:
    """The text without the clauses that deny somebody something, from where each begins."""
    kept, end = "", 0
    for found in _DENIED.finditer(text):
        before = text[end : found.start()]
        begins = _BEGINNING.search(before[-LONGEST_SUBJECT:])
        kept += (
            before[: begins.start() + 1 - min(len(before), LONGEST_SUBJECT)] if begins else before[:-LONGEST_SUBJECT]
        )
        kept, end = kept + APART, found.end()
    return kept + text[end:]


def given(text: str) -> str:
    """The text without what is only called old, wrong or a fraud: no place to reach, no sum to give."""
    return (
        _PIECE.sub(lambda found: APART if _SHUNNED.search(found[0]) else found[0], text)
        if _SHUNNED.search(text)
        else text
    )
