from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import ids


@given(st.uuids())
def test_a_public_id_reads_back(key):
    assert ids.parse("run", ids.public("run", key)) == key


def test_public_ids_sort_by_time():
    first = ids.public("run", ids.new())
    time.sleep(0.002)
    second = ids.public("run", ids.new())

    assert first < second


@pytest.mark.parametrize(
    "text",
    [
        "",
        "run_",
        "apr_00000000000000000000000000",  # another prefix
        "run_0000000000000000000000000",  # one letter short
        "run_0000000000000000000000000u",  # a letter that is not in the alphabet
        "run_0000000000000000000000000U",
        "run_zzzzzzzzzzzzzzzzzzzzzzzzzz",  # beyond 128 bits
        "run_00000000000000000000000000 ",
        "RUN_00000000000000000000000000",
    ],
)
def test_anything_else_is_not_an_id(text):
    with pytest.raises(ValueError, match="is not an id of the form run_"):
        ids.parse("run", text)


def test_the_converter_speaks_both_ways():
    converter = ids.converter("run")()
    key = ids.new()

    assert converter.to_python(converter.to_url(key)) == key
