from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.mcp.sieve import HARDEST, Sieve, StreamTooLong, TooLarge, stand_in

EVENTS = (b"\n\n", b"\r\n\r\n", b"\r\r")


def sift(cap, separators, chunks):
    sieve = Sieve(cap, separators)
    return [message for chunk in chunks for message in sieve.feed(chunk)] + list(sieve.finish())


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"bc", b"\r\n", b"\n\n"]), max_size=40), st.data())
def test_however_the_stream_is_cut_the_messages_are_the_same(parts, data):
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    found = sift(5, EVENTS, chunks)

    assert found == sift(5, EVENTS, [whole])
    sizes = [each.size if isinstance(each, TooLarge) else len(each) for each in found]
    assert sum(sizes) == len(whole)
    assert b"".join(each for each in found if isinstance(each, bytes)) == whole or any(
        isinstance(each, TooLarge) for each in found
    )


def test_a_message_that_is_too_large_is_counted_and_hashed_and_the_next_one_is_read():
    large = b'{"id": 7, "result": "' + b"x" * 500 + b'"}\n'

    found = sift(100, (b"\n",), [large[:50], large[50:], b'{"id": 8}\n'])

    assert found == [TooLarge(len(large), hashlib.sha256(large).hexdigest(), 7), b'{"id": 8}\n']
    said = json.loads(stand_in(found[0], 7))
    assert (said["id"], said["result"]["_meta"]["steadyhand/cut"]["bytes"]) == (7, len(large))


def test_a_stream_without_end_is_given_up():
    sieve = Sieve(100, (b"\n",))

    for _ in range(HARDEST):
        assert list(sieve.feed(b"x" * 100)) == []
    with pytest.raises(StreamTooLong):
        list(sieve.feed(b"x"))
