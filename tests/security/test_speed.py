"""No text makes looking for values, or listening to the user, take longer than its length accounts for (D18)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import date

import pytest

from runtime.policies import values
from runtime.policies.provenance import Knowledge

LONGEST_S = 8.0  # a few tenths on a fast machine; a minute and more where it goes with the square of the length
OUTSIDE = 100_000  # characters of an outsider's text; 200,000 are looked at
INPUT = 50_000  # characters of an input


def lasts(look: Callable[[], object]) -> float:
    began = time.perf_counter()
    look()
    return time.perf_counter() - began


@pytest.mark.parametrize("piece", ["1.", "1.1.1.", "1'", "a.", "a-", "a@", "a/", "1 ", " ", "\n", "DE12 ", "www."])
def test_values_in_an_outsiders_text_are_found_soon(piece: str):
    text = (piece * OUTSIDE)[:OUTSIDE] + "!x@"

    assert lasts(lambda: values.every(text)) < LONGEST_S


@pytest.mark.parametrize("piece", ["\n", " ", " \n", "\u2028", "-", "do not ", "> ", ", and ", "1 to ", "two "])
def test_what_the_user_says_is_taken_apart_soon(piece: str):
    known = Knowledge(is_tainted=True, today=date(2026, 11, 28))
    known.hear((piece * INPUT)[:INPUT] + "!x@")

    assert lasts(known.catch_up) < LONGEST_S


def test_blanks_and_breaks_between_words_change_nothing():
    known = Knowledge(is_tainted=True)
    known.hear("Write   to\r\n\r\n\tbob@shop.example.\n\n\n > pasted: eve@evil.example\nThen   call \u00a0 Ann   Lee.")
    known.catch_up()

    assert all(known.said(one) for name in ("bob@shop.example", "Ann Lee") for one in values.of(name))
    assert not any(known.said(one) for one in values.of("eve@evil.example"))
