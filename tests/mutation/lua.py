"""Mutants of a Lua script, made from its tokens: its header, comments, strings and the names of keys stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.mutation.mutant import Mutant

TOKEN = re.compile(
    r"(?P<comment>--[^\n]*)|(?P<string>'[^'\n]*'|\"[^\"\n]*\")|(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\.\.|==|~=|<=|>=|[-+*/%#<>=(){}\[\];:,.])"
)
WORDS = frozenset(
    {
        *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not"),
        *("or", "repeat", "return", "then", "true", "until", "while"),
    }
)
ENDINGS = frozenset({")", "]", "}", "end", "nil", "true", "false"})
"""Beside names, numbers and strings: what a value may end with."""

OPENING, CLOSING = frozenset("([{"), frozenset(")]}")
SWAPS = {
    "comparison": {"==": "~=", "~=": "==", "<": "<=", "<=": "<", ">": ">=", ">=": ">"},
    "logic": {"and": "or", "or": "and"},
    "constant": {"true": "false", "false": "true"},
    "bound": {"min": "max", "max": "min"},
}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*"}
CALL = ("redis", ".", "call", "(")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    start: int
    end: int

    @property
    def ends_a_value(self) -> bool:
        return self.text in ENDINGS or self.kind in ("string", "number") or self.is_a_name

    @property
    def is_a_name(self) -> bool:
        return self.kind == "name" and self.text not in WORDS


def mutants(path: str, source: str) -> Iterator[Mutant]:
    header = source.index("\n\n")
    found = TOKEN.finditer(source, header)
    tokens = [Token(str(each.lastgroup), each[0], each.start(), each.end()) for each in found]
    tokens = [token for token in tokens if token.kind != "comment"]
    for kind, start, end, wrong in _changes(tokens, source):
        yield Mutant(path, kind, start, end, wrong)


Change = tuple[str, int, int, str]


def _changes(tokens: Sequence[Token], source: str) -> Iterator[Change]:
    for at, token in enumerate(tokens):
        for kind, swaps in SWAPS.items():
            if token.kind != "string" and token.text in swaps:
                yield kind, token.start, token.end, swaps[token.text]
        yield from _arithmetic(tokens, at)
        if token.kind == "number" and not _of_a_list(tokens, at):
            for number in _next_to(tokens, at):
                yield "number", token.start, token.end, str(number)
        if token.text in ("if", "elseif"):
            start, end = _condition(tokens, at)
            yield "condition", start, end, f"not ({source[start:end]})"
            yield "check", start, end, "false"
        if token.text == "not":
            yield "condition", token.start, token.end, ""
        if _begins_a_statement(tokens, at):
            yield from _statement(tokens, at)


def _arithmetic(tokens: Sequence[Token], at: int) -> Iterator[Change]:
    token = tokens[at]
    if token.kind != "sign" or token.text not in ARITHMETIC:
        return
    between_values = tokens[at - 1].ends_a_value
    yield "arithmetic", token.start, token.end, ARITHMETIC[token.text] if between_values else ""


def _of_a_list(tokens: Sequence[Token], at: int) -> bool:
    """Whether it is the place of a key or an argument, of which the first line of a script makes names."""
    return tokens[at - 1].text == "[" and tokens[at - 2].text in ("KEYS", "ARGV")


def _next_to(tokens: Sequence[Token], at: int) -> Iterator[int]:
    number = int(tokens[at].text)
    yield number + 1
    # To `string.sub` and `string.find` the place 0 is the same as 1.
    if number > 1 or (number == 1 and not tokens[at - 1].text == "," == tokens[at + 1].text):
        yield number - 1


def _condition(tokens: Sequence[Token], at: int) -> tuple[int, int]:
    then = next(place for place in range(at, len(tokens)) if tokens[place].text == "then")
    return tokens[at + 1].start, tokens[then - 1].end


def _begins_a_statement(tokens: Sequence[Token], at: int) -> bool:
    if at == 0 or not tokens[at].is_a_name:
        return False
    before = tokens[at - 1]
    return before.text in ("then", "else", "do") or before.ends_a_value


def _statement(tokens: Sequence[Token], at: int) -> Iterator[Change]:
    """A call or an assignment is left out; so is each field of a write."""
    end = _end_of_statement(tokens, at)
    words = tuple(token.text for token in tokens[at : at + 4])
    if words == CALL or any(token.text == "=" for token in tokens[at:end]):
        yield "write", tokens[at].start, tokens[end - 1].end, ""
    if words == CALL:
        yield from _fields(_arguments(tokens[at + 4 : end - 1]))


def _end_of_statement(tokens: Sequence[Token], at: int) -> int:
    """The place behind its last token: there a word that ends it, or where two values meet."""
    depth = 0
    for place in range(at, len(tokens)):
        token, before = tokens[place], tokens[place - 1]
        if depth == 0 and place > at:
            if token.text in WORDS - {"and", "or", "not", "nil", "true", "false"}:
                return place
            if before.ends_a_value and (token.kind in ("string", "number") or token.is_a_name):
                return place
        depth += (token.text in OPENING) - (token.text in CLOSING)
    return len(tokens)


def _arguments(tokens: Sequence[Token]) -> list[tuple[int, int, str]]:
    """Start and end of each argument in the source, and the text of those that are a single token."""
    places, depth, first = [], 0, 0
    for at, token in enumerate(tokens):
        depth += (token.text in OPENING) - (token.text in CLOSING)
        if (depth == 0 and token.text == ",") or at == len(tokens) - 1:
            last = at if token.text == "," else at + 1
            alone = tokens[first].text if last - first == 1 else ""
            places.append((tokens[first].start, tokens[last - 1].end, alone))
            first = at + 1
    return places


def _fields(arguments: list[tuple[int, int, str]]) -> Iterator[Change]:
    """Each field of an event is emptied, each of a hash left out."""
    command = arguments[0][2]
    if command == "'XADD'":
        for start, end, alone in arguments[4::2]:
            if alone != "''":
                yield "field", start, end, "''"
    if command == "'HSET'" and len(arguments) > 5:
        for at in range(2, len(arguments), 2):
            # A comma goes with it: the one before.
            yield "field", arguments[at - 1][1], arguments[at + 1][1], ""
