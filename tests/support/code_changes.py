"""Small changes to a module, each tried in a process of its own: does a test notice?

mutmut changes the functions of the core and knows which tests call which. What it leaves as it is, the numbers beside
functions and the bodies of properties, is changed here, as is what the lanes do, whose tests are too slow for it.
"""

import ast
import copy
import os
import re
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import hypothesis.stateful  # noqa: F401 - imported once, not in each process
import pytest

OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
CPU_S = 600
"""Seconds of processor time after which a change counts as noticed: the tests do not end any more."""

_SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
}  # fmt: skip

Edit = tuple[ast.stmt, Callable[[], None]]
"""A statement, and what changes it in its tree."""


class Change(NamedTuple):
    """One change to a module."""

    module: str
    line: int
    before: str
    after: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"


def find_value_changes(path: Path) -> list[Change]:
    """Return changes to the numbers of a module and its classes, and to the bodies of its properties."""
    return _find_changes(path, _value_edits)


def find_step_changes(path: Path) -> list[Change]:
    """Return changes to what functions do: conditions the other way round, steps and early ends left out."""
    return _find_changes(path, _step_edits)


def _find_changes(path: Path, edits: Callable[[ast.Module], Iterator[Edit]]) -> list[Change]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module, changes = ".".join(path.with_suffix("").parts), []
    for n in range(sum(1 for _ in edits(tree))):
        changed = copy.deepcopy(tree)
        statement, change = list(edits(changed))[n]
        before = ast.unparse(statement).partition("\n")[0]
        change()
        after = ast.unparse(statement).partition("\n")[0]
        changes.append(Change(module, statement.lineno, before, after, changed))
    return changes


def _value_edits(tree: ast.Module) -> Iterator[Edit]:
    for statement in _statements_beside_functions(tree.body):
        value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else statement
        for node in ast.walk(value) if value is not None else ():
            yield from ((statement, edit) for edit in _operator_edits(node))
            if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
                other = not node.value if isinstance(node.value, bool) else node.value + 1
                yield statement, partial(setattr, node, "value", other)


def _statements_beside_functions(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            yield statement
        elif isinstance(statement, ast.ClassDef):
            yield from _statements_beside_functions(statement.body)
        elif isinstance(statement, ast.FunctionDef) and statement.decorator_list:
            yield from (inner for inner in statement.body if not isinstance(inner, ast.Expr))


def _step_edits(tree: ast.Module) -> Iterator[Edit]:
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    steps = (node for function in functions for step in function.body for node in ast.walk(step))
    for statement in dict.fromkeys(node for node in steps if isinstance(node, ast.stmt)):
        yield from ((statement, edit) for edit in _own_edits(statement))


def _own_edits(statement: ast.stmt) -> Iterator[Callable[[], None]]:
    """Return the changes to a statement, without those to the statements in it."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield partial(setattr, statement, "value", ast.Constant(...))
    if isinstance(statement, ast.Raise):
        yield partial(setattr, statement, "exc", ast.Name("AssertionError", ast.Load()))
    for node in _expressions(statement):
        yield from _operator_edits(node)
        if isinstance(node, ast.IfExp):
            yield partial(setattr, node, "test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(statement, ast.If):
        for constant in (True, False):
            yield partial(setattr, statement, "test", ast.Constant(constant))


def _expressions(statement: ast.stmt) -> Iterator[ast.AST]:
    parts = (part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.expr))
    return (node for part in parts for node in ast.walk(part))


def _operator_edits(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        yield partial(setattr, node, "ops", [_SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in _SWAPS:
        yield partial(setattr, node, "op", _SWAPS[type(node.op)]())


class _Changed(MetaPathFinder, Loader):
    """Imports the changed module in place of its file."""

    def __init__(self, change: Change) -> None:
        self.change = change

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == self.change.module else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(ast.fix_missing_locations(self.change.tree), self.change.module, "exec"), vars(module))


def is_noticed(change: Change, tests: Iterable[Path], *options: str) -> bool:
    """Return whether a test fails with this change: those that name the module are run first."""
    every, name = sorted(tests), re.compile(rf"\b{change.module.rpartition('.')[2]}\b")
    near = [path for path in every if name.search(path.read_text(encoding="utf-8"))]
    far = [path for path in every if path not in near]
    return any(paths and _fail_with_change(change, [*OPTIONS, *options, *map(str, paths)]) for paths in (near, far))


def are_tests_sound(tests: Iterable[Path], *options: str) -> bool:
    """Return whether the tests pass without a change."""
    return not is_noticed(Change("", 0, "", "", ast.Module([], [])), tests, *options)


def _fail_with_change(change: Change, arguments: list[str]) -> bool:
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.meta_path.insert(0, _Changed(change))
        code = int(pytest.main(arguments))
    finally:
        os._exit(code)
