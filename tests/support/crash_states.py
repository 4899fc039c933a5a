"""What a kill leaves of a state at each moment, opened again: `python -m tests.support.crash_states`.

A process works on a state while a small library (record_writes.c) writes down each thing that it does to the files:
made, cut, written, synced, renamed, removed. From that the folder is put together as it was at each moment, and with
the next write torn. The real Store opens each, and must find the rows of the last commit, or of the one that was under
way; then it commits and folds on. Needs Linux and a C compiler.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import duckdb

from batcher.errors import StateError
from batcher.state.db import checkpoint
from batcher.state.db.schema import SCHEMA_VERSION, load_migrations
from batcher.state.db.store import Store
from tests.support.world import ROOT, Clock

SOURCE = Path(__file__).with_name("record_writes.c")
TORN = (1, 512, 4_096)
"""Bytes of a write that are there, beside its half and all but one."""
SECTOR = 512
"""A header is not torn within less: DuckDB writes it in one call, into one page, and a disk writes whole sectors."""
ROWS = 1_600
"""Rows of a change, enough for a log that is folded."""


@dataclass(frozen=True)
class Plan:
    """A state on which a process works, and how."""

    name: str
    changes: int
    tables: int = 0
    """Tables beside those of the schema: 400 fill three blocks with metadata."""
    options: str = ""
    """Options of DuckDB's with which the file was made before; "" for one that the process makes itself."""
    is_tried: bool = True
    """Whether the process takes DuckDB's version for one that was tried."""


PLANS = (
    Plan("a new state", 3),
    Plan("three blocks of metadata", 2, tables=400),
    Plan("an untried version of DuckDB", 2, is_tried=False),
    Plan("blocks of 16 KB", 1, options="BLOCK_SIZE 16384"),
    Plan("an older storage version", 1, options="STORAGE_VERSION 'v1.4.0'"),
)


class Step(NamedTuple):
    """One thing that was done to a file. kind: as in record_writes.c."""

    kind: str
    path: str
    target: str = ""
    offset: int = 0
    data: bytes = b""


@dataclass
class Content:
    """The bytes of a file: as processes see them, and as they are after a power cut that takes what was not synced."""

    seen: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


class Found(NamedTuple):
    """How many states were opened, and what was wrong with which."""

    states: int
    wrong: Sequence[str]


# --- what the process does -------------------------------------------------------------------------------------------


def change_rows(con: duckdb.DuckDBPyConnection, number: int, tables: int) -> None:
    """Make the change of this number: rows added, changed and deleted, tables made, filled and dropped."""
    first = number * ROWS
    con.execute(
        "INSERT INTO facts SELECT 'fact ' || i, i, repeat('x', 40) FROM range(?, ?) r(i)", [first, first + ROWS]
    )
    con.execute("UPDATE facts SET text = 'changed' WHERE number % 7 = ?", [number])
    con.execute("DELETE FROM facts WHERE number % 11 = ?", [number])
    con.execute(f"CREATE TABLE extra_{number} AS SELECT i, i * i AS square FROM range(3000) r(i)")
    if number > 1:
        con.execute(f"DROP TABLE extra_{number - 1}")
    for n in range(number, tables, 50):
        con.execute(f"INSERT INTO t{n} (c{n}_0) FROM range(5)")


def make_tables(con: duckdb.DuckDBPyConnection, tables: int) -> None:
    """Make tables of twenty columns, which fill blocks with metadata."""
    for n in range(tables):
        con.execute(f"CREATE TABLE t{n} ({', '.join(f'c{n}_{m} INTEGER' for m in range(20))})")


def read_fingerprint(con: duckdb.DuckDBPyConnection) -> str:
    """Return a text that is another one for other tables or rows, whatever the order of the rows."""
    tables = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE NOT temporary AND database_name = current_database() ORDER BY ALL"
    ).fetchall()
    sums = [con.execute(f"SELECT count(*), bit_xor(hash(t)) FROM {name} t").fetchall()[0] for (name,) in tables]
    return repr(list(zip(tables, sums, strict=True)))


