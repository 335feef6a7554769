"""The scripted support agent `support-rules`: rules instead of a model, the same answer for the same conversation.

Each request is read anew: the wish from the customer's words, the progress from the results of this run. So it needs
no memory, survives restarts, and can only say what a result says.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from runtime.messages import Call, Reply
from runtime.providers.base import ModelRequest
from runtime.shop import addresses, answers, cases, moves, refunding, tickets
from runtime.shop.cases import Case, FoundOrder
from runtime.shop.moves import Do, Move, Say
from runtime.shop.wishes import Intent, Wish, clean, understand

NAME = "support-rules"
CUSTOMER_ID = re.compile(r"\bcus_\d{1,9}\b")


def reply(request: ModelRequest) -> Reply:
    """Answer one request. Pure: reads nothing but the request."""
    case = cases.read(request)
    case = tickets.obey(replace(case, wish=_settled(case)))
    move = tickets.read(case) or _closing(case) or tickets.told(case) or PLANS[case.wish.intent](case)
    if isinstance(move, Do) and (move.tool not in case.tools or _was_made(case, move)):
        move = Say(answers.STUCK)
    if isinstance(move, Say):
        return Reply(text=move.text)
    call = Call(f"call_{case.turn}_{len(case.done) + 1}", move.tool, dict(move.arguments))
    return Reply(text=move.say, calls=(call,))


def _settled(case: Case) -> Wish:
    """The wish with what the conversation before says about it: an answer to a question of ours, or a "yes"."""
    wish = case.wish
    if wish.intent == Intent.YES and answers.OFFER_PERSON in case.last_said:
        return replace(wish, intent=Intent.PERSON)
    if wish.intent not in (Intent.UNCLEAR, Intent.YES, Intent.GREETING):
        return wish
    if answers.ASK_ADDRESS in case.last_said and addresses.find(case.text):
        return replace(wish, intent=Intent.ADDRESS, orders=case.discussed[:1])
    if answers.WHICH_ORDER in case.last_said:
        asked = next((was for text in reversed(case.heard) if (was := understand(text)).intent in _ABOUT_ORDERS), None)
        if asked:
            return replace(asked, orders=wish.orders or asked.orders, also=())
    if wish.orders:
        return replace(wish, intent=Intent.STATUS)
    return wish


_ABOUT_ORDERS = frozenset({Intent.REFUND, Intent.STATUS, Intent.ADDRESS, Intent.CANCEL, Intent.DRAFT})


def _closing(case: Case) -> Move | None:
    """The last words after the run was handed off or declined."""
    handed = case.of("hand_off")
    if handed:
        return Say(answers.HANDED_OFF if handed.worked else answers.NOT_HANDED_OFF)
    declined = case.of("refuse")
    if declined is None:
        return None
    stopped = next((done for done in case.done if done.outcome == cases.Outcome.SWITCHED_OFF), None)
    if stopped:
        return Say(moves.switched_off(_DOING.get(stopped.call.name, "this")))
    if case.wish.intent == Intent.REFUND:
        order = moves.find_order(case)
        return Say(refunding.closed(case, order)) if isinstance(order, FoundOrder) else Say(answers.STUCK)
    return Say(_why_not(case))


_DOING = {
    "issue_refund": "the refund",
    "change_address": "the address change",
    "lookup_order": "looking at orders",
    "list_orders": "looking at orders",
    "search_policy": "the search in our policies",
    "save_draft": "saving drafts",
    "read_ticket": "reading tickets",
}


def _was_made(case: Case, move: Do) -> bool:
    """Whether exactly this call was made in this run: making it again would only repeat its outcome."""
    return any(done.call.name == move.tool and done.call.arguments == dict(move.arguments) for done in case.done)


def _status(case: Case) -> Move:
    order = moves.find_order(case)
    if not isinstance(order, FoundOrder):
        return order
    if order.status == "delivered" and case.wish.grounds == "late":
        return moves.hand_off(case, f"Order {order.id} is marked as delivered, but the customer says it is not there.")
    paid = answers.refunded(order) if "refund" in (words := clean(case.text)) or "money" in words else ""
    return Say(f"{answers.where(order)}{paid}{answers.also(case.wish)}")


def _address(case: Case) -> Move:
    order = moves.find_order(case)
    if not isinstance(order, FoundOrder):
        return order
    if order.row.get("address_can_change") is not True:
        return _too_late(case, order)
    address = addresses.find(case.text)
    if len(address) < 4:
        return Say(f"I can change where order {order.id} goes. {answers.ASK_ADDRESS}{answers.also(case.wish)}")
    if "change_address" not in case.tools:
        return moves.hand_off(case, f"The address of order {order.id} should change, and this agent cannot do that.")
    done = case.of("change_address")
    if done is None:
        arguments = {"order_id": order.id, **address, "is_packed": order.status == "packed"}
        return Do("change_address", arguments, f"I request the new address for order {order.id}.")
    if done.data.get("changed") is not True:
        return moves.failed(case, done, "the address change")
    goes = ", ".join(str(done.data.get(part, "")) for part in ("street", "postal_code", "city", "country"))
    return Say(f"Done: order {order.id} now goes to {goes}.{answers.also(case.wish)}")


def _too_late(case: Case, order: FoundOrder) -> Move:
    if "search_policy" in case.tools and case.of("search_policy") is None:
        return Do("search_policy", {"query": "address change after shipping, redirect the parcel"})
    return Say(
        f"I cannot change where order {order.id} goes: its status is {order.status}. The carrier's tracking page "
        f"often lets you choose a pick-up point.{moves.rule(case)}{answers.also(case.wish)}"
    )


def _policy(case: Case) -> Move:
    done = case.of("search_policy")
    if done is None:
        query = case.text.replace("\0", " ").strip()[:500]
        return Do("search_policy", {"query": query}) if "search_policy" in case.tools else Say(answers.NO_SEARCH)
    if not done.worked:
        return Say(answers.NO_SEARCH)
    best = moves.passage(case)
    if best is None:
        return Say(answers.NO_PASSAGE)
    return Say(f"{best.get('text', '')} [{best['citation']}]{answers.also(case.wish)}")


def _orders(case: Case) -> Move:
    done = case.of("list_orders")
    if done is None:
        asked = CUSTOMER_ID.search(case.text)
        arguments = {"customer_id": asked[0]} if asked else {}
        return Do("list_orders", arguments) if "list_orders" in case.tools else Say(answers.NO_LIST)
    if done.outcome == cases.Outcome.FAILED and "no customer" in done.why:
        return moves.refuse(case, "Orders of another customer were asked for.", answers.WHY_NOT["data"])
    if not done.worked:
        return Say(answers.NO_LIST)
    known = cases.orders(done.data)
    if not known:
        return Say(answers.NO_ORDERS)
    more = "\nThere are older ones as well." if done.data.get("more") is True else ""
    return Say(f"These are the newest orders:\n{answers.listed(known)}{more}{answers.also(case.wish)}")


def _draft(case: Case) -> Move:
    order = moves.find_order(case)
    if not isinstance(order, FoundOrder):
        return order
    text = f"Hello,\n\n{answers.where(order)}\n\nKind regards"
    if "save_draft" not in case.tools:
        return Say(f"I cannot save drafts here. This is what I would write:\n\n{text}")
    done = case.of("save_draft")
    if done is None:
        return Do("save_draft", {"order_id": order.id, "text": text}, "I save a draft; nothing is sent.")
    if not done.worked:
        return moves.failed(case, done, "saving the draft")
    return Say(f"I saved this draft for order {order.id}; it was not sent:\n\n{text}{answers.also(case.wish)}")


def _cancel(case: Case) -> Move:
    order = moves.find_order(case)
    if not isinstance(order, FoundOrder):
        return order
    if order.status in ("placed", "packed"):
        return moves.hand_off(case, f"Order {order.id} should be cancelled before it is shipped.")
    return Say(f"{answers.where(order)} It can no longer be cancelled.{answers.also(case.wish)}")


def _person(case: Case) -> Move:
    return moves.hand_off(case, "The customer asks for a person.")


def _account(case: Case) -> Move:
    return moves.hand_off(case, "The message is about a payment, an invoice or the customer's account.")


def _threat(case: Case) -> Move:
    return moves.hand_off(case, "The message is about safety, the law, or contains a threat.")


def _complaint(case: Case) -> Move:
    return moves.hand_off(case, "The customer complains.")


def _decline(case: Case) -> Move:
    return moves.refuse(case, _why_not(case), _why_not(case))


def _why_not(case: Case) -> str:
    if case.wish.intent == Intent.OFF_TOPIC:
        return answers.WHY_NOT["off_topic"]
    return answers.WHY_NOT.get(case.wish.why_not, answers.WHY_NOT["data"])


PLANS: dict[Intent, Callable[[Case], Move]] = {
    Intent.REFUND: refunding.refund,
    Intent.STATUS: _status,
    Intent.ADDRESS: _address,
    Intent.POLICY: _policy,
    Intent.ORDERS: _orders,
    Intent.DRAFT: _draft,
    Intent.CANCEL: _cancel,
    Intent.PERSON: _person,
    Intent.ACCOUNT: _account,
    Intent.THREAT: _threat,
    Intent.COMPLAINT: _complaint,
    Intent.FORBIDDEN: _decline,
    Intent.OFF_TOPIC: _decline,
    Intent.GREETING: lambda case: Say(answers.GREETING),
    Intent.THANKS: lambda case: Say(answers.THANKS),
    Intent.YES: lambda case: Say(answers.UNCLEAR),
    Intent.UNCLEAR: lambda case: Say(answers.UNCLEAR),
}
