"""CEL expressions of rules: reading them, how large they may be, and evaluating them in bounded time.

The package `cel` parses and evaluates; it has no limit of its own on what an evaluation may cost. So an expression is
bounded before it is compiled (length, nesting, macros), and an evaluation by the size of the values it would touch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

MOST_CHARACTERS = 1000
DEEPEST = 12  # brackets in brackets; the parser itself is recursive
MOST_MACROS = 4
MOST_PATTERNS = 4
LONGEST_PATTERN = 200
LARGEST_PATTERN = 2000  # states of its automaton, by the estimate of `pattern_size`: it is made at each evaluation
MOST_WORK = 10_000_000  # characters that an evaluation touches at most, by the estimate of `Expression.work`
DEEPEST_VALUE = 40
NODE = 16  # a value counts as this many characters, besides its own

MACROS = frozenset({"all", "exists", "exists_one"})
COSTLY = frozenset({"map", "filter"})  # they copy what they have made so far with each item
METHODS = frozenset(
    {"contains", "endsWith", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"}
    | {"getMilliseconds", "getMinutes", "getMonth", "getSeconds", "matches", "size", "startsWith"}
)
FUNCTIONS = frozenset({"double", "duration", "has", "int", "size", "string", "timestamp", "type"})
WORDS = frozenset({"true", "false", "null", "in"})
OPENING, CLOSING = "([{", ")]}"
OPERAND_ENDS = frozenset({")", "]", "}"})

TOKEN = re.compile(
    r"(?P<space>\s+|//[^\n]*)"
    r"|(?P<text>[rR](?:\"[^\"\n]*\"|'[^'\n]*')|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    r"|(?P<number>0x[0-9a-fA-F]+|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])"
)
REPEAT = re.compile(r"(\\+[wWdDsSpP]|.)\{(\d*),?(\d*)\}")
WIDE = {"w": 60, "W": 60, "p": 60, "P": 60, "d": 5, "D": 5, "s": 3, "S": 3, ".": 4}
SYNTAX_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")


class BadExpression(Exception):
    """The text is no expression that a rule may have. The message says what, where, and the way out."""


class Unevaluated(Exception):
    """The expression could not be evaluated with these values; the message says why."""


@dataclass(frozen=True)
class Token:
    kind: str  # text, number, name, sign
    text: str
    at: int  # place of its first character, from 1


@dataclass(frozen=True)
class Path:
    """A variable with the fields that are read of it. `is_whole`: what follows, if anything, is not known here."""

    parts: tuple[str, ...]
    at: int
    first: int  # index of its first token
    last: int  # and of its last
    is_asked: bool = False  # whether it is there is asked: has(...)
    is_whole: bool = False


@dataclass(frozen=True)
class Macro:
    """`list.exists(name, body)`: tokens from `first` to `last` are its body."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Share:
    """What a part of an expression costs. `joins` is one more than its `+`, `patterns` the size of its patterns."""

    tokens: int
    uses: int
    joins: int
    patterns: int


@dataclass(frozen=True)
class Expression:
    """An expression that fits the bounds, read."""

    text: str
    tokens: tuple[Token, ...]
    macros: tuple[Macro, ...]
    paths: tuple[Path, ...]

    @cached_property
    def totals(self) -> frozenset[str]:
        """Whose totals it reads: principal, agent."""
        read = [path.parts for path in self.paths if path.parts[0] == "totals"]
        whole = frozenset({"principal", "agent"})
        return frozenset().union(*(whole if len(parts) == 1 else whole & {parts[1]} for parts in read))

    def work(self, size: int, longest: int, largest: int) -> int:
        """How many characters an evaluation touches at most, of values of these measures.

        Each use of a variable reads, or copies, all it holds; what stands in a macro does so for every entry.
        """
        outside, *bodies = self._shares
        total = size * (outside.patterns + outside.uses * outside.joins)
        for body in bodies:
            total += longest * (body.uses * size + body.tokens * (largest + NODE)) * body.joins
        return total

    @cached_property
    def _shares(self) -> list[Share]:
        """What stands outside of all macros, then the body of each."""
        bodies = [range(macro.first, macro.last + 1) for macro in self.macros]
        outside = set(range(len(self.tokens))).difference(*bodies)
        return [_share(self.tokens, self.paths, among) for among in (outside, *bodies)]


