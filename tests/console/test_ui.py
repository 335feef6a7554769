from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.template import Context, Template
from django.test import RequestFactory

from console import diffs, jsonview, words
from console.templatetags import ui

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (92, "92 ms"),
        (999, "999 ms"),
        (1000, "1.00 s"),
        (2820, "2.82 s"),
        (14_160, "14.2 s"),
        (59_949, "59.9 s"),
        (60_000, "1 min"),
        (168_000, "2 min 48 s"),
        (timedelta(hours=3, minutes=12), "3 h 12 min"),
        (timedelta(days=2, minutes=5), "2 d"),
        (-500, "−500 ms"),
    ],
)
def test_a_duration_names_the_units_that_matter(value, text):
    assert words.duration(value) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "–"),
        (0, "$0.00"),
        (Decimal("0.071"), "$0.071"),
        (Decimal("0.00042"), "$0.0004"),
        (Decimal("0.00000042"), "<$0.0001"),
        (1, "$1.00"),
        (Decimal("1234567.891"), "$1,234,567.89"),
        (Decimal("-42.5"), "−$42.50"),
        (0.1, "$0.100"),
    ],
)
def test_money_shows_as_much_as_it_needs(usd, text):
    assert words.money(usd) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=2), "just now"),
        (timedelta(seconds=40), "40 s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=1, minutes=10), "1 h 10 min ago"),
        (timedelta(hours=30), "30 h ago"),
        (timedelta(days=4), "4 d ago"),
        (timedelta(minutes=-4), "in 4 min"),
    ],
)
def test_a_moment_is_told_from_now(ago, text):
    assert words.relative(NOON - ago, NOON) == text


def test_hidden_characters_are_spelled_out():
    html = words.visible("a\u202eb\u200bc\u2066d\U000e0041e\x1bf\ufeffg")

    for code in ("U+202E", "U+200B", "U+2066", "U+E0041", "U+001B", "U+FEFF"):
        assert f">{code}</span>" in html


def test_ordinary_text_is_only_escaped():
    text = "Ana’s “order” no. 10482, 129,00 € – naïve 日本語 العربية 🙂\n\tnext <b>&amp;</b>"

    assert words.visible(text) == text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_ten_thousand_empty_lines_become_one_note():
    html = words.visible("before" + "\n" * 10_000 + "after")

    assert "9,999 empty lines" in html
    assert html.count("\n") == 2


def test_a_value_of_a_stranger_is_shown_however_deeply_it_is_nested():
    value: Any = "the\u202e core <b>"
    for _ in range(250):
        value = [value]

    html = str(jsonview.render(value))

    assert html.count("<details>") == html.count("</details>") < 100
    assert "core &lt;b&gt;" in html
    assert "\u202e" not in html


def test_json_is_escaped_and_folded_not_cut():
    value = {
        "<k>": "<script>",
        "deep": {"a": {"b": {"c": 1}}},
        "long": "x" * 5000,
        "many": list(range(250)),
        "none": None,
    }

    html = jsonview.render(value)

    assert "<script>" not in html
    assert "<k>" not in html
    assert "904 more characters" in html
    assert html.count("x") >= 5000
    assert "50 more" in html
    assert ">249<" in html
    assert ">null<" in html


def test_a_difference_marks_lines_and_words():
    lines = diffs.lines("keep\nOffer a refund.\nend", "keep\nOffer a replacement.\nNew.\nend")

    assert [(line.kind, line.before, line.after) for line in lines] == [
        ("", 1, 1),
        ("del", 2, None),
        ("add", None, 2),
        ("add", None, 3),
        ("", 3, 4),
    ]
    assert lines[1].text == "Offer a <mark>refund</mark>."
    assert lines[2].text == "Offer a <mark>replacement</mark>."


def test_a_difference_of_hostile_text_is_escaped():
    lines = diffs.lines("<b>a</b>", "<b>c</b>")

    assert all("<b>" not in line.text for line in lines)


def test_empty_lines_are_counted_so_that_what_follows_is_seen():
    lines = diffs.lines("", "first" + "\n" * 10_000 + "last")

    assert [line.after for line in lines] == [1, 2, 10_001]
    assert ">9,999 empty lines<" in lines[1].text
    assert [line.text for line in diffs.lines("", "a\n\n\nb")] == ["a", "", "", "b"]


def test_other_characters_that_break_a_line_are_shown_and_differ_from_one():
    for letter in "\r\x0b\x0c\x1c\x85\u2028":
        before, after = diffs.lines("one\ntwo", f"one{letter}two")[1:]

        assert f"U+{ord(letter):04X}" in after.text
        assert before.kind == "del"


def test_equal_texts_have_no_difference():
    assert diffs.lines({"a": 1, "b": [2]}, {"b": [2], "a": 1}) == []


def test_a_gap_in_the_data_is_a_gap_in_the_line():
    assert len(ui.shape([1, 2, None, 3, 4])) == 2
    assert ui.shape([5]) == []
    assert ui.shape([None, None]) == []
    assert ui.shape([3, 3, 3]) == ["0.0,19.0 50.0,19.0 100.0,19.0"]


def render(source: str, **values: object) -> str:
    return Template(source).render(Context({"request": RequestFactory().get("/?risk=high&after=5"), **values}))


def test_query_changes_one_key_and_keeps_the_rest():
    assert render("{% query risk='low' %}") == "?risk=low&amp;after=5"
    assert render("{% query after=None %}") == "?risk=high"


def test_a_deadline_knows_when_it_is_near_or_over():
    from django.utils import timezone

    now = timezone.now()

    assert "data-near" in render("{% due at %}", at=now + timedelta(minutes=4))
    assert "data-over" in render("{% due at %}", at=now - timedelta(minutes=4))
    assert "Overdue 4 min" in render("{% due at %}", at=now - timedelta(minutes=4, seconds=2))
    far = render("{% due at %}", at=now + timedelta(hours=1))
    assert "data-near" not in far
    assert "data-over" not in far


def test_labels_of_badges_are_escaped():
    assert "<b>" not in render('{% badge "ok" "check" label %}', label="<b>x</b>")
    assert "<b>" not in render("{% stat label 1 %}", label="<b>x</b>")
    assert "<b>" not in render("{% kv pairs %}", pairs=[("<b>k</b>", "<b>v</b>")])
    assert "<b>" not in render("{% tile label value %}", label="<b>k</b>", value="<b>v</b>")


def test_every_icon_named_in_a_template_exists():
    import re
    from pathlib import Path

    from django.conf import settings

    from console import icons

    named = set()
    for file in Path(settings.BASE_DIR / "templates").rglob("*.html"):
        named |= set(re.findall(r'{% icon "([a-z0-9-]+)"', file.read_text()))

    assert len(named) > 20
    for name in sorted(named):
        assert icons.drawing(name)
