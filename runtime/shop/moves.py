"""What the scripted agent can do next, and the moves that all its plans share. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.shop import answers, cases, wishes
from runtime.shop.cases import Case, Done, FoundOrder, Outcome
from runtime.shop.wishes import Intent


@dataclass(frozen=True)
class Do:
    """Call a tool; `say` is what the agent writes meanwhile."""

    tool: str
    arguments: Mapping[str, Any]
    say: str = ""


@dataclass(frozen=True)
class Say:
    """The last words of this run."""

    text: str


Move = Do | Say


def hand_off(case: Case, reason: str) -> Move:
    """Give it to a person; without the tool, say how to reach one."""
    if "hand_off" not in case.tools:
        return Say(answers.STUCK)
    did = "; ".join(f"{done.call.name}: {done.outcome}" for done in case.done) or "nothing yet"
    summary = f"The customer wrote: {_quoted(case.text)}\nDone so far: {did}."
    return Do("hand_off", {"reason": reason, "summary": summary}, "I am handing this to a colleague.")


def refuse(case: Case, reason: str, say: str) -> Move:
    """Decline for good. What the customer is told is kept apart from the reason in the trace."""
    return Do("refuse", {"reason": reason}) if "refuse" in case.tools and case.of("refuse") is None else Say(say)


def failed(case: Case, done: Done, doing: str) -> Move:
    """What to do about a call that was not made or did not work. `doing` names it: "the refund"."""
    match done.outcome:
        case Outcome.REJECTED:
            decided = f"A colleague looked at {doing} and decided against it: {_sentence(done.why)}"
            return Say(f"{decided} {answers.OFFER_PERSON}{answers.also(case.wish)}")
        case Outcome.SWITCHED_OFF:
            sorry = switched_off(doing)
            return refuse(case, f"{done.call.name} is switched off: {_sentence(done.why)}", sorry)
        case _:
            return hand_off(case, f"{doing[:1].upper()}{doing[1:]} did not work: {_sentence(done.why)}"[:500])


def switched_off(doing: str) -> str:
    return (
        f"I am sorry, I cannot do this at the moment: {doing} is switched off for now. Nothing was changed or paid. "
        "Please try again later, or ask for a person."
    )


def passage(case: Case) -> Mapping[str, Any] | None:
    """The best passage of this run's search."""
    done = case.of("search_policy")
    found = done.data.get("passages") if done else None
    best = found[0] if isinstance(found, list) and found else None
    return best if isinstance(best, dict) and isinstance(best.get("citation"), str) else None


def rule(case: Case) -> str:
    """The rule an answer rests on, with its citation; empty when none was read."""
    best = passage(case)
    return f" The rule: {best.get('title', 'our policies')} [{best['citation']}]." if best else ""


def find_order(case: Case) -> FoundOrder | Move:
    """The order the wish is about, looked up; or the next move on the way to it."""
    wanted = case.wish.orders[0] if case.wish.orders else None
    if wanted is None:
        chosen = _choose(case)
        if not isinstance(chosen, str):
            return chosen
        wanted = chosen
    if "lookup_order" not in case.tools:
        return hand_off(case, f"Order {wanted} has to be looked at, and this agent cannot do that.")
    done = case.lookup(wanted)
    if done is None:
        return Do("lookup_order", {"order_id": wanted}, f"Let me look at order {wanted}.")
    found = cases.order(done.data)
    if found:
        return found
    if done.outcome == Outcome.FAILED and "no order" in done.why:
        return Say(
            f"I cannot find an order {wanted} of yours. Please check the number; it is in the confirmation we sent you."
            f"{answers.also(case.wish)}"
        )
    return failed(case, done, "looking at orders")


def _choose(case: Case) -> str | Move:
    """Without a number: the order that the words, the list of orders or the conversation point to."""
    if "list_orders" not in case.tools:
        return _from_talk(case) or Say(f"{answers.WHICH_ORDER} Please send me its number.")
    done = case.of("list_orders")
    if done is None:
        return Do("list_orders", {}, "Let me see which orders you have.")
    known = cases.orders(done.data)
    if not known and not done.worked:
        return _from_talk(case) or Say(f"{answers.WHICH_ORDER} Please send me its number.")
    if not known:
        return Say(answers.NO_ORDERS)
    return _point(case, known) or Say(f"{answers.WHICH_ORDER} I see these:\n{answers.listed(known[:5])}")


def _point(case: Case, known: list[FoundOrder]) -> str | None:
    if case.wish.wants_other:
        known = [order for order in known if order.id not in case.discussed[:1]]
    meant = _named(case, known)
    if meant:
        return meant
    if len(known) == 1:
        return known[0].id
    underway = [order for order in known if order.status in ("placed", "packed", "shipped")]
    if case.wish.intent in (Intent.STATUS, Intent.ADDRESS, Intent.CANCEL) and len(underway) == 1:
        return underway[0].id
    talked = _from_talk(case)
    return talked if talked in {order.id for order in known} and not case.wish.wants_other else None


def _named(case: Case, known: list[FoundOrder]) -> str | None:
    """The one order with a product that the message names."""
    found = named(case.text, [" ".join(order.products) for order in known])
    return known[found].id if found is not None else None


def named(text: str, products: list[str]) -> int | None:
    """Which of these names a text speaks of; None when none or several fit as well."""
    said = _words(text)
    scores = [len(said & _words(product)) for product in products]
    best = max(scores, default=0)
    return scores.index(best) if best and scores.count(best) == 1 else None


def _words(text: str) -> set[str]:
    words = set(re.findall(r"[a-z]{4,}", wishes.clean(text)))
    return words | {word.removesuffix("s") for word in words}


def _from_talk(case: Case) -> str | None:
    skip = 1 if case.wish.wants_other else 0
    return case.discussed[skip] if len(case.discussed) > skip else None


def _quoted(text: str) -> str:
    """At most 800 characters, without what a database cannot keep."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()[:800] or "(nothing)"


def _sentence(text: str) -> str:
    text = " ".join(text.split())[:300] or "no reason was given"
    return text if text.endswith((".", "!", "?")) else f"{text}."
