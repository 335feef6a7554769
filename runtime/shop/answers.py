"""The sentences of the scripted agent. Every figure comes from a tool's result or from the customer."""

from __future__ import annotations

from decimal import Decimal

from runtime.shop.cases import FoundOrder
from runtime.shop.wishes import Intent, Wish

WHICH_ORDER = "Which order is it about?"
ASK_ADDRESS = "Please write the new address like this: street and number, postal code and city, country."
OFFER_PERSON = "If you would like to talk to a colleague, just answer “a person please”."
CAN_DO = (
    "I can help with orders, deliveries, refunds, address changes and questions about our policies. "
    "Tell me what it is about and, if you have it, the order number."
)
GREETING = f"Hello! {CAN_DO}"
THANKS = "You are welcome. Write again whenever something is open."
UNCLEAR = f"I am not sure what you need. {CAN_DO}"
HANDED_OFF = (
    "I have handed this to a colleague, who reads the whole conversation and answers you. You need not repeat anything."
)
NOT_HANDED_OFF = (
    "I could not reach a colleague just now, and nothing else was changed. Please write again in a few minutes."
)
STUCK = f"I could not get any further with this, and I have not changed anything more. {OFFER_PERSON}"
NO_PASSAGE = f"I found nothing about that in our policies, so I would rather not guess. {OFFER_PERSON}"
NO_SEARCH = f"I cannot look into our policies at the moment. {OFFER_PERSON}"
NO_LIST = f"I cannot look at your orders at the moment. {OFFER_PERSON}"
NO_ORDERS = "I found no orders for you."

WHY_NOT = {
    "data": "I can only speak about your own orders and data, never about those of somebody else.",
    "price": "I cannot change prices or give discounts. What you see in the shop is the price for everyone.",
    "rules": "I keep to the shop's rules, whoever asks. I can look at an order of yours if you give me its number.",
    "account": "A refund only ever goes back to the card or account that paid for the order.",
    "off_topic": f"That is outside of what I can do here. {CAN_DO}",
}
ALSO = {
    Intent.REFUND: "the refund",
    Intent.STATUS: "where an order is",
    Intent.ADDRESS: "the address change",
    Intent.POLICY: "your question about our policies",
    Intent.ORDERS: "the list of your orders",
    Intent.CANCEL: "the cancellation",
    Intent.DRAFT: "the draft",
    Intent.PERSON: "talking to a colleague",
    Intent.ACCOUNT: "a payment or your account",
}


def usd(amount: Decimal) -> str:
    return f"${amount:.2f}"


def also(wish: Wish) -> str:
    """That only the first of several wishes, or of several orders, was looked at."""
    named = [ALSO[intent] for intent in wish.also if intent in ALSO]
    if not named and len(wish.orders) > 1:
        named = [f"order {order}" for order in wish.orders[1:4]]
    if not named:
        return ""
    return f" You also asked about {' and '.join(named)}: send that as your next message and I will look at it."


def listed(orders: list[FoundOrder]) -> str:
    return "\n".join(f"- order {order.id}: {order.goods}, {_state(order)}" for order in orders)


def where(order: FoundOrder) -> str:
    """Where an order is, in one or two sentences."""
    start = f"Order {order.id} ({order.goods})"
    promised = order.day("promised_on")
    match order.status:
        case "placed":
            placed = order.day("placed_on")
            return f"{start} was placed on {placed} and is being prepared. It is promised for {promised}."
        case "packed":
            return f"{start} is packed and waits for the carrier. It is promised for {promised}."
        case "shipped":
            late = f" I am sorry: it is {order.days_late} days late." if order.days_late else ""
            tracking = f" Tracking: {order.day('carrier')} {order.day('tracking')}." if order.day("tracking") else ""
            return f"{start} left on {order.day('shipped_on')} and is promised for {promised}.{tracking}{late}"
        case "delivered":
            return f"{start} was delivered on {order.day('delivered_on')}."
        case "returned":
            return f"{start} came back to us on {order.day('returned_on')}."
        case "cancelled":
            return f"{start} was cancelled on {order.day('cancelled_on')}."
    return f"{start} has the status {order.status or 'unknown'}."


def refunded(order: FoundOrder) -> str:
    """What was paid back before."""
    paid = f"{usd(order.refunded_usd)} was" if order.refunded_usd else "So far nothing was"
    return f" {paid} paid back for it."


def _state(order: FoundOrder) -> str:
    day = order.day("delivered_on") if order.status == "delivered" else order.day("placed_on")
    word = "placed" if order.status != "delivered" else "delivered"
    return f"{word} on {day}" if order.status in ("placed", "delivered") else f"placed on {day}, {order.status}"
