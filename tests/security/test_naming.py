"""A number names an object only with the object's word before it, and naming one is not asking to change it (D05)."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.policies import provenance
from runtime.policies.provenance import Justified, Knowledge, Labels, Origin, Unjustified

REFUND = Labels(
    effect="write", is_trusted=True, arguments={"order_id": "target", "amount": "amount", "reason": "label"}
)
SEND = Labels(
    effect="write",
    is_trusted=True,
    arguments={"order_id": "target", "street": "destination", "city": "destination", "postal_code": "destination"},
)
THERE = {"order_id": "10975", "street": "14 Broad Street", "city": "Lagos", "postal_code": "100221"}


def verdict(said: str, labels: Labels, **arguments: Any) -> Justified | Unjustified:
    known = Knowledge(is_tainted=True)
    known.hear(said)
    known.read(1, Labels(is_trusted=True), {}, {"refundable": "49.00"})
    return provenance.decide(known, labels, arguments)


def origin(said: str, argument: str, item: Any) -> Origin:
    found = verdict(said, Labels(effect="write", arguments={argument: "target"}), **{argument: item})
    return found.evidence[0].source.origin


@pytest.mark.parametrize(
    ("said", "argument", "item", "is_named"),
    [
        ("Where is order 10471?", "order_id", "10471", True),
        ("ORDER #10471 please", "order_id", "10471", True),
        ("order no. 10471", "order_id", 10471, True),
        ("order number: 10471", "order_number", "10471", True),
        ("Delete file 13", "file_id", "13", True),
        ("the report of June 13", "file_id", "13", False),
        ("13 files", "file_id", "13", False),
        ("order 10471", "file_id", "10471", False),
        ("border 10471", "order_id", "10471", False),
        ("re-order 10471", "order_id", "10471", False),
        ("order 104711", "order_id", "10471", False),
        ("order 10471.50", "order_id", "10471", False),
        ("order 0010471", "order_id", "10471", False),
        ("order 10471-2", "order_id", "10471", False),
        ("order 10482, 10471", "order_id", "10471", False),
        ("id 13", "id", "13", False),
        ("order \uff11\uff10\uff14\uff17\uff11", "order_id", "10471", False),
        ("\u043erder 10471", "order_id", "10471", False),
    ],
)
def test_a_number_names_what_its_word_says(said: str, argument: str, item: Any, is_named: bool):
    assert origin(said, argument, item) == (Origin.NAMED if is_named else Origin.NOBODY)


def test_to_name_an_order_is_not_to_ask_for_a_refund():
    """The amount is the system's own figure, so nothing of the call is what the user asked for."""
    found = verdict("Where is order 10471?", REFUND, order_id="10471", amount="49.00", reason="It is broken.")

    assert isinstance(found, Unjustified)
    assert found.rule == "provenance-untied"


def test_who_has_typed_the_amount_as_well_has_asked_for_it():
    found = verdict("Refund $49.00 for order 10471", REFUND, order_id="10471", amount="49.00", reason="It is broken.")

    assert isinstance(found, Justified)


def test_a_postal_code_beside_its_town_is_part_of_the_address():
    assert isinstance(verdict("Send order 10975 to 14 Broad Street, 100221 Lagos.", SEND, **THERE), Justified)
    assert isinstance(verdict("Send order 10975 to 14 Broad Street, Lagos 100221.", SEND, **THERE), Justified)


@pytest.mark.parametrize("near", ["100222", "10022", "00221", "221"])
def test_another_number_is_no_part_of_it(near: str):
    said = "Send order 10975 to 14 Broad Street, 100221 Lagos."

    found = verdict(said, SEND, **{**THERE, "postal_code": near})

    assert isinstance(found, Unjustified)
    assert "postal_code" in found.reason


def test_a_number_beside_something_else_is_no_part_of_it():
    said = "Send order 10975 to 14 Broad Street, Lagos. My budget is 100221."

    assert isinstance(verdict(said, SEND, **THERE), Unjustified)
