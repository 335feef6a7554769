from __future__ import annotations

import pytest

from runtime.policies import remembering
from runtime.policies.remembering import Found, Room


@pytest.mark.parametrize(
    ("stored", "wanted", "steps", "expected"),
    [
        ([1], 1, [], (1, (1,))),
        ([1, 2], 2, [], (2, (2,))),
        ([1, 2], 1, [], (1, (1,))),  # a rollback finds what the older release wrote
        ([1], 2, [(1, 2)], (1, (1, 2))),
        ([1], 4, [(1, 2), (2, 4)], (1, (1, 2, 4))),
        ([1, 2], 3, [(1, 3), (2, 3)], (2, (2, 3))),
        ([1, 2], 3, [(1, 3)], (1, (1, 3))),
        ([1], 2, [], (1, None)),
        ([3], 2, [(2, 3)], (3, None)),  # nothing leads back
        ([1], 3, [(1, 2)], (1, None)),
    ],
)
def test_an_entry_is_read_in_its_own_version_or_through_migrations(stored, wanted, steps, expected):
    (reading,) = remembering.decide_readings([Found("name", version) for version in stored], wanted, steps)

    assert (reading.entry.schema_version, reading.path) == expected


def test_the_migrations_of_an_agent_go_before_those_for_all():
    registered = {("", 1, 2): "general", ("shop", 1, 2): "own", ("other", 2, 3): "foreign"}

    assert remembering.chosen(registered, "shop") == {(1, 2): "own"}
    assert remembering.chosen(registered, "desk") == {(1, 2): "general"}


@pytest.mark.parametrize(
    ("room", "size", "said"),
    [
        (Room(9, 90), 10, ""),
        (Room(10, 0), 1, "10 things"),
        (Room(1, 95), 10, "would exceed 100 bytes"),
        (Room(0, 0), 51, "51 bytes"),
    ],
)
def test_a_value_is_kept_while_there_is_room(room, size, said):
    why = remembering.decide_write(room, size, most_entries=10, most_bytes=100, largest=50)

    assert (said in why) if said else why == ""
