"""Mutants: the package with one small mistake each, made in the syntax tree of a module."""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ["Mutant", "mutants_of"]

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
FUNCTIONS = {"any": "all", "all": "any", "min": "max", "max": "min"}
KEPT_DECORATORS = {"overload", "final", "dataclass", "override"}


@dataclass(frozen=True)
class Mutant:
    """One mistake. Its name says where it is without a line, so that it outlives other edits."""

    file: str
    """Relative to the package."""
    scope: str
    """The qualified name of the function or class around it; empty in the module itself."""
    before: str
    after: str
    number: int
    """Which one of those in this scope that read alike."""
    lines: frozenset[int]
    """A test that executes none of these can't notice; empty if it acts while the module is imported."""
    shown_before: str
    """The statement around it, or the line of code that begins it."""
    shown_after: str
    place: int
    """Among all of the module."""

    @property
    def name(self) -> str:
        """Names this mutant in files and on the command line."""
        number = f" #{self.number + 1}" if self.number else ""
        return f"{self.file} {self.scope or '<module>'}: {self.before} -> {self.after}{number}"

    def diff(self) -> str:
        """What differs."""
        first = min(self.lines, default=0)
        lines = [f"--- {self.file}:{first} {self.scope}"]
        lines += [f"-{line}" for line in self.shown_before.splitlines()]
        lines += [f"+{line}" for line in self.shown_after.splitlines()]
        return "\n".join(lines)

    def code(self, package: Path) -> CodeType:
        """The compiled module with the mistake in it."""
        path = package / self.file
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = list(_Finder(tree).find())[self.place]
        found.make()
        ast.fix_missing_locations(tree)
        return compile(tree, str(path), "exec", dont_inherit=True)


def mutants_of(package: Path, file: str) -> list[Mutant]:
    """All mutants of one module of the package."""
    tree = ast.parse((package / file).read_text(encoding="utf-8"))
    seen: Counter[tuple[str, str, str]] = Counter()
    mutants = []
    for place, found in enumerate(_Finder(tree).find()):
        before, after = found.texts()
        key = found.scope, before, after
        shown_before = found.shown()
        found.make()
        shown_after = found.shown()
        found.undo()
        mutants.append(
            Mutant(
                file=file,
                scope=found.scope,
                before=before,
                after=after,
                number=seen[key],
                lines=found.lines,
                shown_before=shown_before,
                shown_after=shown_after,
                place=place,
            )
        )
        seen[key] += 1
    return mutants


@dataclass
class _Found:
    """Somewhere in the tree, another node can stand."""

    parent: Any
    field: str
    index: int | None
    old: ast.AST
    new: ast.AST
    scope: str
    statement: ast.stmt
    """Around it; its own parent's part of the tree shows the change."""
    lines: frozenset[int]

    def _put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node

    def make(self) -> None:
        ast.copy_location(self.new, self.old)
        self._put(self.new)

    def undo(self) -> None:
        self._put(self.old)

    def texts(self) -> tuple[str, str]:
        if isinstance(self.new, ast.Pass):
            return f"[{_header(self.old)}]", "[]"
        if isinstance(self.old, ast.stmt):
            return f"[{_header(self.old)}]", f"[{_header(self.new)}]"
        return _text(self.old), _text(self.new)

    def shown(self) -> str:
        now: Any = getattr(self.parent, self.field)
        now = now if self.index is None else now[self.index]
        return _header(now if isinstance(self.old, ast.stmt) else self.statement)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.comprehension):
        return "if " + " if ".join(map(ast.unparse, node.ifs)) if node.ifs else "(no if)"
    return " ".join(ast.unparse(node).split())


def _header(statement: ast.AST) -> str:
    """A statement without what stands in its block."""
    if not hasattr(statement, "body"):
        return ast.unparse(statement)
    alone: Any = copy.copy(statement)
    alone.body = [ast.Pass()]
    for field in ("orelse", "handlers", "finalbody"):
        if hasattr(alone, field):
            setattr(alone, field, [])
    if isinstance(alone, ast.Try):
        return "try:"
    return ast.unparse(ast.fix_missing_locations(alone)).removesuffix("\n    pass")


