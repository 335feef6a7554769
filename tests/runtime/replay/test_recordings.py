from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.replay import jsonlines, recordings
from runtime.replay.recordings import Entry, Unusable
from tests.runtime.replay.recorded import LOOK_UP, answered, conversation, result, said, write_file

GOOD = conversation(*LOOK_UP, id="good")


def read(tmp_path: Path, *rows: Any) -> list[Entry | Unusable]:
    return list(recordings.read(write_file(tmp_path / "file.jsonl", *rows)))


def with_message(**fields: Any) -> dict[str, Any]:
    return conversation({"role": "user", "content": "Hi", **fields})


def test_what_the_evaluator_knows_is_never_read(tmp_path):
    row = {**GOOD, "reward": 1, "expected_actions": [{"name": "x"}], "task_instruction": "secret", "unheard_of": [1]}

    (entry,) = read(tmp_path, row)

    assert isinstance(entry, Entry)
    assert set(entry.conversation.model_dump()) == {"id", "domain", "model", "policy", "messages"}


def test_a_line_can_be_found_again_by_its_offset(tmp_path):
    path = write_file(tmp_path / "file.jsonl", conversation(*LOOK_UP, id="first"), "", "{broken", GOOD)

    entries = [found for found in recordings.read(path) if isinstance(found, Entry)]

    assert [recordings.read_at(path, entry.offset).id for entry in entries] == ["first", "good"]
    assert [entry.line for entry in entries] == [1, 4]


def test_a_byte_order_mark_and_windows_line_ends_are_harmless(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")

    (entry,) = recordings.read(path)

    assert isinstance(entry, Entry)
    assert recordings.read_at(path, entry.offset).id == "good"


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("{", "is not JSON"),
        ('{"id": "x", "messages": [NaN]}', "holds NaN"),
        ('{"id": "x", "cost": -Infinity}', "holds -Infinity"),
        ('{"id": "x", "cost": 1e999}', "beyond any float"),
        ('{"id": "x", "id": "y", "messages": []}', "repeats the key 'id'"),
        ('{"id": "x", "a": ' + "[" * 100 + "]" * 100 + "}", "nests deeper than 60"),
        ('{"id": "x", "a": ' + "[" * 200_000 + "]" * 200_000 + "}", "nests deeper than 60"),
        ('{"id": "x", "a": ' + "9" * 5_000 + "}", "is not JSON"),
        (b'{"id": "\xff"}', "is not UTF-8 at byte 8"),
        ("[1, 2]", "the line: Input should be"),
        ('"text"', "the line: Input should be"),
        (conversation(), "messages: List should have at least 1 item"),
        ({"domain": "library", "messages": list(LOOK_UP)}, "id: Field required"),
        (conversation(*LOOK_UP, id=""), "id: String should have at least 1 character"),
        (conversation(*LOOK_UP, messages="none"), "messages: Input should be a valid list"),
        (with_message(role="robot"), "messages.0.role: Input should be 'user', 'assistant'"),
        (with_message(role=None), "messages.0.role: Field required"),
        (with_message(tool_calls=[{"id": "1", "arguments": {}}]), "messages.0.tool_calls.0.name: Field required"),
        (with_message(tool_calls=[{"id": "1", "name": "x", "arguments": 7}]), "messages.0.tool_calls.0.arguments"),
        (with_message(tool_calls="all"), "messages.0.tool_calls: Input should be a valid list"),
        (with_message(usage={"prompt_tokens": -1}), "messages.0.usage.prompt_tokens: Input should be greater"),
        (with_message(usage={"prompt_tokens": 1e12}), "messages.0.usage.prompt_tokens: Input should be less"),
        (with_message(cost_usd=-0.5), "messages.0.cost_usd: Input should be greater"),
        (with_message(error="maybe"), "messages.0.error: Input should be a valid boolean"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_its_rule_and_passed_over(tmp_path, row, rule):
    broken, good = read(tmp_path, row, GOOD)

    assert isinstance(broken, Unusable)
    assert broken.line == 1
    assert rule in broken.reason
    assert len(broken.reason) < 1500
    assert isinstance(good, Entry)


def test_a_line_of_ten_megabytes_is_skipped_in_pieces(tmp_path):
    broken, good = read(tmp_path, conversation(said("x" * 10_000_000)), GOOD)

    assert isinstance(broken, Unusable)
    assert broken.reason == f"The line is longer than {jsonlines.LONGEST_LINE_BYTES:,} bytes."
    assert isinstance(good, Entry)
    assert recordings.read_at(tmp_path / "file.jsonl", good.offset).id == "good"


def test_too_many_messages_are_refused(tmp_path):
    (broken,) = read(tmp_path, conversation(*[said("Hi")] * (recordings.MOST_MESSAGES + 1)))

    assert isinstance(broken, Unusable)
    assert "messages: List should have at most" in broken.reason


def test_an_id_used_twice_is_refused_the_second_time(tmp_path):
    first, second = read(tmp_path, GOOD, GOOD)

    assert isinstance(first, Entry)
    assert isinstance(second, Unusable)
    assert second.reason == "The id was used in line 1 already."


def test_missing_and_null_optional_fields_and_other_shapes_are_understood(tmp_path):
    nested = {"id": None, "type": "function", "function": {"name": "find_book", "arguments": '{"title": "Momo"}'}}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    row = conversation(
        {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "again"}], "ts": 1},
        answered(None, nested, usage=usage, cost_usd="0.01"),
        result({"copies": 2}, None, name=None, error=None),
        id=17,
        domain=None,
        policy=None,
    )

    (entry,) = read(tmp_path, row)

    assert isinstance(entry, Entry)
    assert (entry.conversation.id, entry.conversation.domain) == ("17", "")
    user, agent, tool = entry.conversation.messages
    assert user.content == "Hello\nagain"
    assert (agent.tool_calls[0].id, agent.tool_calls[0].name) == ("", "find_book")
    assert agent.usage is not None
    assert (agent.usage.input_tokens, agent.usage.cached_tokens, agent.usage.output_tokens) == (9, 4, 3)
    assert tool.content == '{"copies": 2}'


def test_characters_that_the_database_cannot_store_become_visible_replacements(tmp_path):
    (entry,) = read(tmp_path, '{"id": "x", "messages": [{"role": "user", "content": "a\\u0000b\\ud800c"}]}')

    assert isinstance(entry, Entry)
    assert entry.conversation.messages[0].content == "a\ufffdb\ufffdc"
