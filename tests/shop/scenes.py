"""Talking to the scripted agent in a test: requests as the runtime makes them, results as it words them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from console import ids
from releases.bundles import ModelSpec
from runtime import tools
from runtime.messages import Call, Message, ModelReply, Reply, ToolResult, UserText
from runtime.providers.base import ModelRequest
from runtime.shop import agent, releasing

ALL_TOOLS = (*releasing.BOTH_HAVE, *releasing.ONLY_SECOND_HAS)

LOOKED_UP: dict[str, Any] = {
    "order_id": "10482", "customer_id": "cus_1001", "status": "delivered", "placed_on": "2026-11-10",
    "promised_on": "2026-11-15", "packed_on": "2026-11-11", "shipped_on": "2026-11-12", "delivered_on": "2026-11-15",
    "returned_on": None, "cancelled_on": None, "carrier": "Northway", "tracking": "NO0001016754", "days_late": 0,
    "days_since_delivery": 9, "return_until": "2026-12-15", "within_return_window": True, "address_can_change": False,
    "items": [
        {"product": "Aria wireless headphones", "sku": "AU-101", "quantity": 1, "unit_price_usd": "129.00"}
    ],
    "total_usd": "129.00", "shipping_usd": "0.00", "refunded_usd": "0.00", "refundable_usd": "129.00",
}  # fmt: skip
PASSAGES = {
    "passages": [
        {
            "citation": "damaged#arrived-damaged@2026.06",
            "title": "Damaged and wrong items: Arrived damaged",
            "text": "A product that arrives damaged is refunded in full or replaced. Tell us within 60 days.",
            "score": 1.2,
        }
    ]
}


def request(
    *messages: Message, before: Sequence[Message] = (), use: Sequence[str] = ALL_TOOLS, turn: int = 0
) -> ModelRequest:
    known = tools.known()
    return ModelRequest(
        model=ModelSpec(provider="scripted", name=agent.NAME),
        instructions="",
        messages=(*before, *messages),
        tools=tuple(known[name].manifest for name in use),
        run_id=ids.new(),
        thread_id=ids.new(),
        turn=turn,
        history=len(before),
    )


def talk(text: str, *results: object, before: Sequence[Message] = (), use: Sequence[str] = ALL_TOOLS) -> Reply:
    """Send a message, answer the agent's calls with these results in order, and return what it says then.

    A dict is a good result; a text is the sentence of a call that did not work.
    """
    messages: list[Message] = [UserText(text)]
    reply = agent.reply(request(*messages, before=before, use=use))
    for result in results:
        assert reply.calls, f"The agent made no call for {result!r}; it said: {reply.text}"
        messages += told(reply, result)
        reply = agent.reply(request(*messages, before=before, use=use))
    return reply


def told(reply: Reply, result: object) -> list[Message]:
    call = reply.calls[0]
    failed = isinstance(result, str)
    content = result if isinstance(result, str) else json.dumps(result)
    return [ModelReply(reply.text, reply.calls), ToolResult(call.id, call.name, content, failed)]


def asks(reply: Reply) -> tuple[str, dict[str, Any]]:
    """The one call of a reply."""
    (call,) = reply.calls
    assert isinstance(call, Call)
    assert isinstance(call.arguments, dict)
    return call.name, call.arguments


def order(**changes: Any) -> dict[str, Any]:
    """What lookup_order says of order 10482, changed so."""
    return {**LOOKED_UP, **changes}


def paid(amount: str, order_id: str = "10482") -> dict[str, Any]:
    return {
        "order_id": order_id, "refunded": True, "amount_usd": amount, "refunded_in_all_usd": amount,
        "refundable_usd": "0.00",
    }  # fmt: skip