def work(folder: Path, plan: Plan) -> None:
    """Do all changes, and tell before and after each commit; the process that is recorded runs this."""
    if not plan.is_tried:
        checkpoint.TRIED_ENGINES = frozenset()
    store = Store(folder / "state", Clock(), lambda _seconds: None)
    with (folder / "told").open("wb", buffering=0) as told:
        if not plan.options:
            told.write(b"0\n")
            with store.plan_transaction() as tx:
                tx.fetch_all("insert_run", run_id="r", now=tx.now)
                make_tables(tx.con, plan.tables)
        told.write(b"1\n")
        for number in range(1, plan.changes + 1):
            with store.transaction("work") as tx:
                change_rows(tx.con, number, plan.tables)
                told.write(b"%d\n" % (2 * number))
            told.write(b"%d\n" % (2 * number + 1))


def expected_fingerprints(plan: Plan) -> Sequence[str]:
    """Return what is to be found after each change, none of them first; from an engine without a file."""
    with duckdb.connect() as con:
        for script in load_migrations():
            con.execute(script)
        con.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
        con.execute("INSERT INTO runs VALUES ('r', ?)", [Clock().now])
        make_tables(con, plan.tables)
        found = [read_fingerprint(con)]
        for number in range(1, plan.changes + 1):
            change_rows(con, number, plan.tables)
            found.append(read_fingerprint(con))
        return found


# --- what it leaves --------------------------------------------------------------------------------------------------


def compile_recorder(folder: Path) -> Path | None:
    """Return the library that records, or None where none can be made."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "record_writes.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def record_work(library: Path, folder: Path, command: Sequence[str]) -> Iterator[Step]:
    """Run a Python command, and yield what it does to the files in the folder."""
    records = folder.with_name(f"{folder.name}.records")
    records.unlink(missing_ok=True)
    extra = {"LD_PRELOAD": str(library), "RECORD_ROOT": f"{folder}/", "RECORD_TO": str(records)}
    subprocess.run([sys.executable, "-c", *command], env={**os.environ, **extra}, cwd=ROOT, check=True)
    with records.open("rb") as file:
        while head := file.readline():
            kind, *numbers = head.split()
            offset, length, path_length, target_length = map(int, numbers)
            path, target = file.read(path_length).decode(), file.read(target_length).decode()
            yield Step(kind.decode(), path, target, offset, file.read(length))


def apply_step(files: dict[str, Content], step: Step, length: int | None = None) -> None:
    """Do to the files what a step did. length: only so many bytes of what it wrote."""
    match step.kind:
        case "C":
            files[step.path] = Content()
        case "T":
            content = files[step.path].seen
            content[:] = content[: step.offset].ljust(step.offset, b"\0")
        case "W":
            data = step.data[:length]
            content = files[step.path].seen
            content.extend(bytes(max(0, step.offset - len(content))))
            content[step.offset : step.offset + len(data)] = data
        case "S" if step.path in files:
            files[step.path].synced = bytes(files[step.path].seen)
        case "R":
            files[step.target] = files.pop(step.path)
        case "U":
            files.pop(step.path)


def torn_lengths(step: Step, every: bool) -> Sequence[int]:
    """Return after how many bytes a write is torn."""
    if step.kind != "W" or step.path.endswith("/told"):
        return ()
    whole = len(step.data)
    lengths = {*TORN, whole // 2, whole - 1} if every else {whole // 2}
    is_header = step.path.endswith("state.duckdb") and step.offset < checkpoint.HEADERS
    return sorted(n for n in lengths if 0 < n < whole and not (is_header and n < SECTOR))


class State(NamedTuple):
    """The files at one moment. name: says which."""

    name: str
    files: Mapping[str, bytes]


def crash_states(before: Mapping[str, bytes], steps: Sequence[Step], every: bool) -> Iterator[State]:
    """Yield the files before each step, and with it torn; after a power cut too, where that is another state."""
    files = {path: Content(bytearray(data), data) for path, data in before.items()}
    yielded: set[int] = set()
    for state in every_moment(files, steps, every):
        number = hash(frozenset((path, hash(data)) for path, data in state.files.items()))
        if number not in yielded:
            yielded.add(number)
            yield state


def every_moment(files: dict[str, Content], steps: Sequence[Step], every: bool) -> Iterator[State]:
    """Yield the files at each moment, those that are the same as before as well."""
    for number, step in enumerate(steps):
        name = f"{number} {step.kind} {Path(step.path).name} {step.offset}+{len(step.data)}"
        yield State(name, {path: bytes(file.seen) for path, file in files.items()})
        for length in torn_lengths(step, every):
            kept = bytes(files[step.path].seen)
            apply_step(files, step, length)
            yield State(f"{name} torn at {length}", {path: bytes(file.seen) for path, file in files.items()})
            files[step.path].seen[:] = kept
        if every and step.kind in "SRU":
            told = {path: bytes(file.seen) for path, file in files.items() if path.endswith("/told")}
            yield State(f"{name} power cut", {path: file.synced for path, file in files.items()} | told)
        apply_step(files, step)
    yield State("the end", {path: bytes(file.seen) for path, file in files.items()})


# --- opened again ----------------------------------------------------------------------------------------------------


def put_state(state: State, recorded: Path, folder: Path) -> None:
    """Write the files of a state into another folder than the one where they were recorded."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "state").mkdir(parents=True)
    for path, data in state.files.items():
        (folder / Path(path).relative_to(recorded)).write_bytes(data)