class _Finder:
    """Finds the places of a module where a mistake can be made, always in the same order."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._stored: Counter[str] = Counter()
        """How often the function around gives each of its names a value."""
        self._last: set[int] = set()
        """The statements, by address, after which a function ends anyway."""

    def find(self) -> Iterator[_Found]:
        yield from self._block(self._tree, "body", "", frozenset(), is_function=False)

    # -- statements ----------------------------------------------------------------------------

    def _block(
        self, parent: Any, field: str, scope: str, around: frozenset[int], *, is_function: bool
    ) -> Iterator[_Found]:
        for index, statement in enumerate(getattr(parent, field)):
            yield from self._statement(
                statement, parent, field, index, scope, around, is_function=is_function
            )

    def _statement(
        self,
        node: Any,
        parent: Any,
        field: str,
        index: int,
        scope: str,
        around: frozenset[int],
        *,
        is_function: bool,
    ) -> Iterator[_Found]:
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Assert, ast.Global, ast.Nonlocal)):
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from self._definition(node, scope)
            return
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if _is_docstring(node) or _is_dunder(node):
            return
        lines = _lines_of(node) if is_function else around
        place = (parent, field, index)

        def found(new: ast.AST) -> _Found:
            return _Found(*place, node, new, scope, node, lines)

        if is_function:
            if isinstance(node, ast.Continue):
                yield found(ast.Break())
            elif isinstance(node, ast.Break):
                yield found(ast.Continue())
            elif isinstance(node, ast.Return):
                if node.value is not None and not _is_false(node.value):
                    yield found(ast.Return(value=ast.Constant(value=None)))
                elif len(getattr(parent, field)) == index + 1 and id(node) not in self._last:
                    yield found(ast.Pass())
            elif isinstance(node, (ast.Expr, ast.AugAssign, ast.Raise, ast.Delete)) or (
                isinstance(node, (ast.Assign, ast.AnnAssign)) and self._is_missed_quietly(node)
            ):
                yield found(ast.Pass())
        if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
            changed = copy.copy(node)
            changed.op = ARITHMETIC[type(node.op)]()
            yield found(changed)
        if isinstance(node, (ast.If, ast.While)) and not _is_negated_elsewhere(node.test):
            negated = ast.UnaryOp(op=ast.Not(), operand=node.test)
            yield _Found(node, "test", None, node.test, negated, scope, node, lines)
        if not isinstance(node, ast.Raise):
            yield from self._expressions(node, scope, node, lines)
        for name in ("body", "orelse", "finalbody"):
            if getattr(node, name, None):
                yield from self._block(node, name, scope, around, is_function=is_function)
        for handler in getattr(node, "handlers", ()):
            yield from self._block(handler, "body", scope, around, is_function=is_function)

    def _is_missed_quietly(self, node: Any) -> bool:
        """Whether code goes on without an assignment; a NameError says nothing about tests."""
        if isinstance(node, ast.AnnAssign):
            return False  # a first value
        names = [
            each.id
            for target in node.targets
            for each in ast.walk(target)
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
        ]
        return all(self._stored[name] > 1 for name in names)

    def _definition(self, node: Any, scope: str) -> Iterator[_Found]:
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(b) for b in node.bases):
            return
        decorators = {ast.unparse(each).partition("(")[0] for each in node.decorator_list}
        if "overload" in decorators:
            return
        inner = f"{scope}.{node.name}" if scope else node.name
        is_function = not isinstance(node, ast.ClassDef)
        lines = frozenset(range(node.body[0].lineno, (node.end_lineno or 0) + 1))
        outer, self._stored = self._stored, _stores_of(node)
        if is_function:
            self._last.update(map(id, _last_statements(node.body)))
        for index, decorator in enumerate(node.decorator_list):
            if ast.unparse(decorator).partition("(")[0] not in KEPT_DECORATORS:
                no_decorator = ast.parse("lambda it: it", mode="eval").body
                yield _Found(
                    node, "decorator_list", index, decorator, no_decorator, inner, node, lines
                )
        if is_function:
            for name in ("defaults", "kw_defaults"):
                for index, default in enumerate(getattr(node.args, name)):
                    if default is not None:
                        yield from self._expression(
                            default, node.args, name, index, inner, node, lines
                        )
        yield from self._block(node, "body", inner, lines, is_function=is_function)
        self._stored = outer

    # -- expressions ---------------------------------------------------------------------------

    def _expressions(
        self, node: Any, scope: str, statement: ast.stmt, lines: frozenset[int]
    ) -> Iterator[_Found]:
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "body", "orelse", "handlers", "finalbody"} and (
                isinstance(node, ast.stmt) or field in {"annotation", "returns"}
            ):
                continue
            if isinstance(value, list):
                for index, each in enumerate(value):
                    yield from self._expression(each, node, field, index, scope, statement, lines)
            elif isinstance(value, ast.AST):
                yield from self._expression(value, node, field, None, scope, statement, lines)

    def _expression(
        self,
        node: Any,
        parent: Any,
        field: str,
        index: int | None,
        scope: str,
        statement: ast.stmt,
        lines: frozenset[int],
    ) -> Iterator[_Found]:
        if isinstance(node, (ast.JoinedStr, ast.stmt)):
            return
        for new in _others(node):
            yield _Found(parent, field, index, node, new, scope, statement, lines)
        if isinstance(node, ast.AST) and not _is_type_argument(node):
            yield from self._expressions(node, scope, statement, lines)


def _others(node: Any) -> Iterator[ast.AST]:
    """What else could stand in the place of an expression."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            if type(operator) in COMPARISONS:
                changed = copy.copy(node)
                changed.ops = [*node.ops]
                changed.ops[place] = COMPARISONS[type(operator)]()
                yield changed
                if isinstance(operator, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                    turned = copy.copy(node)
                    turned.ops = [*node.ops]
                    turned.ops[place] = ast.Gt() if "Lt" in type(operator).__name__ else ast.Lt()
                    yield turned
    elif isinstance(node, ast.BoolOp):
        swapped = copy.copy(node)
        swapped.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield swapped
        for place in range(len(node.values)):
            rest = [each for index, each in enumerate(node.values) if index != place]
            yield rest[0] if len(rest) == 1 else ast.BoolOp(op=node.op, values=rest)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(test=node.test, body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield node.left  # of lists and strings, too
        yield node.right
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        changed = copy.copy(node)
        changed.op = ARITHMETIC[type(node.op)]()
        yield changed
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id in FUNCTIONS:
            called = copy.copy(node)
            called.func = ast.Name(id=FUNCTIONS[node.func.id], ctx=ast.Load())
            yield called
    elif isinstance(node, ast.comprehension):
        for place in range(len(node.ifs)):
            changed = copy.copy(node)
            changed.ifs = [each for index, each in enumerate(node.ifs) if index != place]
            yield changed
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node.value)


def _other_constants(value: Any) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(value=not value)
    elif isinstance(value, (int, float)):
        yield ast.Constant(value=value + 1)
    elif isinstance(value, str) and re.fullmatch(r"[a-z_]\w+", value):
        yield ast.Constant(value=value + "_")


def _stores_of(function: ast.AST) -> Counter[str]:
    return Counter(
        each.id
        for each in ast.walk(function)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    )


def _is_type_argument(node: ast.AST) -> bool:
    """Whether this is ``dict[str, int]`` and the like, or a cast."""
    return isinstance(node, ast.Subscript) and (
        ast.unparse(node.value)
        in {"dict", "list", "set", "tuple", "frozenset", "Callable", "ContextVar", "type"}
    )


def _last_statements(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements after which a function ends anyway, and returns None."""
    last = block[-1]
    yield last
    if isinstance(last, (ast.If, ast.Try, ast.With, ast.AsyncWith, ast.Match)):
        inner = [last, *getattr(last, "handlers", ()), *getattr(last, "cases", ())]
        for each in inner:
            goes_on = isinstance(each, ast.Try) and each.orelse
            for name in ("orelse",) if goes_on else ("body", "orelse"):
                if getattr(each, name, None):
                    yield from _last_statements(getattr(each, name))


def _is_false(node: ast.AST) -> bool:
    """Whether None in its place has the same truth value."""
    return isinstance(node, ast.Constant) and node.value in (None, False)


def _is_negated_elsewhere(test: ast.AST) -> bool:
    return isinstance(test, (ast.UnaryOp, ast.Constant)) or (
        isinstance(test, ast.Compare)
        and len(test.ops) == 1
        and isinstance(test.ops[0], (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn))
    )


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_dunder(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {
        "__all__",
        "__slots__",
    }


def _lines_of(node: Any) -> frozenset[int]:
    """The lines of a statement, without those of its block."""
    blocks = [each for each in (getattr(node, "body", None),) if each]
    last = blocks[0][0].lineno - 1 if blocks else node.end_lineno
    return frozenset(range(node.lineno, max(node.lineno, last) + 1))
