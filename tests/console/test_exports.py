from __future__ import annotations

import csv
import io
from decimal import Decimal

import pytest

from console import exports


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠", " =", "  -", "|", "%"])
def test_text_is_never_a_formula(start: str) -> None:
    assert exports.cell(f"{start}cmd|' /C calc'!A0").startswith("'")


@pytest.mark.parametrize(
    ("value", "text"), [(-3, "-3"), (Decimal("-0.5"), "-0.5"), (0.25, "0.25"), (None, ""), ("a=b", "a=b")]
)
def test_numbers_stay_numbers(value: exports.Cell, text: str) -> None:
    assert exports.cell(value) == text


def test_secrets_do_not_leave() -> None:
    assert "abcdefgh" not in exports.cell("sk-proj-abcdefghijklmnopqrstuvwx")


def test_a_download_reads_back_and_its_header_is_safe_too() -> None:
    answer = exports.as_csv("runs/../=x.csv", ["=name", "n"], [[f'row {number}, "q"', number] for number in range(450)])

    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert rows[0] == ["'=name", "n"]
    assert len(rows) == 451
    assert rows[450] == ['row 449, "q"', "449"]
    assert answer["Content-Disposition"] == 'attachment; filename="runs_.._=x.csv"'.replace("=x", "_x")
