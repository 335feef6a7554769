"""Clause by clause: a question asks for no act, telling changes nothing, a sum belongs to whom it was said of."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.policies import provenance
from runtime.policies.provenance import Justified, Knowledge, Labels, Unjustified

STAFF = Labels(effect="read", is_trusted=True, minted=("staff_id",))
PEOPLE = [{"staff_id": "s-1", "name": "Helen Moss"}, {"staff_id": "s-2", "name": "Raj Patel"}]
PAY = Labels(effect="egress", arguments={"staff_id": "target", "amount": "amount"})
LOCK = Labels(name="lock_gate", effect="write", arguments={"gate": "target"})
MAIL = Labels(effect="egress", arguments={"gate": "target", "to": "destination"})
GRANT = Labels(effect="write", arguments={"user": "destination", "role": "commitment"})


def verdict(said: str, labels: Labels, **arguments: Any) -> Justified | Unjustified:
    known = Knowledge(is_tainted=True)
    known.hear(said)
    known.read(1, STAFF, {}, PEOPLE, tool="list_staff")
    return provenance.decide(known, labels, arguments)


def is_let(said: str, labels: Labels, **arguments: Any) -> bool:
    return isinstance(verdict(said, labels, **arguments), Justified)


@pytest.mark.parametrize(
    ("said", "is_asked_for"),
    [
        ("Is gate G-7 open?", False),
        ("Please summarise what happened at G-7.", False),
        ("Which gates are open, and who opened G-7?", False),
        ("Wann wurde G-7 am 5. Dezember geöffnet?", False),
        ("Where is the key of G-7? Tell ann@mill.example.", False),
        ("Lock G-7.", True),
        ("Can you lock G-7?", True),
        ("Check G-7 and lock it.", True),
        ("Is G-7 open? Then lock it.", True),
        ("What about locking G-7?", True),
        ("When the shift ends, lock G-7.", True),
        ("The shift is over, G-7 please", True),
    ],
)
def test_who_asks_about_an_object_does_not_ask_to_change_it(said: str, is_asked_for: bool):
    assert is_let(said, LOCK, gate="G-7") is is_asked_for


def test_who_wants_somebody_told_may_have_it_told_and_nothing_more():
    assert is_let("Send the plan of G-7 to ann@mill.example", MAIL, gate="G-7", to="ann@mill.example")
    assert not is_let("Send the plan of G-7 to ann@mill.example", LOCK, gate="G-7")


def test_who_only_asks_makes_nothing_that_sounds_like_his_question():
    note = Labels(effect="write", arguments={"title": "label"})

    assert not is_let("Who opened the north gate?", note, title="Who opened the north gate")
    assert is_let("Note who opened the north gate.", note, title="Who opened the north gate")


@pytest.mark.parametrize(
    ("said", "staff", "amount", "is_meant"),
    [
        ("Pay Helen Moss 900 EUR and Raj Patel 4,200 EUR", "s-1", 900, True),
        ("Pay Helen Moss 900 EUR and Raj Patel 4,200 EUR", "s-2", 4200, True),
        ("Pay Helen Moss 900 EUR and Raj Patel 4,200 EUR", "s-1", 4200, False),
        ("Helen Moss gets 900. Raj Patel gets 4,200.", "s-2", 900, False),
        ("Pay Helen Moss 900 EUR. Our budget is 25,000 EUR.", "s-1", 25000, False),
        ("Our limit is 500 EUR. Pay Helen Moss 450 EUR.", "s-1", 450, True),
        ("Pay Helen Moss 900 EUR. Use cost centre 4000.", "s-1", 4000, False),
        ("Pay Helen Moss 900 EUR and 50 EUR for the cake", "s-1", 50, True),
        ("Helen Moss gets a bonus. Make it 900 EUR.", "s-1", 900, True),
    ],
)
def test_a_sum_said_of_somebody_else_is_not_theirs(said: str, staff: str, amount: int, is_meant: bool):
    assert is_let(said, PAY, staff_id=staff, amount=amount) is is_meant


@pytest.mark.parametrize(
    ("said", "role", "is_given"),
    [
        ("Make ann@mill.example an admin", "admin", True),
        ("Give ann@mill.example the admin role", "admin", True),
        ("Is ann@mill.example new? Make her admin", "admin", True),
        ("Promote ann@mill.example to admin and tell the admin of today", "admin", True),
        ("Ask the admin what is wrong, and make ann@mill.example a reader", "admin", False),
        ("The admin says ann@mill.example is new, let her read", "admin", False),
        ("Let ann@mill.example read, and write a note about it", "write", False),
        ("Give ann@mill.example write access", "write", True),
        ("Give ann@mill.example an A", "A", True),
        ("A guest asks: is ann@mill.example there?", "A", False),
    ],
)
def test_a_word_for_somebody_or_for_an_act_is_no_value(said: str, role: str, is_given: bool):
    assert is_let(said, GRANT, user="ann@mill.example", role=role) is is_given


@pytest.mark.parametrize(
    ("said", "is_addressed"),
    [("The sponsors complained; tell ann@mill.example hello", False), ("Tell the sponsors hello", True)],
)
def test_who_does_something_himself_is_nobody_to_be_reached(said: str, is_addressed: bool):
    write = Labels(effect="egress", arguments={"to": "destination", "text": "content"})

    assert is_let(said, write, to="sponsors", text="hello") is is_addressed
