"""The scripted agent's plan for a refund: read the rule, read the order, pay what fits, tell the customer. Pure."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from runtime.shop import answers, cases, moves
from runtime.shop.answers import usd
from runtime.shop.cases import Case, Done, FoundOrder
from runtime.shop.moves import Do, Move, Say

QUERIES = {
    "damaged": "arrived damaged or broken, refund",
    "wrong": "wrong or missing item, refund",
    "late": "late parcel not arrived, refund",
    "": "return window, how long can a product be sent back",
}
REASONS = {
    "damaged": "The product arrived damaged or does not work.",
    "wrong": "A wrong or incomplete product was delivered.",
    "late": "The parcel is more than a week late.",
    "": "The customer returns the product.",
}
DAMAGE_DAYS = 60
LATE_DAYS = 7


def refund(case: Case) -> Move:
    if "search_policy" in case.tools and case.of("search_policy") is None:
        return Do("search_policy", {"query": QUERIES[case.wish.grounds]}, "I look up our rules first.")
    order = moves.find_order(case)
    if not isinstance(order, FoundOrder):
        return order
    done = case.of("issue_refund")
    if done is None:
        return _propose(case, order)
    paid = cases.money(done.data.get("amount_usd")) if done.data.get("refunded") is True else None
    if paid is None:
        return moves.failed(case, done, "the refund")
    return _tell(case, order, done, paid)


def _propose(case: Case, order: FoundOrder) -> Move:
    """Pay, or say why not."""
    if order.refundable_usd is None:
        return moves.hand_off(case, f"The amounts of order {order.id} could not be read.")
    if order.refundable_usd == 0:
        paid = f": {usd(order.refunded_usd)}" if order.refunded_usd else ""
        return Say(f"Order {order.id} was refunded in full before{paid}. Nothing is left to pay back.{_also(case)}")
    against = _against(case, order)
    if against:
        return against
    if "issue_refund" not in case.tools:
        return moves.hand_off(case, f"A refund for order {order.id} is due, and this agent cannot pay it.")
    amount = _amount(case, order, order.refundable_usd)
    grounds = "late" if order.status == "shipped" else case.wish.grounds
    arguments = {"order_id": order.id, "amount": f"{amount:.2f}", "reason": REASONS[grounds]}
    return Do("issue_refund", arguments, f"I request a refund of {usd(amount)} for order {order.id}.")


def _against(case: Case, order: FoundOrder) -> Move | None:
    """What stands against a refund of this order now."""
    match order.status:
        case "placed" | "packed":
            return moves.hand_off(case, f"Order {order.id} is {order.status}: stop it before it is refunded.")
        case "cancelled":
            return moves.hand_off(case, f"Order {order.id} is cancelled but not refunded in full.")
        case "shipped" if order.days_late < LATE_DAYS:
            return Say(f"{answers.where(order)} {_not_yet(order)}{moves.rule(case)}{_also(case)}")
        case "delivered":
            return _against_delivered(case, order)
    return None


def _against_delivered(case: Case, order: FoundOrder) -> Move | None:
    days = order.days_since_delivery
    if case.wish.grounds == "late":
        return moves.hand_off(case, f"Order {order.id} is marked as delivered, but the customer says it is missing.")
    if case.wish.grounds in ("damaged", "wrong"):
        if days is None or days <= DAMAGE_DAYS:
            return None
        return moves.hand_off(case, f"Order {order.id} was delivered {days} days ago: this is a case for the warranty.")
    if order.row.get("within_return_window") is True:
        return None
    why = f"The return window of order {order.id} ended on {order.day('return_until')}."
    return moves.refuse(case, why, closed(case, order))


def closed(case: Case, order: FoundOrder) -> str:
    return (
        f"I am sorry, I cannot refund order {order.id} ({order.goods}): its return window ended on "
        f"{order.day('return_until')}. If the product has a fault, tell me, because the warranty may still cover it."
        f"{moves.rule(case)}{_also(case)}"
    )


def _not_yet(order: FoundOrder) -> str:
    if order.days_late:
        return "A refund is possible once it is more than a week late; I have not refunded anything now."
    return "Once it has arrived you can still send it back; I have not refunded anything now."


def _amount(case: Case, order: FoundOrder, refundable: Decimal) -> Decimal:
    """What was asked for, else the price of the product that was named, else all; at most what is left."""
    wanted = case.wish.amount or refundable
    if case.wish.amount is None:
        meant = moves.named(case.text, list(order.products)) if len(order.products) > 1 else None
        wanted = (order.prices[meant] if meant is not None else None) or refundable
        if case.wish.wants_half:
            wanted = max((wanted / 2).quantize(Decimal("0.01"), ROUND_DOWN), Decimal("0.01"))
    return min(wanted, refundable)


def _tell(case: Case, order: FoundOrder, done: Done, paid: Decimal) -> Move:
    """The refund happened: write to the customer, unless a ticket is open anyway; close with what was really paid."""
    sentence = f"{usd(paid)} for order {order.id} ({order.goods}) goes back to the card or account that paid for it."
    sent = case.of("send_reply")
    if sent is None and "send_reply" in case.tools and case.of("read_ticket") is None:
        return Do("send_reply", {"order_id": order.id, "text": f"Good news: {sentence}"}, "I let the customer know.")
    confirmed = " We have also sent you a confirmation." if sent and sent.worked else ""
    return Say(f"Done: {sentence}{_difference(case, done, paid)}{confirmed}{moves.rule(case)}{_also(case)}")


def _difference(case: Case, done: Done, paid: Decimal) -> str:
    """Why it is not what was asked for: a colleague changed it, or no more was left."""
    proposed = cases.money(done.call.arguments.get("amount")) if isinstance(done.call.arguments, dict) else None
    if proposed is not None and proposed != paid:
        return f" A colleague looked at it and set the amount; I had proposed {usd(proposed)}."
    if case.wish.amount is not None and case.wish.amount > paid:
        return f" You asked for {usd(case.wish.amount)}; more than this cannot be refunded for the order."
    return ""


def _also(case: Case) -> str:
    return answers.also(case.wish)
