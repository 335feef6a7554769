"""What of the user's words speaks for a value: not what he passes on from a stranger, and not what he forbids.

"Do not send it to x@y.org" names an address, and so does a mail that he has pasted to ask whether it is genuine.
Neither asks for anything to go there.
"""

from __future__ import annotations

import re

APART = " | "  # stands where something was left out, so that what was around it does not become neighbours
_PASTED = re.compile(
    r"^[ \t]*>.*$"
    r"|^[ \t]*(?:begin forwarded message|-{3,}[^\n]*(?:original|forwarded|ursprüngliche|weitergeleitete)[^\n]*)\b"
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
# Only what follows at once: "pay X instead of Y", "to X, not to Y".
_NOT_THIS = re.compile(
    r"(?:,\s*not|\b(?:and|but)\s+not|\binstead\s+of|\brather\s+than|\bexcept(?:\s+for)?|\bnicht\s+an|\banstatt|\bstatt)\b"
    r"(?:\s+(?:to|for|with|from|an|at|it|sending|paying|using|the|die|das|den)\b){0,4}"
    r"\s+(?-i:[^\s,;]+(?:\s+[A-Z0-9][^\s,;]*){0,9})"
    r"(?:(?:,|,?\s*(?:and|or|und|oder)\b)\s*[^\s,;]*[@\d_][^\s,;]*){0,20}",
    re.I,
)  # fmt: skip


def asked(text: str) -> str:
    """The text without what was pasted from somebody else and without what must not be."""
    for shape in (_PASTED, _FORBIDDEN, _NOT_THIS):
        text = shape.sub(APART, text)
    return _RECEIVED.sub(lambda found: found[0].replace(found[1], APART), text)
