"""What a customer wants, read from his words by fixed rules. Pure; the same text always means the same.

The rules read a cleaned copy of the text: one kind of quote and space, no hidden characters, common words with one
wrong, missing, doubled or swapped letter put right.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from runtime.shop import phrasings


class Intent(StrEnum):
    REFUND = "refund"
    STATUS = "status"
    ADDRESS = "address"
    POLICY = "policy"
    ORDERS = "orders"
    DRAFT = "draft"
    CANCEL = "cancel"
    PERSON = "person"
    ACCOUNT = "account"  # payments, invoices, the customer's account: nothing the tools reach
    THREAT = "threat"  # law, safety, threats: a person must see it
    COMPLAINT = "complaint"
    FORBIDDEN = "forbidden"
    OFF_TOPIC = "off_topic"
    GREETING = "greeting"
    THANKS = "thanks"
    YES = "yes"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Wish:
    """The first wish of a text and what belongs to it. `also` names the further ones."""

    intent: Intent
    orders: tuple[str, ...] = ()
    amount: Decimal | None = None
    wants_half: bool = False
    grounds: str = ""  # damaged, wrong, late
    wants_other: bool = False  # "my other order"
    why_not: str = ""  # of a forbidden wish: data, price, rules, account
    also: tuple[Intent, ...] = ()


_HIDDEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "–": "-", "—": "-"})
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_KNOWN = (
    "refund refunds refunded money order orders package parcel delivery delivered address damaged broken warranty "
    "guarantee return returns returned status tracking cancel arrived arrive received receive shipping shipped policy "
    "person human lawyer discount question change headphones wrong instructions previous please thanks"
)
_WORDS = _KNOWN.split()
# Real words that are one letter away from a word above.
_REAL = (
    "older odder border honey monkey monet money's strong throng wring wrongs chance changed changes charge pleased "
    "pleases lease plead police statue statues deliver delivers parcels packages packaged arrives arrival shopping "
    "chipping whipping skipping slipping returner retire retires receives deceive deceived relieve cancels cancer "
    "chancel tracing cracking tricking trucking thinks thank banks layer lawyers humane humans parson persons persona "
    "damages dammed addresses warrants token broker brokers discounts questions refunder adders"
)
_INNOCENT = frozenset(_REAL.split())


def _one_letter_off(word: str) -> Iterator[str]:
    for i in range(len(word) + 1):
        left, right = word[:i], word[i:]
        if right:
            yield left + right[1:]
            yield from (left + letter + right[1:] for letter in _LETTERS)
        if len(right) > 1:
            yield left + right[1] + right[0] + right[2:]
        yield from (left + letter + right for letter in _LETTERS)


_TYPOS = {
    typo: word for word in reversed(_WORDS) for typo in _one_letter_off(word) if len(typo) > 4 and typo not in _INNOCENT
}
_TYPOS.update({word: word for word in _WORDS})

_ORDER_WORD = re.compile(r"(?:\border(?:s)?(?:\s+(?:number|no|nr|id))?\b[\s.:#]*(?:is\s+)?|#\s?)(\d{4,9})\b")
_ORDER_BARE = re.compile(r"(?<![\d.,$€£/-])\b(\d{4,6})\b(?![.,]\d|[/-]\d)")
_ORDER_NEXT = re.compile(r"(?:,|\band\b|&|\bor\b)\s*#?\s?(\d{4,9})\b")
_NUMBER = r"(\d{1,3}(?:,\d{3})+(?:\.\d{1,2})?|\d{1,7}(?:[.,]\d{1,2})?)"
_MONEY = re.compile(rf"(?:\$|\busd)\s?{_NUMBER}(?!\w)|\b{_NUMBER}(?:\$(?!\s?\d)|\s?(?:usd|dollars?|bucks)\b)")
_CLAUSE = re.compile(r"[.?!;\n]+(?=\s|$)|\band also\b|\balso\b|\bplus\b|,?\s\bthen\b")
_YEARS = frozenset(str(year) for year in range(2015, 2040))


# The first that fits names the clause.
_RULES = (
    (Intent.DRAFT, phrasings.DRAFT),
    (Intent.ACCOUNT, phrasings.ACCOUNT),
    (Intent.ADDRESS, phrasings.ADDRESS),
    (Intent.STATUS, phrasings.WHERE_IS_REFUND),
    (Intent.REFUND, phrasings.REFUND),
    (Intent.ORDERS, phrasings.ORDERS),
    (Intent.CANCEL, phrasings.CANCEL),
    (Intent.REFUND, phrasings.DAMAGED),
    (Intent.REFUND, phrasings.WRONG),
    (Intent.STATUS, phrasings.STATUS),
    (Intent.STATUS, phrasings.LATE),
    (Intent.PERSON, phrasings.PERSON),
    (Intent.OFF_TOPIC, phrasings.OFF_TOPIC),
    (Intent.COMPLAINT, phrasings.COMPLAINT),
)
# These mean something only where nothing else was asked.
_WEAK = (Intent.COMPLAINT, Intent.OFF_TOPIC)


def clean(text: str) -> str:
    """The text as the rules read it."""
    plain = _HIDDEN.sub("", unicodedata.normalize("NFKC", text)).translate(_QUOTES).casefold()
    plain = "".join(c for c in unicodedata.normalize("NFD", plain) if not unicodedata.combining(c))
    plain = re.sub(r"[^\S\n]+", " ", plain).strip()
    return re.sub(r"[a-z]{5,}", lambda word: _TYPOS.get(word[0], word[0]), plain)


def understand(text: str) -> Wish:
    """Read one message."""
    plain = clean(text[:4000])
    forbidden = next((why for why, pattern in phrasings.FORBIDDEN.items() if pattern.search(plain)), "")
    orders = order_numbers(plain)
    found = list(dict.fromkeys(intent for clause in _clauses(plain) if (intent := _of_clause(clause, orders))))
    grounds = _grounds(plain)
    if phrasings.THREAT.search(plain):
        return Wish(Intent.THREAT, orders, grounds=grounds)
    if forbidden and not _is_fair(forbidden, found):
        return Wish(Intent.FORBIDDEN, orders, why_not=forbidden)
    strong = [intent for intent in found if intent not in _WEAK]
    if Intent.REFUND in strong and Intent.STATUS in strong and len(orders) < 2 and not phrasings.WHERE.search(plain):
        strong.remove(Intent.STATUS)  # "it never came, I want my money back" is one wish
    wanted = strong or found or [_small_talk(plain)]
    return Wish(
        wanted[0],
        orders,
        amount=_amount(plain),
        wants_half=bool(re.search(r"\bhalf\b", plain)),
        grounds=grounds,
        wants_other=bool(phrasings.OTHER.search(plain)),
        also=tuple(wanted[1:]),
    )


def order_numbers(plain: str) -> tuple[str, ...]:
    """Numbers of orders in a cleaned text: those called so, else bare numbers of their length."""
    named: list[str] = []
    for found in _ORDER_WORD.finditer(plain):
        named.append(found[1])
        rest = plain[found.end() :]
        while following := _ORDER_NEXT.match(rest.lstrip()):
            named.append(following[1])
            rest = rest.lstrip()[following.end() :]
    money = {found[1] or found[2] for found in _MONEY.finditer(plain)}
    bare = [n for n in _ORDER_BARE.findall(plain) if n not in money and n not in _YEARS]
    return tuple(dict.fromkeys(named or bare))


def _clauses(plain: str) -> list[str]:
    return [clause.strip(" ,:-") for clause in _CLAUSE.split(plain) if clause and clause.strip(" ,:-")]


def _of_clause(clause: str, orders: tuple[str, ...]) -> Intent | None:
    asks_rule = phrasings.ASKS_RULE.search(clause) and phrasings.RULE_TOPIC.search(clause)
    if asks_rule and not orders and not phrasings.STATUS.search(clause) and not phrasings.ACCOUNT.search(clause):
        return None if phrasings.ORDERS.search(clause) else Intent.POLICY
    return next((intent for intent, pattern in _RULES if pattern.search(clause)), None)


def _is_fair(forbidden: str, found: list[Intent]) -> bool:
    """ "Can my wife change the address?" asks for a rule, not for data; "give me 20 dollars of discount on a
    scratched lamp" is a refund."""
    return (forbidden == "data" and found == [Intent.POLICY]) or (forbidden == "price" and Intent.REFUND in found)


def _grounds(plain: str) -> str:
    for name, pattern in (("damaged", phrasings.DAMAGED), ("wrong", phrasings.WRONG), ("late", phrasings.LATE)):
        if pattern.search(plain):
            return name
    return ""


def _small_talk(plain: str) -> Intent:
    if phrasings.YES.search(plain):
        return Intent.YES
    if phrasings.THANKS.search(plain) and len(plain) < 60:
        return Intent.THANKS
    if phrasings.GREETING.search(plain) and len(plain) < 60:
        return Intent.GREETING
    return Intent.GREETING if phrasings.WHO.search(plain) else Intent.UNCLEAR


def _amount(plain: str) -> Decimal | None:
    found = _MONEY.search(plain)
    if found is None:
        return None
    digits = found[1] or found[2]
    thousands = re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d{1,2})?", digits)
    amount = Decimal(digits.replace(",", "") if thousands else digits.replace(",", "."))
    return amount if amount > 0 else None
