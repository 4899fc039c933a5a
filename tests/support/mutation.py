"""Which small changes to the code does no test notice? `make mutation` runs this.

`core`: mutmut changes every function, tests.support.code_changes the numbers beside them and the properties. The score
of each module goes into docs/reliability.md, each change that no test notices into a list beside this file. A reason
that somebody has written into the list is kept while the change is the same.

`paid-once [N]`: changes to the steps by which lines are sent, found again and taken in, each tried with the scenarios;
with a number N every Nth of them, as a whole round takes hours. It prints what no test notices.
"""

import ast
import difflib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.code_changes import are_tests_sound, find_step_changes, find_value_changes, is_noticed

CORE = Path("batcher/core")
CORE_TESTS = [
    *Path("tests/unit/core").rglob("test_*.py"),
    *(Path(f"tests/properties/test_{name}.py") for name in ("admission", "decide")),
]
MUTMUT = Path("mutants")
"""Where mutmut keeps the changed modules, and beside each what became of its changes."""
UNNOTICED = {0, 33}
"""What mutmut writes where all tests passed, and where none calls the function. A time-out (-24, 36) is noticed."""
PAGE = Path("docs/reliability.md")
SURVIVORS = Path("tests/support/mutation_survivors.txt")
HEAD = "# Changes to the core that no test notices, by `make mutation`. module function: before -> after | reason\n"
LOWEST = 85.0
"""Percent. A lower score of the core is an error."""

PAID_ONCE = [Path(f"batcher/lanes/batch/{name}.py") for name in ("sending", "reconciling", "ingest")]
PAID_ONCE_TESTS = [
    *sorted(Path("tests/unit/lanes").glob("test_ingest_*.py")),
    *(Path(f"tests/scenarios/test_{name}.py") for name in ("protocol", "bad_luck", "ends_complete", "money")),
    *(
        path
        for part in ("refusals", "interleavings")
        for path in sorted(Path(f"tests/scenarios/{part}").glob("test_*.py"))
    ),
]


class Outcome(NamedTuple):
    """What became of the changes to one module, or to all."""

    module: str
    changes: int
    survivors: list[str]

    @property
    def score(self) -> float:
        """The percentage of changes that a test notices."""
        return 100.0 * (self.changes - len(self.survivors)) / self.changes


def main() -> None:
    """Run what is asked for: the core, or the modules that pay once."""
    what, *numbers = sys.argv[1:] or ["core"]
    if what == "core":
        run_core()
    else:
        run_paid_once(*map(int, numbers))


def run_core() -> None:
    """Change the core, write the page and the list, and fail below the lowest score."""
    if not are_tests_sound(CORE_TESTS, "--noconftest"):
        sys.exit("the tests fail without any change")
    shutil.rmtree(MUTMUT, ignore_errors=True)
    subprocess.run([Path(sys.executable).with_name("mutmut"), "run"], check=False)
    outcomes = [outcome for path in sorted(CORE.rglob("*.py")) if (outcome := _run_module(path)).changes]
    total = Outcome("all", sum(o.changes for o in outcomes), [text for o in outcomes for text in o.survivors])
    write_report([*outcomes, total])
    if total.score < LOWEST:
        sys.exit(f"the score of the core is {total.score:.1f}%, and {LOWEST:.0f}% is the lowest")


def _run_module(path: Path) -> Outcome:
    found = read_outcome(path) if (MUTMUT / f"{path}.meta").exists() else Outcome(_short_name(path), 0, [])
    changes = find_value_changes(path)
    unnoticed = [f"{_short_name(path)}: {each}" for each in changes if not is_noticed(each, CORE_TESTS, "--noconftest")]
    return Outcome(_short_name(path), found.changes + len(changes), found.survivors + unnoticed)


def _short_name(path: Path) -> str:
    return str(path.relative_to(CORE))


def read_outcome(path: Path) -> Outcome:
    """Return what became of the changes that mutmut has made to the functions of a module."""
    codes = json.loads((MUTMUT / f"{path}.meta").read_text(encoding="utf-8"))["exit_code_by_key"]
    untried = Counter(codes.values())[None]
    if untried:
        sys.exit(f"{path}: {untried} changes were not tried; mutmut did not come to its end")
    bodies = dict(_function_bodies((MUTMUT / path).read_text(encoding="utf-8")))
    unnoticed = [_describe_change(name, bodies) for name, code in codes.items() if code in UNNOTICED]
    return Outcome(_short_name(path), len(codes), [f"{_short_name(path)} {text}" for text in unnoticed])


def _function_bodies(source: str) -> Iterator[tuple[str, list[str]]]:
    """Return the lines of each function, without its name, which is another one for each change."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            yield node.name, [line.strip() for line in text.replace(node.name, "", 1).splitlines()]


def _describe_change(name: str, bodies: dict[str, list[str]]) -> str:
    function = name.rpartition(".")[2]
    before, after = bodies[re.sub(r"_\d+$", "_orig", function)], bodies[function]
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "-+"]
    old, new = (" ".join(line[2:] for line in changed if line[0] == sign) for sign in "-+")
    plain = re.sub(r"^x_?|__mutmut_\d+$", "", function).strip("ǁ").replace("ǁ", ".")
    return f"{plain}: {old} -> {new}"


def write_report(rows: list[Outcome]) -> None:
    """Write the table into the page, and the list of changes that no test notices; the last row is the total."""
    table = ["| module of `core/` | changes | not noticed | score |", "|---|---|---|---|"]
    table += [f"| {o.module} | {o.changes:,} | {len(o.survivors)} | {o.score:.1f}% |" for o in rows]
    page = PAGE.read_text(encoding="utf-8")
    text = "<!-- mutation -->\n" + "\n".join(table) + "\n<!-- end of mutation -->\n"
    page = re.sub(r"<!-- mutation -->\n.*<!-- end of mutation -->\n", lambda _: text, page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")
    known = SURVIVORS.read_text(encoding="utf-8").splitlines() if SURVIVORS.exists() else []
    reasons = dict(line.rsplit(" | ", 1) for line in known if " | " in line)
    lines = [f"{text} | {reasons[text]}" if text in reasons else text for text in rows[-1].survivors]
    SURVIVORS.write_text(HEAD + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    print("\n".join(table))


def run_paid_once(every: int = 1) -> None:
    """Print which changes to the steps of the modules that pay once no test notices, of every Nth change."""
    if not are_tests_sound(PAID_ONCE_TESTS):
        sys.exit("the tests fail without any change")
    for path in PAID_ONCE:
        changes = find_step_changes(path)[::every]
        unnoticed = [each for each in changes if not is_noticed(each, PAID_ONCE_TESTS)]
        print(f"{path}: {len(changes) - len(unnoticed)} of {len(changes)} changes noticed", flush=True)
        for each in unnoticed:
            print(f"  line {each.line}: {each}", flush=True)


if __name__ == "__main__":
    main()
