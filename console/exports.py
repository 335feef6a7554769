"""The one writer of all exports. Spreadsheets run cells that look like formulas; here none does."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from django.http import StreamingHttpResponse

from console import redact

Cell = str | int | float | Decimal | datetime | None

# The first four start a formula, the next three hide one from a glance, the rest are their full-width twins.
STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "|", "%")
ROWS_PER_PIECE = 200


def as_csv(file_name: str, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> StreamingHttpResponse:
    """A download. Numbers stay numbers; text is masked for secrets and can never be a formula."""
    response = StreamingHttpResponse(_pieces(header, rows), content_type="text/csv; charset=utf-8")
    safe_name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in file_name)
    response["Content-Disposition"] = f'attachment; filename="{safe_name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    text = redact.text(value)
    return f"'{text}" if text.lstrip(" ").startswith(STARTS_FORMULA) else text


def _pieces(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    piece = io.StringIO()
    writer = csv.writer(piece)
    writer.writerow([cell(name) for name in header])
    for number, row in enumerate(rows, start=1):
        writer.writerow([cell(value) for value in row])
        if number % ROWS_PER_PIECE == 0:
            yield piece.getvalue()
            piece.seek(0)
            piece.truncate()
    yield piece.getvalue()