def check_state(folder: Path, told: int, fingerprints: Sequence[str]) -> str:
    """Open the state in a folder, commit and fold on; return what is wrong with it, "" for nothing.

    told: twice the number of the change that is being committed, and one more once it is.
    """
    store = Store(folder / "state", Clock(), lambda _seconds: None)
    committed, is_open = (told - 1) // 2 if told % 2 else told // 2 - 1, told % 2 == 0
    allowed = fingerprints[max(committed, 0) : committed + 1 + is_open]
    try:
        if told <= 0 and not store.exists():  # the plan is made again
            return ""
        if told <= 0:
            with store.plan_transaction() as tx:
                if not tx.con.execute("SELECT 1 FROM runs").fetchall():
                    return ""
        with store.read_transaction() as tx:
            found = read_fingerprint(tx.con)
        if found not in allowed:
            return f"other rows than of change {committed}"
        with store.transaction("go on") as tx:
            tx.con.execute("INSERT INTO facts SELECT 'on ' || i, i, repeat('y', 40) FROM range(?) r(i)", [ROWS])
            expected = read_fingerprint(tx.con)
        if checkpoint.log_path(store.path).exists():
            return "not folded on"
        with store.read_transaction() as tx:
            return "" if read_fingerprint(tx.con) == expected else "other rows after it went on"
    except (StateError, duckdb.Error) as error:
        return f"{type(error).__name__}: {error}"


def told_by(files: Mapping[str, bytes]) -> int:
    """Return what the process has told last; -1 before the first word."""
    words = next((data.split() for path, data in files.items() if path.endswith("/told")), [])
    return int(words[-1]) if words else -1


