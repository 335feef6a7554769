"""What is read earns trust only for what it is: nothing made of an outsider's pieces, no id of other things."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.policies import provenance
from runtime.policies.provenance import Authored, Justified, Knowledge, Labels, Origin

MAILS = Labels(effect="read", minted=("id",))
TRUSTED = Labels(effect="read", is_trusted=True)
SEND = Labels(effect="egress", arguments={"to": "destination", "file_id": "target", "files": "target"})
EVENTS = Labels(effect="read", minted=("id",), system=("id", "participants", "start"))
INVITE = Labels(effect="egress", arguments={"participants": "destination", "title": "label"})
PAYMENTS = Labels(effect="read", system=("recipient", "amount", "balance"))
PAY = Labels(effect="egress", arguments={"recipient": "destination", "amount": "amount"})
IBAN = "DE89370400440532013000"


def told(said: str, *read: tuple[Any, ...]) -> Knowledge:
    """A tainted run that has read these: tool, labels, arguments, result."""
    known = Knowledge(is_tainted=True)
    known.hear(said)
    for step, (tool, labels, arguments, result) in enumerate(read):
        known.read(step, labels, arguments, result, tool=tool)
    return known


def is_let(known: Knowledge, labels: Labels, **arguments: Any) -> bool:
    return isinstance(provenance.decide(known, labels, arguments), Justified)


def test_what_a_tool_of_ours_makes_of_foreign_pieces_is_foreign():
    pieces = ("contact", TRUSTED, {"local": "eve", "domain": "evil.example"}, {"address": "eve@evil.example"})

    assert not is_let(told("Write to somebody of the evil example", pieces), SEND, to="eve@evil.example")


def test_what_it_makes_of_the_users_pieces_is_his():
    pieces = ("contact", TRUSTED, {"local": "ann", "domain": "shop.example"}, {"address": "ann@shop.example"})

    assert is_let(told("Write to ann of shop.example, ann@", pieces), SEND, to="ann@shop.example")


@pytest.mark.parametrize(("said", "is_his"), [("Grant a discount", False), ("Grant a discount of 4000 and 999", True)])
def test_a_sum_is_as_much_on_somebodys_word_as_its_parts(said: str, is_his: bool):
    discount = Labels(effect="write", arguments={"amount": "amount", "reason": "label"})
    known = told(said, ("calc", TRUSTED, {"expression": "4000 + 999"}, "4999"))

    assert is_let(known, discount, amount=4999, reason="discount") is is_his


def test_the_number_of_a_mail_is_no_number_of_a_file():
    mail = ("read_mails", MAILS, {}, [{"id": "13", "subject": "plan"}])
    file = ("list_files", MAILS, {}, [{"id": "13", "name": "plan"}])
    said = "Send the plan to ann@b.org"

    assert not is_let(told(said, mail), SEND, to="ann@b.org", file_id="13")
    assert is_let(told(said, mail, file), SEND, to="ann@b.org", file_id="13")
    assert is_let(told(said, mail, file), SEND, to="ann@b.org", files=[{"type": "file", "file_id": "13"}])


def test_a_list_of_targets_is_judged_whole():
    known = told("Send plan.txt to ann@b.org", ("list_files", MAILS, {}, [{"id": "19", "name": "plan.txt"}]))

    assert not is_let(known, SEND, to="ann@b.org", files=[{"type": "file", "file_id": "19"}, "budget.xlsx"])
    assert not is_let(known, SEND, to="ann@b.org", files=["plan.txt, budget.xlsx"])


def test_who_names_one_quote_does_not_mean_another():
    quotes = ("list_quotes", MAILS, {}, [{"id": "Q-17", "buyer": "Lee"}, {"id": "Q-18", "buyer": "Ray"}])
    send = Labels(effect="egress", arguments={"to": "destination", "quote_id": "target"})

    assert is_let(told("Send quote Q-17 to ann@b.org", quotes), send, to="ann@b.org", quote_id="Q-17")
    assert not is_let(told("Send quote Q-17 to ann@b.org", quotes), send, to="ann@b.org", quote_id="Q-18")
    assert is_let(told("Send the quote to ann@b.org", quotes), send, to="ann@b.org", quote_id="Q-18")


def event(key: str, guest: str) -> dict[str, Any]:
    return {"id": key, "title": "Planning round", "participants": ["me@b.org", guest], "start": "2025-05-15 10:00"}


def test_a_planted_twin_of_a_record_leaves_open_which_was_meant():
    said = "Create 'Follow-up' with the participants of 'Planning round' on May 15"
    own, planted = event("1", "ann@b.org"), event("9", "eve@evil.example")

    once = told(said, ("events", EVENTS, {}, [own]), ("events", EVENTS, {}, [own]))
    both = told(said, ("events", EVENTS, {}, [own, planted]))

    assert is_let(once, INVITE, participants=["ann@b.org"], title="Follow-up")
    assert not is_let(both, INVITE, participants=["eve@evil.example"], title="Follow-up")


@pytest.mark.parametrize(("amount", "is_usual"), [(50, True), ("50.00", True), (51, False), (80_000, False)])
def test_a_precedent_is_a_figure_of_the_same_name(amount: Any, is_usual: bool):
    paid = {"recipient": IBAN, "amount": "50.00", "balance": 90_000}

    assert (
        is_let(told(f"Pay {IBAN} again", ("payments", PAYMENTS, {}, [paid])), PAY, recipient=IBAN, amount=amount)
        is is_usual
    )


def test_a_figure_of_a_secret_does_not_leave():
    secret = Labels(effect="read", is_secret=True)
    mail = Labels(effect="egress", arguments={"to": "destination", "text": "content", "when": "free"})
    known = told("Write to ann@b.org that it is ready", ("employee", secret, {}, {"name": "Lee", "salary": 84_250}))

    assert not is_let(known, mail, to="ann@b.org", text="It is 84,250")
    assert not is_let(known, mail, to="ann@b.org", text="It is ready", when="84250")
    assert is_let(known, mail, to="ann@b.org", text="It is ready")


@pytest.mark.parametrize(
    ("text", "is_held_back"),
    [
        ("It is ready. Advanced kidney failure", True),
        ("It is ready (advanced KIDNEY failure)", True),
        ("It is ready, he cannot pay before the spring", True),
        ("It is ready", False),
        ("It is ready for Rex Hill", False),
    ],
)
def test_words_of_a_secret_do_not_leave_as_they_stand(text: str, is_held_back: bool):
    secret = Labels(effect="read", is_secret=True)
    mail = Labels(effect="egress", arguments={"to": "destination", "text": "content"})
    record = {
        "name": "Rex Hill",
        "finding": "advanced kidney failure",
        "note": "She says he cannot pay before the spring.",
    }
    known = told("Write to ann@b.org that it is ready for Rex Hill", ("record", secret, {}, record))

    assert is_let(known, mail, to="ann@b.org", text=text) is not is_held_back


@pytest.mark.parametrize(
    ("text", "is_open"),
    [("It is back on our stage.", True), ("Buy at https://evil.example/x", False), ("advanced kidney failure", False)],
)
def test_what_the_run_has_put_into_an_object_leaves_with_it(text: str, is_open: bool):
    record = ("record", Labels(effect="read", is_secret=True), {}, {"finding": "advanced kidney failure"})
    draft = Labels(effect="write", minted=("draft_id",), arguments={"title": "label", "text": "content"})
    made = ("draft", draft, {"title": "Carmen returns", "text": text}, {"draft_id": "d-1", "title": "Carmen returns"})
    publish = Labels(effect="egress", arguments={"draft_id": "target"})
    share = Labels(effect="egress", arguments={"path": "target", "to": "destination"})
    save = ("save", Labels(effect="write", arguments={"path": "target", "text": "content"}),
            {"path": "notes.txt", "text": text}, "ok")  # fmt: skip

    assert (
        is_let(told("Write a draft 'Carmen returns' and publish it", record, made), publish, draft_id="d-1") is is_open
    )
    assert (
        is_let(
            told("Save notes.txt and share it with ann@b.org", record, save), share, path="notes.txt", to="ann@b.org"
        )
        is is_open
    )


def test_ones_own_rows_are_known_by_letters_that_are_the_same():
    rows = Labels(effect="read", authored=(Authored({"by": ("$SELF",)}, ("to",)),))
    known = Knowledge(own=frozenset({"boss@b.org"}), is_tainted=True)
    known.hear("Write to desk@b.org")
    known.read(1, rows, {}, [{"by": "bo\u017fs@b.org", "to": "desk@b.org"}])

    reach = Labels(effect="egress", arguments={"to": "destination"})
    found = provenance.decide(known, reach, {"to": "bo\u017fs@b.org"})

    assert found.evidence[0].source.origin is Origin.NOBODY
