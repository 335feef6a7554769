"""How people say numbers and days, and which number is no figure at all."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from runtime.policies import provenance
from runtime.policies.provenance import Justified, Knowledge, Labels

TODAY = date(2026, 11, 28)  # a Saturday


def is_let(said: str, kind: str, today: date | None = TODAY, **arguments: Any) -> bool:
    known = Knowledge(is_tainted=True, today=today)
    known.hear(said)
    labels = Labels(effect="write", arguments=dict.fromkeys(arguments, kind))
    return isinstance(provenance.decide(known, labels, arguments), Justified)


@pytest.mark.parametrize(
    ("said", "day", "is_said"),
    [
        ("Book it for tomorrow", "2026-11-29", True),
        ("Book it for tomorrow", "2026-11-30", False),
        ("Bring es übermorgen", "2026-11-30", True),
        ("Book it for tmrw", "2026-11-29", True),
        ("Book it for Friday", "2026-12-04", True),
        ("Book it for Friday", "2026-12-11", False),
        ("Book it for next Friday", "2026-12-11", True),
        ("Book it in two weeks", "2026-12-12", True),
        ("Book it from 1 to 5 March 2027", "2027-03-01", True),
        ("Book it for March 5", "2027-03-05", True),
        ("Book it for March 5", "2099-03-05", False),
        ("Book it for March 5, 2099", "2099-03-05", True),
        ("Book it for 2 January 2027 at 9", "2027-01-02T09:00:00Z", True),
        ("Book it for 2 January 2027 at 9", "2027-01-02T09:00:00+09:00", False),
        ("Book it for 2 January 2027 at noon", "2027-01-02T12:00:00.000Z", True),
    ],
)
def test_a_day_is_seen_from_today(said: str, day: str, is_said: bool):
    assert is_let(said, "commitment", when=day) is is_said


def test_a_run_that_does_not_know_today_takes_a_day_of_any_year_and_none_that_is_not_written_out():
    assert is_let("Book it for March 5", "commitment", None, when="2099-03-05")
    assert not is_let("Book it for tomorrow", "commitment", None, when="2026-11-29")


@pytest.mark.parametrize(
    ("said", "argument", "number", "is_said"),
    [
        ("Extend it by 3 days", "days", 3, True),
        ("Extend it by three days", "extra_days", 3, True),
        ("Extend it by 3 days, the class has 28 pupils", "days", 28, False),
        ("Raise it by 3 %", "percent", 3, True),
        ("Raise it by 3 % after 25 years", "percent", 25, False),
        ("Give 500mg of it", "dose", 500, True),
        ("Give 2.5 ml of it to the dog of 31 kg", "millilitres", 31, False),
        ("Move 3 pallets from 140 Broad Street", "pallets", 140, False),
        ("Order 5 chairs", "quantity", 5, True),
        ("Pay a bonus of 2k EUR", "amount", 2000, True),
        ("Zahle 1.500 EUR", "amount", 1500, True),
        ("Zahle 1.500 EUR", "amount", 1.5, True),
        ("Pay for room 4120", "amount", 4120, False),
        ("Pay for the house at 8120 Hill Road", "amount", 8120, False),
        ("Zahle für Hauptstraße 8120", "amount", 8120, False),
        ("Pay 4120 for the room", "amount", 4120, True),
        ("Scale it to six", "replicas", 6, True),
        ("Scale it to six workers", "replicas", 6, False),
        ("Do it only once, please", "amount", 11, False),
        ("Silence it for two hours", "minutes", 120, True),
        ("Silence it for half an hour", "minutes", 30, True),
        ("Silence it for an hour", "seconds", 3600, True),
        ("Silence it for 2 hours", "minutes", 1200, False),
        ("Give her two extra days", "days", 2, True),
        ("Give her two extra days, she has 28 in all", "days", 28, False),
        ("Order a dozen gloves", "quantity", 12, True),
        ("Print three labels", "copies", 3, True),
        ("Order bolts at 12 cents", "price", 0.12, True),
        ("Order bolts at 12 cents", "price", 12, False),
        ("Order bolts at 12 cents", "price_in_cents", 12, True),
        ("Refund 42.50 EUR", "amount_cents", 4250, True),
        ("Refund 42.50 EUR", "amount_cents", 42500, False),
    ],
)
def test_a_number_goes_with_the_word_beside_it(said: str, argument: str, number: float, is_said: bool):
    assert is_let(said, "amount", **{argument: number}) is is_said


def test_a_number_counted_otherwise_is_none_though_it_stands_beside_the_object():
    known = Knowledge(is_tainted=True)
    known.hear("Give A-3 of 31 kg 2.5 ml")
    dose = Labels(effect="write", arguments={"animal": "target", "ml": "amount"})

    assert isinstance(provenance.decide(known, dose, {"animal": "A-3", "ml": 2.5}), Justified)
    assert not isinstance(provenance.decide(known, dose, {"animal": "A-3", "ml": 31}), Justified)


@pytest.mark.parametrize(
    ("said", "pin", "is_said"),
    [
        ("Set the pin to 0412", "0412", True),
        ("Set the pin to 412", "0412", False),
        ("Set a pin for room 412", "412", False),
    ],
)
def test_a_code_is_written_as_it_was_said(said: str, pin: str, is_said: bool):
    assert is_let(said, "commitment", pin=pin) is is_said


@pytest.mark.parametrize(
    ("said", "ward", "is_said"),
    [
        ("Move her to ward 4", "4", True),
        ("Move her to ward 4", 4, True),
        ("Move her to ward 4", "9", False),
        ("Move her out of room 9 to ward 4", "9", False),
    ],
)
def test_a_number_that_names_a_thing_is_given_where_the_argument_is_called_so(said: str, ward: Any, is_said: bool):
    assert is_let(said, "commitment", ward=ward) is is_said


def test_a_trusted_figure_does_not_stand_in_for_the_one_that_the_user_counted():
    known = Knowledge(is_tainted=True)
    known.hear("Move 40 pairs of gloves, I counted them 3 days ago")
    known.read(1, Labels(effect="read", is_trusted=True), {}, {"item": "gloves", "on_hand": 300, "price": 12.5})
    moving = Labels(effect="write", arguments={"item": "target", "quantity": "amount", "price": "amount"})

    def is_let(quantity: float) -> bool:
        arguments = {"item": "gloves", "quantity": quantity, "price": 12.5}
        return isinstance(provenance.decide(known, moving, arguments), Justified)

    assert is_let(40)
    assert not is_let(300)


def test_a_span_of_time_counts_nothing_else():
    known = Knowledge(is_tainted=True)
    known.hear("Return the gloves, I got them 3 days ago")
    known.read(1, Labels(effect="read", is_trusted=True), {}, {"item": "gloves", "bought": 2})
    returning = Labels(effect="write", arguments={"item": "target", "quantity": "amount"})

    assert isinstance(provenance.decide(known, returning, {"item": "gloves", "quantity": 2}), Justified)
