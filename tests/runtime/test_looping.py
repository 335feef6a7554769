from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runtime.policies import looping
from runtime.policies.looping import Loop


@pytest.mark.parametrize(
    ("made", "proposed", "most", "found"),
    [
        ("", "a", 3, None),
        ("aa", "a", 3, None),
        ("aaa", "a", 3, Loop(1, 3)),
        ("aaa", "b", 3, None),
        ("xaaa", "a", 3, Loop(1, 3)),
        ("aaax", "a", 3, None),
        ("ababa", "b", 3, None),
        ("ababab", "a", 3, Loop(2, 3)),
        ("ababab", "b", 3, None),
        ("ababab", "c", 3, None),
        ("abcabcabc", "a", 3, Loop(3, 3)),
        ("abcdabcdabcd", "a", 3, Loop(4, 3)),
        ("abcdeabcdeabcde", "a", 3, None),
        ("abcabcabd", "a", 3, None),
        ("abab", "a", 2, Loop(2, 2)),
        ("a", "a", 1, Loop(1, 1)),
        ("ab", "a", 1, Loop(2, 1)),
        ("abababab", "a", 3, Loop(2, 4)),
    ],
)
def test_the_same_few_calls_again_and_again_are_a_loop(made, proposed, most, found):
    assert looping.decide_loop(made, proposed, most=most) == found


@given(some.lists(some.sampled_from("abc"), max_size=30), some.sampled_from("abc"), some.integers(1, 5))
def test_a_loop_is_only_found_where_it_stands_at_the_end(made, proposed, most):
    found = looping.decide_loop(made, proposed, most=most)

    if found is None:
        assert made[-most:] != [proposed] * most
    else:
        assert made[-found.calls * found.times :] == made[-found.calls :] * found.times
        assert made[-found.calls] == proposed
        assert found.times >= most


@pytest.mark.parametrize(
    ("one", "other", "is_alike"),
    [
        ({"text": "Hello there"}, {"text": "  hello, THERE!"}, True),
        ({"id": "W-123"}, {"id": "w 123"}, True),
        ({"id": "W123"}, {"id": "W124"}, False),
        ({"amount": "-5"}, {"amount": "5"}, False),
        ({"amount": "1.50"}, {"amount": "150"}, False),
        ({"page": 1}, {"page": 2}, False),
        ({"a": [1, {"b": "X"}]}, {"a": [1, {"b": "x"}]}, True),
        ({"a": "x"}, {"b": "x"}, False),
        ({"a": True}, {"a": None}, False),
    ],
)
def test_case_spaces_and_punctuation_make_no_other_call(one, other, is_alike):
    assert (looping.alike(one) == looping.alike(other)) is is_alike


def test_a_loop_says_how_often():
    assert Loop(1, 3).sentence == "The same call was made 3 times in a row already"
    assert Loop(2, 4).sentence == "The same 2 calls were made 4 times in a row already"
