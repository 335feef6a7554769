from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.mcp.sieve import HARDEST, Sieve, StreamTooLong, TooLarge, answered, stand_in

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


@pytest.mark.parametrize(
    ("head", "tail", "request_id"),
    [
        ('{"jsonrpc":"2.0","id":7,"result":"', '"}\n', 7),
        ('{"result":{"id":9,"text":"', '"},"jsonrpc":"2.0","id":"a-7"}\n', "a-7"),
        ('{"jsonrpc":"2.0","result":{"text":"', '"},"id":7}\n', 7),
        ('event: message\ndata: {"id":7,"result":"', '"}\n\n', 7),
        ('{"result":{"id":9,"text":"', '","b":{"id":8}}}\n', None),
        ('{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"', '"}}\n', None),
    ],
)
def test_a_message_that_is_too_large_is_told_apart_from_what_is_in_it(head, tail, request_id):
    whole = (head + "x" * 5000 + tail).encode()

    (found,) = sift(100, (b"\n\n" if head[0] == "e" else b"\n",), [whole[:90], whole[90:]])

    assert isinstance(found, TooLarge)
    assert found.request_id == request_id


@pytest.mark.parametrize(
    ("message", "request_id"),
    [
        ('{"jsonrpc":"2.0","id":7,"result":"no object"}', 7),
        ('{"id":"a-7","result":{}}', "a-7"),
        ('{"jsonrpc":"2.0","id":7,"result":' + "[" * 100_000, 7),
        ('{"jsonrpc":"2.0","result":' + "[" * 100_000 + "]" * 100_000 + ',"id":7}', 7),
        ('{"jsonrpc":"2.0","id":true,"result":{}}', None),
        ('{"jsonrpc":"2.0","id":7,"method":3}', None),
        ('{"level":"info","id":7}', None),
        ('{"id":7,"text":' + "[" * 100_000, None),
        ("Listening on port 7", None),
        ("7", None),
    ],
)
def test_what_cannot_be_read_is_an_answer_only_where_it_says_so(message, request_id):
    assert answered(message.encode()) == request_id


def test_a_stream_without_end_is_given_up():
    sieve = Sieve(100, (b"\n",))

    for _ in range(HARDEST):
        assert list(sieve.feed(b"x" * 100)) == []
    with pytest.raises(StreamTooLong):
        list(sieve.feed(b"x"))
