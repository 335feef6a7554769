from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.shop import addresses


@pytest.mark.parametrize(
    ("text", "street", "postal_code", "city", "country"),
    [
        ("Send it to 14 Broad Street, 100221 Lagos, Nigeria.", "14 Broad Street", "100221", "Lagos", "Nigeria"),
        ("It is now: Rua do Carmo 5, 1200-093 Lisboa, Portugal", "Rua do Carmo 5", "1200-093", "Lisboa", "Portugal"),
        ("22 MG Road, Bengaluru 560001, India", "22 MG Road", "560001", "Bengaluru", "India"),
        ("Flat 2, 9 Mill Road, Leeds, LS2 7HD, UK", "Flat 2, 9 Mill Road", "LS2 7HD", "Leeds", "United Kingdom"),
        ("to 48 Maple Avenue, Portland, OR 97205, USA", "48 Maple Avenue", "OR 97205", "Portland", "United States"),
        ("send order 10940 to Calle Real 12, 28013 Madrid, Spain pls", "Calle Real 12", "28013", "Madrid", "Spain"),
    ],
)  # fmt: skip
def test_an_address_is_read(text: str, street: str, postal_code: str, city: str, country: str):
    assert addresses.find(text) == {"street": street, "postal_code": postal_code, "city": city, "country": country}


@pytest.mark.parametrize(
    "text", ["", "I moved", "please send to 9 High Street", "to my mother, in Spain", "to Lagos, Nigeria"]
)
def test_what_is_no_full_address_is_not_taken_for_one(text: str):
    assert len(addresses.find(text)) < 4


@given(st.text(alphabet=st.sampled_from("abcZ 019,.-:to\n"), max_size=200))
def test_any_text_can_be_read(text: str):
    assert set(addresses.find(text)) <= {"street", "city", "postal_code", "country"}