def try_plan(library: Path, folder: Path, plan: Plan, every: bool = True, first: int = 0) -> Found:
    """Open every state of one plan. every: all ways to tear a write, and deaths while mending. first: change from
    which states are opened."""
    recorded = folder / "recorded"
    (recorded / "state").mkdir(parents=True)
    fingerprints = expected_fingerprints(plan)
    if plan.options:
        with duckdb.connect() as con:
            con.execute(f"ATTACH '{recorded / 'state' / 'state.duckdb'}' AS made ({plan.options}); USE made")
            for script in load_migrations():
                con.execute(script)
            con.execute("INSERT INTO meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
            con.execute("INSERT INTO runs VALUES ('r', ?)", [Clock().now])
            make_tables(con, plan.tables)
    before = read_files(recorded)
    code = "import sys; from pathlib import Path; from tests.support import crash_states as c; "
    command = code + "c.work(Path(sys.argv[1]), next(p for p in c.ALL_PLANS if p.name == sys.argv[2]))"
    steps = list(record_work(library, recorded, [command, str(recorded), plan.name]))
    wrong: list[str] = []
    states = 0
    mended: set[int] = set()
    for state in crash_states(before, steps, every):
        told = told_by(state.files)
        if told < 2 * first:
            continue
        scratch = folder / "scratch"
        put_state(state, recorded, scratch)
        if every and told not in mended and is_torn_metadata(state):
            mended.add(told)
            for death in deaths_while_mending(library, folder, state, recorded):
                put_state(death, recorded, scratch)
                states += 1
                wrong += describe_fault(plan, f"{state.name}, mending {death.name}", scratch, told, fingerprints)
            put_state(state, recorded, scratch)
        states += 1
        wrong += describe_fault(plan, state.name, scratch, told, fingerprints)
    if dict(state.files) != read_files(recorded):
        wrong.append(f"{plan.name}: what was recorded is not all that was done")
    return Found(states, wrong)


def describe_fault(plan: Plan, name: str, folder: Path, told: int, fingerprints: Sequence[str]) -> Sequence[str]:
    """Return the fault of one state in a list, or an empty list."""
    fault = check_state(folder, told, fingerprints)
    return [f"{plan.name}: {name}, told {told}: {fault}"] if fault else []


def is_torn_metadata(state: State) -> bool:
    """Return whether a copy stands beside the file, and the block that is overwritten in place is torn."""
    has_copy = any(path.endswith(".before") for path in state.files)
    return has_copy and " W state.duckdb " in state.name and "torn" in state.name


def deaths_while_mending(library: Path, folder: Path, state: State, recorded: Path) -> Iterator[State]:
    """Yield what a kill leaves of a process that opens this state and folds it on."""
    mending = folder / "mending"
    put_state(state, recorded, mending)
    before = read_files(mending)
    code = "import sys; from pathlib import Path; from batcher.state.db.store import Store; import time; "
    command = f"{code}s = Store(Path(sys.argv[1]), time.time, time.sleep)\nwith s.transaction('fix'): pass"
    steps = list(record_work(library, mending, [command, str(mending / "state")]))
    for death in crash_states(before, steps, True):
        files = {str(recorded / Path(path).relative_to(mending)): data for path, data in death.files.items()}
        yield State(death.name, files)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> int:
    """Try every plan; return 1 where a state was lost."""
    options = argparse.ArgumentParser(prog="python -m tests.support.crash_states", description=__doc__)
    options.add_argument("--plan", type=int, choices=range(len(PLANS)), help="only the plan of this number")
    chosen = options.parse_args()
    faults = 0
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batcher-crash-")))
        library = compile_recorder(root)
        if library is None:
            print("crash states: left out, as they need Linux and a C compiler")
            return 0
        for number, plan in enumerate(PLANS):
            if chosen.plan not in {None, number}:
                continue
            found = try_plan(library, root / str(number), plan)
            faults += len(found.wrong)
            print(
                f"{plan.name}: {found.states} states, {len(found.wrong)} lost",
                *found.wrong[:20],
                sep="\n  ",
                flush=True,
            )
            shutil.rmtree(root / str(number))
    return 1 if faults else 0


SMALL = Plan("one fold", 1)
"""What `make test` tries."""
ALL_PLANS = (*PLANS, SMALL)


if __name__ == "__main__":
    sys.exit(main())
