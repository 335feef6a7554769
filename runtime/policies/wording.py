"""Words of texts and how they compare: folded, whole, with what is in a name and without what is around it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SIGNS = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy"}
COMMON = frozenset((
    "a", "about", "above", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been",
    "before", "but", "by", "can", "could", "did", "do", "does", "done", "for", "from", "get", "give", "go", "had",
    "has", "have", "he", "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its",
    "just", "let", "like", "make", "me", "more", "my", "new", "no", "not", "now", "of", "on", "one", "only", "or",
    "our", "out", "over", "please", "put", "s", "send", "set", "she", "should", "so", "some", "t", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "to", "up", "us", "use", "want", "was", "we",
    "were", "what", "when", "where", "which", "who", "will", "with", "would", "you", "your", "yes",
))  # fmt: skip


def fold(text: str) -> str:
    """The same for capitals and small letters, and for nothing else: `casefold` makes an s of the letter ſ."""
    return unicodedata.normalize("NFC", text).lower()


def name(text: str) -> str:
    """A name as it is compared: `al_lee`, `al-lee` and `al lee` are three, `@alice` and `"Alice"` one."""
    text = fold(text).replace("’", "'").strip(" \t\r\n\"'“”„«»").lstrip("@#")
    return " ".join(re.sub(r"[,;]\s+", " ", text).split())


def spoken(text: str) -> str:
    """A text in which names are looked for: its words whole, with what is in them and without what is around them.

    A second time with all that is around them, for "Acme Inc." and "Yahoo!". Currencies count as said by their sign.
    """
    plain = fold(text).replace("’", "'")
    words = [word for chunk in plain.split() for word in _spoken_words(chunk)]
    signs = [_SIGNS[sign] for sign in re.findall(r"[$€£¥](?=\s?\d)|(?<=\d)[$€£¥]|(?<=\d )[$€£¥]", text)]
    signs += ["eur"] if re.search(r"\d\s*euros?\b", plain) else []
    return " | ".join((" ".join(words), " ".join(plain.split()), *signs))


def _spoken_words(chunk: str) -> Iterator[str]:
    if chunk == "|":
        yield chunk
        return
    is_one = "://" in chunk or ("/" in chunk and "." in chunk.strip("."))
    for part in [chunk] if is_one else re.findall(r"[^,;:!?|/()\[\]{}<>\"“”„«»…–—]+", chunk):
        word = part.strip(".'‘`*~:,;!?").lstrip("@#").removesuffix("'s")
        if word:
            yield word


def close(text: str) -> str:
    """A text with one blank or line break wherever there are several, so that no expression tries each of thousands."""
    return re.sub(r"\s+", lambda run: "\n" if "\n" in run[0] else " ", text)


def words(text: str) -> list[str]:
    """The words of a text, folded."""
    return [word.casefold().replace("’", "'").removesuffix("'s") for word in _WORD.findall(text)]


def telling(text: str) -> list[str]:
    """Its words without those that every text has, and without bare numbers."""
    return [word for word in words(text) if word not in COMMON and not word.isdigit()]


def phrase(text: str) -> str:
    return " ".join(words(text))


def is_said(wanted: str, told: str) -> bool:
    """Whether the words `wanted` (a `phrase`) stand together, whole, in the phrase `told`."""
    return bool(wanted) and f" {wanted} " in f" {told} "


def shown(text: str) -> str:
    """A text as a reader takes it in: without what he does not see, wide letters as plain ones, `[.]` as a dot."""
    plain = "".join(one for one in unicodedata.normalize("NFKC", text) if unicodedata.category(one) != "Cf")
    return re.sub(r"\s?[\[({]\s?(?:\.|dot)\s?[\])}]\s?", ".", plain, flags=re.I)