@lru_cache(maxsize=512)
def read(text: str) -> Expression:
    """Read an expression within its bounds.

    Raises:
        BadExpression: it is too long, too deep, or holds what no expression of a rule may hold.
    """
    if len(text) > MOST_CHARACTERS:
        raise BadExpression(f"The expression has {len(text):,} characters; at most {MOST_CHARACTERS:,} are taken.")
    tokens = tuple(_tokens(text))
    if not tokens:
        raise BadExpression("The expression is empty. Leave `condition` out, or write one.")
    for one, other in itertools.pairwise(tokens):
        if one.kind == other.kind == "text":
            raise BadExpression(f"Character {other.at}: two texts stand side by side. Triple quotes are not taken.")
    _guard_nesting(tokens)
    macros = tuple(_macros(tokens))
    _guard_macros(tokens, macros)
    _guard_patterns(tokens, macros)
    return Expression(text, tokens, macros, tuple(_paths(tokens, macros)))


@lru_cache(maxsize=512)
def compiled(text: str) -> Any:
    """The program of an expression within its bounds; it is made once per text and process.

    Raises:
        BadExpression: also when it does not parse.
    """
    read(text)
    import cel  # slow to import, and needed only where a rule has an expression

    try:
        program = cel.compile(text)
    except ValueError as wrong:
        raise BadExpression(_syntax(str(wrong))) from wrong
    named = set(program.functions())
    unknown = sorted(name for name in named if name.isidentifier() and name not in FUNCTIONS | METHODS)
    if unknown:
        known = ", ".join(sorted(FUNCTIONS | METHODS | MACROS))
        raise BadExpression(f"There is no function {unknown[0]}. There are: {known}.")
    return program


class Values:
    """The variables of one call, for all the rules that ask about it: measured and handed over once."""

    def __init__(self, of: Mapping[str, Any]) -> None:
        self.of = of

    @cached_property
    def measured(self) -> tuple[int, int, int]:
        """Of what others choose; the rest is small."""
        return measure({name: self.of.get(name) for name in ("args", "principal")})

    @cached_property
    def context(self) -> Any:
        import cel

        return cel.Context(dict(self.of))


def evaluate(text: str, values: Values) -> bool:
    """Whether the expression holds for these values.

    Raises:
        Unevaluated: it does not parse, does not fit the values, gives no true or false, or they are too large.
    """
    try:
        program, expression = compiled(text), read(text)
    except BadExpression as wrong:
        raise Unevaluated(str(wrong)) from wrong
    if expression.work(*values.measured) > MOST_WORK:
        raise Unevaluated("the arguments are too large to be judged in the time there is")
    try:
        result = program.execute(values.context)
    except Exception as wrong:  # whatever the package raises: a rule must not be passed by breaking it
        raise Unevaluated(told(wrong)) from wrong
    if not isinstance(result, bool):
        raise Unevaluated(f"it gives {_kind_of(result)}, not true or false")
    return result


def told(wrong: Exception) -> str:
    """Why an evaluation failed, in words."""
    text = str(wrong).strip("'\"")
    if isinstance(wrong, KeyError):
        return f"there is no {text}"
    if isinstance(wrong, IndexError):
        return "a list is shorter than that"
    if isinstance(wrong, ZeroDivisionError):
        return "it divides by zero"
    if isinstance(wrong, OverflowError):
        return "a number is too large"
    if isinstance(wrong, TypeError):
        return "its types do not fit each other (a text and a number, or 2 where 2.0 is meant)"
    return " ".join(text.split())[:200]


def _kind_of(result: Any) -> str:
    names = [(str, "a text"), (int, "a number"), (float, "a number"), (list, "a list"), (dict, "a map")]
    return next((name for kind, name in names if isinstance(result, kind)), "something else")


def _tokens(text: str) -> Iterator[Token]:
    place = 0
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None:
            rest = text[place : place + 20]
            way_out = " It begins a text that does not end." if rest[0] in "'\"" else ""
            raise BadExpression(f"Character {place + 1}: {rest[0]!r} does not belong here.{way_out}")
        if found.lastgroup != "space":
            yield Token(str(found.lastgroup), found[0], place + 1)
        place = found.end()


