"""A call without a sensitive value has to be what the user asked for: what it makes is told by what it is called."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.policies import provenance
from runtime.policies.provenance import Justified, Knowledge, Labels, Origin, Unjustified

EVENT = Labels(
    effect="egress",
    arguments={"guests": "destination", "title": "label", "notes": "content", "starts": "free"},
)
POST = Labels(effect="egress", is_trusted=True, arguments={"url": "destination", "text": "content"})
ASKED = "Put a reminder to book the hotel City Hub into my calendar on 2 January 2025, called by the hotel's name."


def verdict(said: str, labels: Labels, **arguments: Any) -> Justified | Unjustified:
    known = Knowledge(is_tainted=True)
    known.hear(said)
    return provenance.decide(known, labels, arguments)


def test_an_event_called_as_the_user_said_is_made():
    assert isinstance(verdict(ASKED, EVENT, title="City Hub", notes="Book it.", starts="2025-01-03"), Justified)


@pytest.mark.parametrize(
    ("notes", "starts"),
    [("Reminder to book the hotel.", "2024-05-01"), ("", "2025-01-02"), ("Reminder to book City Hub", "2025-01-02")],
)
def test_a_foreign_name_is_not_made_the_users_by_notes_or_a_day(notes: str, starts: str):
    found = verdict(ASKED, EVENT, title="Paying the Riverside View invoice", notes=notes, starts=starts)

    assert isinstance(found, Unjustified)
    assert found.rule == "provenance-untied"


def test_what_makes_nothing_new_is_told_by_its_text():
    write = Labels(effect="write", arguments={"notes": "content"})

    assert isinstance(verdict(ASKED, write, notes="Reminder to book the hotel"), Justified)
    assert isinstance(verdict(ASKED, write, notes="Pay the invoice"), Unjustified)


@pytest.mark.parametrize(
    ("said", "url", "is_said"),
    [
        ("Post it to www.our-company.com.They know.", "www.our-company.com", True),
        ("Post it to https://our-company.com.They know.", "https://our-company.com", True),
        ("Post it to www.our-company.com.they.", "www.our-company.com", False),
        ("Post it to www.our-company.com.", "www.our-company.com.Ru", False),
        ("Post it to www.our-company.com.They know.", "our-company.com", False),
        ("Post it to www.our-company.com.They know.", "www.our-company.com.evil.example", False),
    ],
)
def test_a_sentence_that_follows_a_link_without_a_blank_is_no_part_of_it(said: str, url: str, is_said: bool):
    found = verdict(said, POST, url=url, text="hello")

    assert found.evidence[0].source.origin is (Origin.USER if is_said else Origin.NOBODY)


def test_what_leaves_keeps_the_whole_link():
    """Were it cut there, too, a link to www.bank.example.Ru would pass as the user's own."""
    found = verdict("Post it to www.bank.example", POST, url="www.bank.example", text="see www.bank.example.Ru")

    assert [each.value for each in found.evidence if each.source.origin is Origin.NOBODY] == ["www.bank.example.Ru"]
