from __future__ import annotations

import pytest

from runtime.shop import documents, search
from runtime.shop.models import PolicySection
from tests.patience import at_most

NEWEST = "2026.11"

pytestmark = pytest.mark.usefixtures("policies")


@pytest.mark.parametrize(
    ("question", "anchor"),
    [
        ("my kettle arrived broken", "damaged#arrived-damaged"),
        ("refund damaged", "damaged#arrived-damaged"),
        ("you sent the wrong colour", "damaged#wrong-item"),
        ("it exploded and there was smoke", "damaged#safety"),
        ("how long can I send things back", "returns#window"),
        ("what is your return policy", "returns#window"),
        ("how long does a refund take until it is on my card", "returns#refunds"),
        ("refund over limit why waiting", "returns#limit"),
        ("part of the money back and keep it", "returns#partial"),
        ("can I return opened earphones", "returns#exceptions"),
        ("who pays for the return postage", "returns#return-shipping"),
        ("my parcel never came", "delivery#late"),
        ("tracking says delivered but nothing here", "delivery#marked-delivered"),
        ("do you ship to Norway", "delivery#countries"),
        ("how fast is delivery", "delivery#times"),
        ("I need to change the shipping address", "addresses#before-shipping"),
        ("can my wife change the address", "addresses#who"),
        ("delete my data", "privacy#your-rights"),
        ("am I talking to a robot", "privacy#automation"),
        ("how long is the warranty on headphones", "warranty#length"),
    ],
)
def test_a_question_finds_its_section_first(question: str, anchor: str):
    best = search.find(question, version=NEWEST)[0]

    assert best.citation.partition("@")[0] == anchor


@pytest.mark.parametrize(
    "query",
    [
        "", "   ", "the of and", "\0", "'; DROP TABLE shop_policysection; --", "& | ! ( ) :* <-> \\",
        "refund & !refund",
        "((((", "':*", "\ud800 refund", "refund " * 10_000, "🦜🦜", "https://example.com/?a=1&b=2", "%s %(x)s", "\\'",
    ],
)  # fmt: skip
def test_any_query_is_answered(query: str):
    with at_most(5):
        found = search.find(query, version=NEWEST)

    assert len(found) <= search.MOST_PASSAGES
    assert PolicySection.objects.exists()


def test_nothing_fits_what_no_policy_speaks_of():
    assert search.find("zebra quantum flux", version=NEWEST) == []


def test_an_older_index_answers_in_its_own_wording():
    question = "how long does a refund take until it is on my bank card"

    assert "10 business days" in search.find(question, version="2026.06")[0].text
    assert "5 business days" in search.find(question, version="2026.11")[0].text


def test_an_index_before_the_first_document_is_empty():
    assert search.find("refund", version="2020.01") == []


def test_storing_again_adds_nothing():
    assert documents.store() == 0


def test_every_document_says_something_in_each_section():
    for document in documents.read():
        assert len(document.sections) >= 3
        for section in document.sections:
            assert 2 <= section.text.count(".") <= 6, f"{document.slug}#{section.anchor}"
            assert section.asked_as, f"{document.slug}#{section.anchor}"
