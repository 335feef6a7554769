"""What the scripted agent knows: the message, what was done in this run, what was said before. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

from runtime.messages import Call, ModelReply, ToolResult, UserText
from runtime.providers.base import ModelRequest
from runtime.shop import wishes


class Outcome(StrEnum):
    DONE = "done"
    REJECTED = "rejected"  # a person said no
    SWITCHED_OFF = "switched_off"  # a kill switch
    REFUSED = "refused"  # the gate said no
    FAILED = "failed"  # the tool said no, or broke


# How the runtime begins the sentence that stands in place of a result.
REJECTED = "A person rejected this call. Reason:"
SWITCHED_OFF = "The call was not made. Kill switch:"
REFUSED = "The call was not made."
TOOL_SAID = "The tool said:"


@dataclass(frozen=True)
class Done:
    """One finished call of this run."""

    call: Call
    content: str
    outcome: Outcome

    @property
    def worked(self) -> bool:
        return self.outcome == Outcome.DONE

    @property
    def data(self) -> Mapping[str, Any]:
        """The result as an object; empty when it is none."""
        try:
            value = json.loads(self.content) if self.worked else None
        except (ValueError, RecursionError):
            value = None
        return value if isinstance(value, dict) else {}

    @property
    def why(self) -> str:
        """The sentence of a failure without the words in front that the runtime puts there."""
        for start in (REJECTED, SWITCHED_OFF, REFUSED, TOOL_SAID):
            if self.content.startswith(start):
                return self.content.removeprefix(start).strip()
        return self.content.strip()


@dataclass(frozen=True)
class FoundOrder:
    """An order as lookup_order or list_orders shows it; what is not shown is empty."""

    id: str
    status: str
    total_usd: Decimal | None
    refunded_usd: Decimal | None
    refundable_usd: Decimal | None
    days_late: int
    days_since_delivery: int | None
    products: tuple[str, ...]
    prices: tuple[Decimal | None, ...]  # of each product, times its quantity; as long as `products`
    row: Mapping[str, Any]

    def day(self, name: str) -> str:
        return str(self.row.get(name) or "")

    @property
    def goods(self) -> str:
        return " and ".join(self.products[:3]) or "your order"


@dataclass(frozen=True)
class Case:
    text: str
    wish: wishes.Wish
    done: tuple[Done, ...]
    tools: frozenset[str]
    heard: tuple[str, ...]  # what the customer wrote in earlier runs, oldest first
    said: tuple[str, ...]  # what was answered then
    turn: int

    def of(self, tool: str) -> Done | None:
        """The last call of a tool in this run."""
        return next((done for done in reversed(self.done) if done.call.name == tool), None)

    def lookup(self, order_id: str) -> Done | None:
        looked = [done for done in self.done if done.call.name == "lookup_order"]
        return next((done for done in reversed(looked) if _argument(done, "order_id") == order_id), None)

    @property
    def discussed(self) -> tuple[str, ...]:
        """Order numbers of earlier runs, last mentioned first; a list of all orders is no mention."""
        texts = [text for pair in zip(self.heard, (*self.said, *[""] * len(self.heard)), strict=False) for text in pair]
        numbers: list[str] = []
        for text in texts:
            mentioned = wishes.order_numbers(wishes.clean(text))
            numbers += mentioned if len(mentioned) == 1 else ()
        return tuple(dict.fromkeys(reversed(numbers)))

    @property
    def last_said(self) -> str:
        return self.said[-1] if self.said else ""


def read(request: ModelRequest) -> Case:
    before, current = request.messages[: request.history], request.messages[request.history :]
    text = next((m.text for m in reversed(current) if isinstance(m, UserText)), "")
    return Case(
        text=text,
        wish=wishes.understand(text),
        done=_finished(current),
        tools=frozenset(tool.name for tool in request.tools),
        heard=tuple(m.text for m in before if isinstance(m, UserText)),
        said=tuple(m.text for m in before if isinstance(m, ModelReply)),
        turn=request.turn,
    )


def order(row: Any) -> FoundOrder | None:
    """An order out of a tool's result; None when the result is not one."""
    if not isinstance(row, Mapping) or not row.get("order_id"):
        return None
    listed = row["items"] if isinstance(row.get("items"), list) else []
    items = [item if isinstance(item, Mapping) else {"product": item} for item in listed]
    items = [item for item in items if item.get("product")]
    return FoundOrder(
        id=str(row["order_id"]),
        status=str(row.get("status") or ""),
        total_usd=money(row.get("total_usd")),
        refunded_usd=money(row.get("refunded_usd")),
        refundable_usd=money(row.get("refundable_usd")),
        days_late=_whole(row.get("days_late")) or 0,
        days_since_delivery=_whole(row.get("days_since_delivery")),
        products=tuple(str(item["product"]) for item in items),
        prices=tuple(_line_price(item) for item in items),
        row=row,
    )


def orders(data: Mapping[str, Any]) -> list[FoundOrder]:
    rows = data.get("orders")
    return [found for row in rows if (found := order(row))] if isinstance(rows, list) else []


def money(value: Any) -> Decimal | None:
    if not isinstance(value, str) or not re.fullmatch(r"\d{1,9}(\.\d{1,2})?", value):
        return None
    try:
        return Decimal(value).quantize(Decimal("0.01"))
    except InvalidOperation:
        return None


def _finished(messages: tuple[Any, ...]) -> tuple[Done, ...]:
    calls = {call.id: call for message in messages if isinstance(message, ModelReply) for call in message.calls}
    return tuple(
        Done(calls.get(result.call_id, Call(result.call_id, result.name, {})), result.content, _outcome(result))
        for result in messages
        if isinstance(result, ToolResult)
    )


def _outcome(result: ToolResult) -> Outcome:
    if not result.is_error:
        return Outcome.DONE
    for start, outcome in (
        (REJECTED, Outcome.REJECTED),
        (SWITCHED_OFF, Outcome.SWITCHED_OFF),
        (REFUSED, Outcome.REFUSED),
    ):
        if result.content.startswith(start):
            return outcome
    return Outcome.FAILED


def _argument(done: Done, name: str) -> Any:
    return done.call.arguments.get(name) if isinstance(done.call.arguments, dict) else None


def _line_price(item: Mapping[str, Any]) -> Decimal | None:
    price, quantity = money(item.get("unit_price_usd")), _whole(item.get("quantity"))
    return price * quantity if price is not None and quantity is not None and 0 < quantity < 1000 else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
