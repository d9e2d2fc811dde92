"""Mutants of a Python module, made from its syntax tree: annotations, docstrings, logging and plain figures stay as they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.mutation.mutant import Mutant

COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
}
BOUNDS = {"min": "max", "max": "min"}
BY_TYPE = {"strict"}
"""Arguments that only make an impossible case fail."""

Change = tuple[str, int, int, str]


def mutants(path: str, source: str) -> Iterator[Mutant]:
    for kind, start, end, wrong in _Changes(source).all():
        yield Mutant(path, kind, start, end, wrong)


class _Changes:
    def __init__(self, source: str) -> None:
        self._source = source
        lines = source.splitlines(keepends=True)
        self._lines = lines
        self._starts = [sum(len(line) for line in lines[:number]) for number in range(len(lines))]

    def all(self) -> Iterator[Change]:
        for statement in ast.parse(self._source).body:
            if not _is_figure(statement):
                yield from self._of(statement)

    def _of(self, node: ast.AST) -> Iterator[Change]:
        if isinstance(node, ast.JoinedStr | ast.Assert) or _is_logging(node):
            return
        match node:
            case ast.Compare():
                yield from self._comparisons(node)
            case ast.BoolOp():
                yield from self._logic(node)
            case ast.BinOp():
                if type(node.op) in ARITHMETIC:
                    right, wrong = ARITHMETIC[type(node.op)]
                    yield self._between(node.left, node.right, "arithmetic", right, wrong)
            case ast.UnaryOp():
                kind, sign = ("condition", "not ") if isinstance(node.op, ast.Not) else ("arithmetic", "-")
                yield kind, self._start(node), self._start(node) + len(sign), ""
            case ast.Constant():
                yield from self._constant(node)
            case ast.Name(id="min" | "max" as name):
                yield "bound", *self._span(node), BOUNDS[name]
            case ast.If() | ast.While() | ast.IfExp():
                yield from self._condition(node.test)
                yield "check", *self._span(node.test), "False"
            case ast.comprehension():
                for test in node.ifs:
                    yield from self._condition(test)
                    yield "check", *self._span(test), "True"
            case ast.Raise() | ast.Break() | ast.AugAssign():
                yield "write", *self._span(node), "pass"
            case ast.Assign(targets=[ast.Subscript() | ast.Attribute()]) | ast.Expr(value=ast.Call()) | ast.Delete():
                yield "write", *self._span(node), "pass"
        for child in _children(node):
            yield from self._of(child)

    def _comparisons(self, node: ast.Compare) -> Iterator[Change]:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            yield self._between(left, right, "comparison", *COMPARISONS[type(operator)])
            left = right

    def _logic(self, node: ast.BoolOp) -> Iterator[Change]:
        word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield self._between(left, right, "logic", word, other)

    def _constant(self, node: ast.Constant) -> Iterator[Change]:
        if isinstance(node.value, bool):
            yield "constant", *self._span(node), str(not node.value)
        elif isinstance(node.value, int):
            for number in {node.value + 1, max(node.value - 1, 0)} - {node.value}:
                yield "number", *self._span(node), str(number)

    def _condition(self, test: ast.expr) -> Iterator[Change]:
        start, end = self._span(test)
        yield "condition", start, end, f"not ({self._source[start:end]})"

    def _between(self, left: ast.expr, right: ast.expr, kind: str, sign: str, wrong: str) -> Change:
        start = self._source.index(sign, self._span(left)[1], self._start(right))
        return kind, start, start + len(sign), wrong

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._offset(node.lineno, node.col_offset)

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._start(node), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        """The tree counts bytes."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list"):
            yield from (each for each in (value if isinstance(value, list) else [value]) if isinstance(each, ast.AST))


def _is_figure(statement: ast.stmt) -> bool:
    """A size of a page, a time to wait: no decision, and no test could tell one from the next."""
    if not isinstance(statement, ast.Assign):
        return False
    value = statement.value
    parts = value.elts if isinstance(value, ast.Tuple) else [value]
    return all(isinstance(part, ast.Constant) for part in parts)


def _is_logging(node: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case ast.keyword(arg=name):
            return name in BY_TYPE
    return False
