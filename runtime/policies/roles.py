"""What part a bare word plays in a clause of the user's: a value that he gives, an act, or somebody that there is.

"Make her an admin" gives the role; "ask the admin" and "write a comment" give none.
"""

from __future__ import annotations

import re

_ARTICLE = r"the|my|our|your|his|her|their|de[rnm]|die|das|mein\w*|unser\w*|le|la|les|el|los|las"
_GETS = (
    r"gets?\b|should\b|must\b|shall\b|will\b|needs?\b|ha(?:s|ve)\s+to\b|and\b|or\b"
    r"|bekomm|soll|erh[aä]lt|müssen\b|muss\b|und\b"
)
_DEFINITE = re.compile(rf"\b(?!her$)(?:{_ARTICLE})$", re.I)  # "make her admin" gives a role
_OBJECT = re.compile(
    r"\s+(?:an?|the|my|our|your|his|her|their|this|that|it|me|us|him|them|ein\w*|de[rnm]|das|die)\b", re.I
)  # what follows a verb
# After "the …", these words say that a value is given.
_VALUED = {
    "role", "permission", "access", "right", "level", "plan", "mode", "status", "option", "rolle", "recht", "zugriff",
    "stufe", "rôle", "rol",
}  # fmt: skip
_LETTER = re.compile(r"[A-Z][+-]?")


def is_value(text: str, word: str, of: frozenset[str]) -> bool | None:
    """Whether a clause gives a word as a value: not as what is done, nor as somebody or something that there is.

    "Make her an admin" and "the admin role" do; "ask the admin" and "write a comment" do not. `of` are the words of the
    argument: "the express service" gives the `service`. None where the clause has no such word.
    """
    found = list(re.finditer(rf"(?<![^\W\d])(?<!-){re.escape(word)}(?![\w-])", text, re.I))
    return any(_is_given(text[: one.start()], text[one.end() :], of) for one in found) if found else None


def _is_given(before: str, after: str, of: frozenset[str]) -> bool:
    following = re.match(r"\W*([^\W\d_]*)", after.casefold())
    next_word = (following[1] if following else "").removesuffix("s")
    is_act = _OBJECT.match(after) or (not before.strip() and re.match(r"\s+to\b", after, re.I))
    is_somebody = _DEFINITE.search(before.rstrip()) and next_word not in (of | _VALUED)
    return not (is_act or is_somebody)


def is_subject(text: str, word: str) -> bool:
    """Whether a clause begins with who does something himself: "the parents complained", not "tell the parents"."""
    begins = re.match(rf"\W*(?:{_ARTICLE})\s+{re.escape(word)}(?![\w-])\s+(?!{_GETS})[^\W\d_]", text, re.I)
    return begins is not None and len(re.findall(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text, re.I)) == 1


def is_letter(text: str, given: str) -> bool:
    """Whether a clause gives a single letter, as a grade is: "an A", "B+"."""
    if not _LETTER.fullmatch(given):
        return False
    before = r"\b(?:an|grade|mark|class|level|type|group|option|plan|note)\s+" if given in "AI" else r"(?:^|\s)"
    return bool(re.search(rf"{before}[\"'“‘]?{re.escape(given)}(?![\w+-])", text))
