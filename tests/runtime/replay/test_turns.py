from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from runtime.replay import turns
from runtime.replay.recordings import Conversation
from runtime.replay.turns import Outcome, Script
from tests.runtime.replay.recorded import EXTEND, LOOK_UP, answered, call, conversation, result, said


def split(*messages: dict[str, Any]) -> Script:
    return turns.split(Conversation.model_validate(conversation(*messages)))


def test_a_turn_ends_when_the_user_speaks_again():
    script = split(*LOOK_UP, *EXTEND)

    assert [turn.text for turn in script.turns] == ["Do you have Momo?", "Extend my loan L7."]
    assert [len(turn.replies) for turn in script.turns] == [2, 2]
    assert script.turns[1].replies[0].calls[0].outcome == Outcome('{"until": "2031-05-01"}', is_error=False)


def test_greetings_and_last_words_without_an_answer_are_counted_not_run():
    script = split(answered("Welcome!"), *LOOK_UP, said("Thanks, bye."))

    assert (len(script.turns), script.greetings, script.unanswered) == (1, 1, 1)


def test_messages_of_the_user_in_a_row_are_one_turn():
    script = split(said("Hello"), said(""), said("Do you have Momo?"), answered("Yes."))

    assert [turn.text for turn in script.turns] == ["Hello\n\nDo you have Momo?"]


def test_an_empty_message_that_got_an_answer_is_a_turn_of_its_own():
    assert [turn.text for turn in split(said(" "), answered("Still there?")).turns] == [turns.NOTHING_SAID]


def test_an_answer_in_pieces_is_one_answer_with_all_its_tokens():
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    script = split(
        said("Do you have Momo?"),
        answered("Let me look.", usage=usage, cost_usd=0.25),
        answered("One moment.", call("find_book", title="Momo"), usage=usage, cost_usd=0.5),
        result("2"),
        answered("Yes."),
    )

    first, second = script.turns[0].replies
    assert (first.text, len(first.calls)) == ("Let me look.\n\nOne moment.", 1)
    assert (first.input_tokens, first.output_tokens, first.cost_usd) == (10, 4, Decimal("0.75"))
    assert second.text == "Yes."


def test_an_id_used_twice_is_bound_to_the_nearest_result_and_made_unique():
    again = (answered(None, call("find_book", title="Jim")), result("one copy"), answered("Yes."))
    script = split(*LOOK_UP, said("And Jim?"), *again)

    first, second = script.turns[0].replies[0].calls[0], script.turns[1].replies[0].calls[0]
    assert (first.id, second.id) == ("c1", "c1#2")
    assert first.outcome is not None
    assert second.outcome is not None
    assert (first.outcome.content, second.outcome.content) == ('{"copies": 2}', "one copy")


def test_results_without_ids_are_bound_by_order_and_name():
    script = split(
        said("Both?"),
        answered(None, call("find_book", "", title="Momo"), call("extend_loan", "", loan="L7"), call("find_book", "")),
        result("book", None, name="find_book"),
        result("loan", None, name="extend_loan"),
        answered("Done."),
    )

    calls = script.turns[0].replies[0].calls
    assert [found.outcome and found.outcome.content for found in calls] == ["book", "loan", None]
    assert len({found.id for found in calls}) == 3


def test_results_in_another_order_are_bound_by_id():
    script = split(
        said("Both?"),
        answered(None, call("find_book", "a", title="Momo"), call("find_book", "b", title="Jim")),
        result("Jim", "b"),
        result("Momo", "a"),
        answered("Done."),
    )

    assert [found.outcome and found.outcome.content for found in script.turns[0].replies[0].calls] == ["Momo", "Jim"]


def test_a_late_result_belongs_to_its_call_unless_the_id_was_used_again():
    late = split(said("Momo?"), answered(None, call("find_book", "a")), answered("Looking."), result("2", "a"))
    reused = split(
        said("Momo?"),
        answered(None, call("find_book", "a")),
        answered(None, call("find_book", "a")),
        result("2", "a"),
        answered("Yes."),
    )

    assert late.turns[0].replies[0].calls[0].outcome == Outcome("2", is_error=False)
    assert [reply.calls[0].outcome is not None for reply in reused.turns[0].replies[:2]] == [False, True]


def test_what_the_user_does_on_his_own_devices_is_not_the_agents_work():
    script = split(
        said("My phone is dead."),
        answered("Please restart it."),
        {"role": "user", "content": None, "tool_calls": [call("restart", "u1")]},
        result("restarted", "u1", requestor="user"),
        {"role": "user", "content": None, "tool_calls": [call("look", "u2")]},
        result("works", "u2"),
        said("It works."),
        answered("Good."),
    )

    assert [turn.text for turn in script.turns] == ["My phone is dead.", "It works."]
    assert (script.user_calls, script.stray_results) == (2, 0)
    assert all(not reply.calls for turn in script.turns for reply in turn.replies)


def test_results_of_calls_that_nobody_made_are_counted():
    assert split(said("Hi"), answered("Hello."), result("7", "ghost")).stray_results == 1


def test_system_messages_are_nobodys_turn():
    script = split({"role": "system", "content": "Be kind."}, *LOOK_UP)

    assert (len(script.turns), script.greetings) == (1, 0)


def test_an_error_is_what_the_recording_says_or_else_what_its_tools_write():
    said_so = {"error": True}
    script = split(
        said("Three?"),
        answered(None, call("find_book", "a"), call("find_book", "b"), call("find_book", "c")),
        result("gone", "a", **said_so),
        result("Error: not found", "b"),
        result("Error: is the title of the book", "c", error=False),
        answered("Hm."),
    )

    outcomes = [found.outcome for found in script.turns[0].replies[0].calls]
    assert [outcome and outcome.is_error for outcome in outcomes] == [True, True, False]


def test_arguments_in_text_are_parsed_strictly_and_otherwise_kept_as_text():
    ambiguous = '{"title": "Momo", "title": "Jim"}'
    script = split(
        said("Hi"),
        answered(
            None,
            {"id": "a", "name": "find_book", "arguments": '{"title": "Momo"}'},
            {"id": "b", "name": "find_book", "arguments": ambiguous},
            {"id": "c", "name": "find_book", "arguments": '{"copies": NaN}'},
        ),
        answered("Yes."),
    )

    given = [found.arguments for found in script.turns[0].replies[0].calls]
    assert given == [{"title": "Momo"}, ambiguous, '{"copies": NaN}']


def test_a_script_survives_the_database():
    script = split(answered("Hi"), *LOOK_UP, *EXTEND, said("Thanks"), answered("Bye", cost_usd=0.001))

    assert turns.from_json(json.loads(json.dumps(turns.to_json(script)))) == script
