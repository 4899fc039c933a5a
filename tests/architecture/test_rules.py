"""The rules of docs/architecture.md that no linter knows: the wall around the state, nothing set from outside, sizes.

What a layer may import is held by import-linter (`make layers`), and what a folder holds by tests/docs.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from batcher.state.db.transaction import load_statements
from tests.support.world import ROOT

PACKAGE = ROOT / "batcher"
STATE = PACKAGE / "state"
RUNNERS = ("fetch_all", "fetch_one", "count_changed", "move_lines", "stream_rows")
"""The methods of a transaction whose first argument names a statement."""
PRIVATE = {*RUNNERS, "insert_rows", "move_shard", "read_fact", "read_text_fact", "write_fact", "con"}
"""What only the state may use of a transaction. `now`, `undo`, `record_event` and `set_memory_limit` are for all."""
WIDEST = 20
LONGEST = 400


@cache
def modules() -> Mapping[Path, ast.Module]:
    """Return each module of the package, parsed, by its path; the example job that ships is none."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "data" not in path.parents]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def place(path: Path, node: ast.expr | ast.stmt) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


# --- the wall round the state -----------------------------------------------------------------------------------------


def names_used(tree: ast.AST) -> Iterator[tuple[ast.Attribute, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node, node.attr


def test_no_module_outside_the_state_runs_a_statement() -> None:
    outside = [
        f"{place(path, node)} uses .{name}"
        for path, tree in modules().items()
        if STATE not in path.parents
        for node, name in names_used(tree)
        if name in PRIVATE
    ]
    assert outside == [], f"{len(outside)} places; write a function in batcher/state that returns a named value"


def texts_in(node: ast.AST) -> set[str]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def statements_named(node: ast.AST) -> set[str]:
    """Return the statements that one node names: a call that runs one, a look-up of its text, a loop over several."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RUNNERS and node.args:
        return texts_in(node.args[0]) & set(load_statements())
    if isinstance(node, ast.Subscript) and "load_statements" in ast.unparse(node.value):
        return texts_in(node.slice) & set(load_statements())
    if isinstance(node, ast.For):
        names = texts_in(node.iter)
        return names if names <= set(load_statements()) else set()
    return set()


def callers(node: ast.AST, function: str) -> Iterator[tuple[str, str]]:
    """Yield each statement that a tree names, with the function in which it does."""
    for child in ast.iter_child_nodes(node):
        inside = f"{function}.{child.name}" if isinstance(child, ast.FunctionDef | ast.ClassDef) else function
        for name in statements_named(child):
            yield name, inside
        yield from callers(child, inside)


def test_each_statement_has_one_caller() -> None:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path, tree in modules().items():
        for name, function in callers(tree, str(path.relative_to(ROOT))):
            found[name].add(function)
    wrong = {name: sorted(found[name]) for name in load_statements() if len(found[name]) != 1}
    assert wrong == {}


def test_each_file_of_statements_belongs_to_the_module_of_its_name() -> None:
    for path in sorted((STATE / "sql").glob("*.sql")):
        texts = path.read_text(encoding="utf-8").split("-- name: ")[1:]
        names = {text.partition("\n")[0].strip() for text in texts}
        own = [tree for place, tree in modules().items() if STATE in place.parents and place.stem == path.stem]
        trees = own or [tree for place, tree in modules().items() if place.parent == STATE / "db"]
        used = {name for tree in trees for name, _ in callers(tree, "")}
        assert names <= used, f"{path.name}: {sorted(names - used)} are called by another module"


# --- nothing is set from outside --------------------------------------------------------------------------------------


class Accumulator(NamedTuple):
    """An object whose attributes other code may set: where, by which names, and why."""

    where: str
    names: Sequence[str]
    reason: str


ACCUMULATORS = [
    Accumulator("core/forecast.py", ["play"], "the clock of one play of the queue, in its innermost loop"),
    Accumulator("sandbox/", ["batch"], "the service's record of a batch, which changes as the service's does"),
    Accumulator("sandbox/", ["stored", "found"], "the service's record of a file"),
    Accumulator("sandbox/", ["bucket"], "the service's token bucket"),
    Accumulator("sandbox/api/validation.py", ["self.result", "checker.result"], "the tallies of one validation"),
    Accumulator("sandbox/web/server.py", ["server"], "how uvicorn is asked to end"),
    Accumulator("service/http_client.py", ["pool"], "the connections of httpx2, for which it has no setting"),
    Accumulator("__main__.py", ["sys"], "Python's own stdout, where the process was started without one"),
]


def attributes_set(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Yield the targets of assignments that are attributes of another object than self or cls."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign():
                targets: list[ast.expr] = node.targets
            case ast.AugAssign() | ast.AnnAssign() | ast.For():
                targets = [node.target]
            case ast.withitem(optional_vars=ast.expr() as target):
                targets = [target]
            case _:
                continue
        for target in targets:
            yield from attributes_in(target)


def attributes_in(target: ast.expr) -> Iterator[ast.Attribute]:
    match target:
        case ast.Attribute(value=ast.Name(id="self" | "cls")):
            return
        case ast.Attribute():
            yield target
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            for part in parts:
                yield from attributes_in(part)
        case ast.Starred(value=part):
            yield from attributes_in(part)


def is_accumulated(path: Path, target: ast.Attribute) -> bool:
    where, name = str(path.relative_to(PACKAGE)), ast.unparse(target.value)
    return any(where.startswith(each.where) and name in each.names for each in ACCUMULATORS)


def test_no_attribute_of_another_object_is_set() -> None:
    found = [
        f"{place(path, target)} sets {ast.unparse(target)}"
        for path, tree in modules().items()
        for target in attributes_set(tree)
        if not is_accumulated(path, target)
    ]
    assert found == [], f"{len(found)} places; pass it to the constructor, or call a method"


def test_no_attribute_is_set_by_its_name() -> None:
    found = [
        place(path, node)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"setattr", "object.__setattr__"}
    ]
    assert found == []


def test_the_accumulators_are_few_and_each_has_its_reason() -> None:
    assert len(ACCUMULATORS) < 10
    assert all(each.reason for each in ACCUMULATORS)


# --- sizes and names --------------------------------------------------------------------------------------------------


def test_the_package_itself_holds_five_files() -> None:
    names = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert names == ["__init__.py", "__main__.py", "crashpoints.py", "errors.py", "nouns.py"]


def test_no_folder_is_wide() -> None:
    wide = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert {str(folder): n for folder, n in wide.items() if n >= WIDEST} == {}


def test_no_module_is_long() -> None:
    lengths = {path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n") for path in modules()}
    assert {str(path): n for path, n in lengths.items() if n >= LONGEST} == {}


def test_no_public_class_has_the_name_of_another() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(place(path, node))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


# --- what is printed --------------------------------------------------------------------------------------------------


def test_one_place_makes_consoles() -> None:
    """A console of rich's own would let escape sequences of a name or an answer through to the terminal."""
    found = [
        place(path, node)
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"Console", "print", "rich.print"}
    ]
    assert found == []
