"""Reading a file of one JSON object per line from an untrusted source: bounded, strict, line by line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from runtime.providers import arguments

LONGEST_LINE_BYTES = 8_000_000
DEEPEST = 60
BOM = b"\xef\xbb\xbf"


class BadJson(ValueError):
    """The text is no JSON that can be used; the message says which rule it breaks."""


@dataclass(frozen=True)
class Line:
    """One line that is not blank. `data` is None when it is longer than LONGEST_LINE_BYTES."""

    number: int
    offset: int
    data: bytes | None


def lines(path: Path) -> Iterator[Line]:
    """Every line of the file; one that is too long is skipped in pieces, never held as a whole.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        number, offset = 0, 0
        while piece := file.readline(LONGEST_LINE_BYTES + 1):
            number += 1
            length = len(piece)
            if length > LONGEST_LINE_BYTES and not piece.endswith(b"\n"):
                yield Line(number, offset, None)
                length += _skip(file)
            elif text := (piece.removeprefix(BOM) if number == 1 else piece).strip():
                yield Line(number, offset, text)
            offset += length


def line_at(path: Path, offset: int) -> bytes:
    """The line that `lines` found at `offset`."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline(LONGEST_LINE_BYTES + 1).removeprefix(BOM if offset == 0 else b"").strip()


def parse(data: bytes) -> Any:
    """Parse JSON that means one thing only: UTF-8, no NaN, no repeated key, not absurdly nested.

    NUL and halves of surrogate pairs, which PostgreSQL cannot store, become U+FFFD.

    Raises:
        BadJson: says which rule is broken and where.
    """
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as wrong:
        raise BadJson(f"is not UTF-8 at byte {wrong.start}") from wrong
    except json.JSONDecodeError as wrong:
        raise BadJson(f"is not JSON: {wrong.msg} at column {wrong.colno}") from wrong
    except RecursionError as wrong:
        raise BadJson(f"nests deeper than {DEEPEST} levels") from wrong
    except BadJson:
        raise
    except ValueError as wrong:  # an integer with thousands of digits
        raise BadJson(f"is not JSON: {wrong}"[:200]) from wrong
    return _cleaned(found, DEEPEST)


def _skip(file: BinaryIO) -> int:
    skipped = 0
    while piece := file.readline(1_000_000):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadJson(f"repeats the key {key[:80]!r} in one object")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise BadJson(f"holds {name}, which is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise BadJson(f"holds the number {digits[:40]}, which is beyond any float")
    return number


def _cleaned(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return arguments.writable(value)
    if levels == 0 and isinstance(value, dict | list):
        raise BadJson(f"nests deeper than {DEEPEST} levels")
    if isinstance(value, list):
        return [_cleaned(item, levels - 1) for item in value]
    if isinstance(value, dict):
        return {arguments.writable(key): _cleaned(item, levels - 1) for key, item in value.items()}
    return value