def _guard_nesting(tokens: Sequence[Token]) -> None:
    depth = 0
    for token in tokens:
        if token.kind == "sign" and token.text in OPENING:
            depth += 1
        elif token.kind == "sign" and token.text in CLOSING:
            depth -= 1
        if depth > DEEPEST:
            raise BadExpression(f"Character {token.at}: brackets stand in brackets more than {DEEPEST} deep.")


def _macros(tokens: Sequence[Token]) -> Iterator[Macro]:
    for index in range(1, len(tokens) - 3):
        dot, name, opening, bound, comma = (*tokens[index - 1 : index + 3], tokens[index + 3])
        if (dot.text, opening.text, comma.text) == (".", "(", ",") and name.text in MACROS and bound.kind == "name":
            yield Macro(bound.text, index + 4, _closing(tokens, index + 1))


def _closing(tokens: Sequence[Token], opening: int) -> int:
    """The last token before the bracket that closes the one at `opening`."""
    depth = 0
    for index in range(opening, len(tokens)):
        if tokens[index].kind == "sign":
            depth += (tokens[index].text in OPENING) - (tokens[index].text in CLOSING)
        if depth == 0:
            return index - 1
    return len(tokens) - 1


def _guard_macros(tokens: Sequence[Token], macros: Sequence[Macro]) -> None:
    listed = ", ".join(sorted(MACROS))
    if len(macros) > MOST_MACROS:
        raise BadExpression(f"The expression goes through lists {len(macros)} times; at most {MOST_MACROS} are taken.")
    inner = [one for one in macros for other in macros if one is not other and other.first <= one.first <= other.last]
    if inner:
        at = tokens[inner[0].first].at
        raise BadExpression(f"Character {at}: {listed} cannot stand inside another of them. Ask one question a list.")
    heads = {macro.first - 4 for macro in macros}
    for index, token in enumerate(tokens[:-1]):
        is_call = tokens[index + 1].text == "(" and token.kind == "name"
        if is_call and token.text in MACROS and index not in heads:
            raise BadExpression(f"Character {token.at}: write {token.text} as list.{token.text}(name, condition).")
        if is_call and token.text in COSTLY:
            raise BadExpression(f"Character {token.at}: {token.text} is not there for rules. There are: {listed}.")


def _guard_patterns(tokens: Sequence[Token], macros: Sequence[Macro]) -> None:
    """Patterns are written out and short, and no list is gone through with them: each use compiles them again."""
    used = [(index, token) for index, token in enumerate(tokens) if (token.kind, token.text) == ("name", "matches")]
    if len(used) > MOST_PATTERNS:
        raise BadExpression(f"The expression has {len(used)} patterns; at most {MOST_PATTERNS} are taken.")
    for index, token in used:
        where = f"Character {token.at}: matches"
        pattern = tokens[index + 2] if index + 3 < len(tokens) else None
        if pattern is None or pattern.kind != "text" or tokens[index + 3].text != ")":
            raise BadExpression(f"{where} takes one pattern that is written out: .matches('^[a-z]+$').")
        if len(pattern.text) > LONGEST_PATTERN:
            raise BadExpression(f"{where} has a pattern of {len(pattern.text)} characters; at most {LONGEST_PATTERN}.")
        if pattern_size(pattern.text) > LARGEST_PATTERN:
            raise BadExpression(f"{where} repeats too much in {{}}. Write + or *, or smaller numbers.")
        if any(macro.first <= index <= macro.last for macro in macros):
            raise BadExpression(f"{where} cannot be asked of each item of a list. Use startsWith, endsWith, contains.")


def pattern_size(pattern: str) -> int:
    """About how many states the automaton of a regular expression has; repeats of repeats multiply."""
    size, factor = len(pattern), 1
    for atom, low, high in REPEAT.findall(pattern):
        times = int(high or low or 1)
        if atom in (")", "}"):
            factor *= max(1, times)
        else:
            size += times * WIDE.get(atom[-1] if len(atom) > 1 or atom == "." else "", 2)
    return size * factor * (2 if "(?i" in pattern else 1)


