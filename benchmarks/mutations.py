"""The small changes that `mutants.py` makes to a module, each of which some test should notice.

A change replaces a piece of one line by another: a comparison's edge, an operator, a number, a
condition, a keyword argument left out, a statement left out. Docstrings, annotations, messages of
errors and what only type checkers read are left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OPERATORS: dict[type[ast.AST], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is",
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*",
    ast.Pow: "*", ast.BitAnd: "|", ast.BitOr: "&", ast.And: "or", ast.Or: "and",
}  # fmt: skip
SIGNS: dict[type[ast.AST], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.Pow: "**", ast.BitAnd: "&", ast.BitOr: "|", ast.And: "and", ast.Or: "or",
}  # fmt: skip
#: Keyword arguments that no test on one processor, of calls that are right, can tell.
UNTOLD = {"device", "strict", "stacklevel", "repr"}
#: Calls that stand for one another, and those whose argument, or object, stands for the whole.
SWAPS = {"min": "max", "max": "min", "any": "all", "all": "any"}
WRAPPERS = {"sorted", "reversed", "list", "set", "abs"}
METHODS = {
    "eval", "float", "double", "long", "copy", "clone", "contiguous", "detach", "sigmoid",
    "strip", "lower", "casefold", "resolve", "flush", "exp", "log", "square", "round",
}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One change to a file.

    Attributes:
        file: under ``src/masqclip``.
        line: where it stands, from 1.
        start, end: of what is replaced, in bytes of the file.
        old, new: what stands there, and what shall.
        in_function: whether it runs when a function is called, not when the module is imported.
    """

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str
    in_function: bool


def mutations(root: Path, file: str) -> list[Mutation]:
    """All changes to a file.

    Args:
        root: the package's folder.
        file: path under it.
    """
    source = (root / file).read_bytes()
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    skipped = set(_skipped(tree))
    functions = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for statement in (node.body if isinstance(node.body, list) else [node.body])
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        for (line, column), (last, until), new in _changes(node, source, starts):
            start, end = starts[line - 1] + column, starts[last - 1] + until
            old = source[start:end].decode()
            found.append(Mutation(file, line, start, end, old, new, id(node) in functions))
    return sorted(set(found), key=lambda mutation: (mutation.start, mutation.end, mutation.new))


def applied(source: bytes, mutation: Mutation) -> bytes:
    """The content of a file with the change."""
    return source[: mutation.start] + mutation.new.encode() + source[mutation.end :]


Place = tuple[int, int]


def _skipped(tree: ast.AST) -> Iterator[int]:
    """Nodes that no test can be asked to notice: types, messages, what type checkers read."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                parts = [node.returns, *node.decorator_list]
            case ast.ClassDef():
                parts = [*node.decorator_list]
            case ast.arg() | ast.AnnAssign():
                parts = [node.annotation]
            case ast.Raise() | ast.JoinedStr():
                parts = [node]
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                parts = [node]
            case ast.Assign(targets=[ast.Name("__all__")]):
                parts = [node]
            case ast.Call(func=ast.Name("TypeVar" | "cast" | "App")):
                parts = [node]
            case ast.keyword() if node.arg in UNTOLD:
                parts = [node]
        for part in parts:
            if part is not None:
                yield from (id(inner) for inner in ast.walk(part))


def _changes(node: ast.AST, source: bytes, starts: list[int]) -> Iterator[tuple[Place, Place, str]]:
    """What may be put in place of a node, or of a part of it."""
    if isinstance(node, ast.Compare):
        left = node.left
        for sign, right in zip(node.ops, node.comparators, strict=True):
            yield from _operator(left, sign, right, source, starts)
            left = right
    elif isinstance(node, ast.BinOp):
        yield from _operator(node.left, node.op, node.right, source, starts)
    elif isinstance(node, ast.BoolOp):
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield from _operator(left, node.op, right, source, starts)
    elif isinstance(node, ast.AugAssign):
        if type(node.op) in OPERATORS:
            old, new = SIGNS[type(node.op)] + "=", OPERATORS[type(node.op)] + "="
            yield from _between(node.target, node.value, old, new, source, starts)
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not | ast.USub):
            yield _begin(node), _begin(node.operand), ""
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield _begin(node), _end(node), str(not node.value)
        elif isinstance(node.value, int):
            yield _begin(node), _end(node), str(node.value + 1)
        elif isinstance(node.value, float):
            yield _begin(node), _end(node), repr(node.value * 2 if node.value else 1.0)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield _begin(node.test), _end(node.test), "False"
        if not isinstance(node, ast.While):
            yield _begin(node.test), _end(node.test), "True"
    elif isinstance(node, ast.comprehension):
        for condition in node.ifs:
            yield _begin(condition), _end(condition), "True"
    elif isinstance(node, ast.Call):
        yield from _call(node, source, starts)
    elif isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Call):
            yield _begin(node), _end(node), "pass"
    elif isinstance(node, ast.Break | ast.Continue):
        yield _begin(node), _end(node), "pass"


def _call(node: ast.Call, source: bytes, starts: list[int]) -> Iterator[tuple[Place, Place, str]]:
    """Another function of the same shape, the argument itself, or a keyword argument less."""
    if isinstance(node.func, ast.Name):
        name = node.func.id
        if name in SWAPS:
            yield _begin(node.func), _end(node.func), SWAPS[name]
        if name in WRAPPERS and len(node.args) == 1 and not node.keywords:
            yield _begin(node.func), _end(node.func), ""
    elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and not node.args:
        yield _end(node.func.value), _end(node), ""
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in UNTOLD:
            continue
        begin, end = _begin(keyword), _end(keyword)
        after = source[starts[end[0] - 1] + end[1] :]
        comma = len(after) - len(after.lstrip(b" ,"))
        if b"\n" not in after[:comma]:
            end = (end[0], end[1] + comma)
        yield begin, end, ""


def _operator(
    left: ast.AST, sign: ast.AST, right: ast.AST, source: bytes, starts: list[int]
) -> Iterator[tuple[Place, Place, str]]:
    if type(sign) in OPERATORS:
        old, new = SIGNS[type(sign)], OPERATORS[type(sign)]
        yield from _between(left, right, old, new, source, starts)


def _between(
    left: ast.AST, right: ast.AST, old: str, new: str, source: bytes, starts: list[int]
) -> Iterator[tuple[Place, Place, str]]:
    """An operator that stands between two nodes."""
    (line, column), until = _end(left), _begin(right)
    begin = starts[line - 1] + column
    text = source[begin : starts[until[0] - 1] + until[1]]
    at = text.find(old.encode())
    if at >= 0 and b"\n" not in text[:at] and b"#" not in text[:at]:
        yield (line, column + at), (line, column + at + len(old)), new


def _begin(node: ast.AST) -> Place:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def _end(node: ast.AST) -> Place:
    return node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]