def _paths(tokens: Sequence[Token], macros: Sequence[Macro]) -> Iterator[Path]:
    for index, token in enumerate(tokens):
        before = tokens[index - 1].text if index else ""
        if token.text == "." and token.kind == "sign" and not _is_operand(tokens, index - 1):
            raise BadExpression(f"Character {token.at}: nothing stands before the dot.")
        is_call = index + 1 < len(tokens) and tokens[index + 1].text == "("
        if token.kind != "name" or before == "." or token.text in WORDS or is_call or _is_bound(index, tokens, macros):
            continue
        yield _path(tokens, index)


def _is_operand(tokens: Sequence[Token], index: int) -> bool:
    return index >= 0 and (tokens[index].kind != "sign" or tokens[index].text in OPERAND_ENDS)


def _is_bound(index: int, tokens: Sequence[Token], macros: Sequence[Macro]) -> bool:
    """Whether the name is the item of a list: where the macro names it, or in its body."""
    return any(
        tokens[index].text == macro.name and (macro.first <= index <= macro.last or index == macro.first - 2)
        for macro in macros
    )


def _path(tokens: Sequence[Token], first: int) -> Path:
    parts, last, is_whole = [tokens[first].text], first, False
    while last + 2 < len(tokens):
        sign, part = tokens[last + 1], tokens[last + 2]
        after = tokens[last + 3].text if last + 3 < len(tokens) else ""
        if sign.text == "." and part.kind == "name" and after != "(":
            parts.append(part.text)
            last += 2
        elif sign.text == "[" and part.kind == "text" and after == "]":
            parts.append(part.text.lstrip("rR")[1:-1])
            last += 3
        else:
            is_whole = sign.text == "["
            break
    is_asked = first >= 2 and [token.text for token in tokens[first - 2 : first]] == ["has", "("]
    return Path(tuple(parts), tokens[first].at, first, last, is_asked, is_whole)


def _share(tokens: Sequence[Token], paths: Sequence[Path], among: Collection[int]) -> Share:
    used = [tokens[index] for index in among]
    return Share(
        tokens=len(used),
        uses=sum(path.first in among for path in paths),
        joins=1 + sum(token.text == "+" for token in used),
        patterns=sum(
            pattern_size(tokens[index + 2].text)
            for index in among
            if (tokens[index].kind, tokens[index].text) == ("name", "matches")
        ),
    )


def measure(value: Any, depth: int = 0) -> tuple[int, int, int]:
    """Characters of all texts (a value counts as some more), entries of the longest list or map, size of the largest.

    What a macro goes through are the items of a list, and the keys of a map.

    Raises:
        Unevaluated: values stand in values too deep.
    """
    if depth > DEEPEST_VALUE:
        raise Unevaluated("the arguments are nested too deep to be judged")
    if isinstance(value, str):
        return NODE + len(value), 0, 0
    size, longest, largest = NODE, 0, 0
    if isinstance(value, dict):
        keys = [len(str(key)) for key in value]
        size, longest, largest = size + sum(keys), len(keys), max(keys, default=0)
        inner = [measure(item, depth + 1) for item in value.values()]
    elif isinstance(value, list):
        longest = len(value)
        inner = [measure(item, depth + 1) for item in value]
        largest = max((item[0] for item in inner), default=0)
    else:
        return size, 0, 0
    for item in inner:
        size, longest, largest = size + item[0], max(longest, item[1]), max(largest, item[2])
    return size, longest, largest


def _syntax(said: str) -> str:
    """The parser's sentence, shortened to place and what is wrong."""
    found = SYNTAX_ERROR.search(said)
    if found is None:
        return "This is no CEL expression."
    line, column, what = int(found[1]), int(found[2]), found[3]
    where = f"Character {column}" if line == 1 else f"Line {line}, character {column}"
    if "'<EOF>'" in what:
        return f"{where}: the expression ends too early. A value or a closing bracket is missing."
    wrong = re.search(r"(?:mismatched|extraneous|alternative at) input '([^']*)'", what)
    return f"{where}: {wrong[1]!r} does not belong here." if wrong else f"{where}: {what[:120]}."
