"""The scenario that reaches each crash point, and how the points are found in the code."""

import ast
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from batcher.disk.direct_answers import CallAnswer, append_direct_answers
from batcher.disk.result_archive import archive_result_file, read_kept_lines, result_file_path
from batcher.sandbox import Sandbox
from batcher.sandbox.api.batches import Batch
from batcher.sandbox.api.files import StoredFile
from batcher.sandbox.base.errors import ApiError, queue_full_message
from batcher.sandbox.base.faults import FINE, LOST, REFUSED
from batcher.state.db.store import Store
from tests.support.kill_harness import Scenario
from tests.support.world import ROOT

EFFECTS = frozenset(
    {"upload_file", "create_batch", "cancel_batch", "delete_file", "download_file", "request_completion"}
)
NOT_ACTING = ("service/", "sandbox/")


class Doubling(Sandbox):
    """A sandbox that makes two batches of the first create, as for a client that repeats its calls.

    The second stays in validation until it is cancelled, however long that takes, so that it executes nothing.
    """

    def create_batch(self, payload: Mapping[str, object], lost: bool = False) -> Batch | None:
        made = super().create_batch(payload, lost)
        if len(self.lifecycle.batches) == 1:
            second = super().create_batch(payload)
            assert second is not None
            self.lifecycle._schedule_next_event(second, self.now() + 1e9)
        return made


class Full(Sandbox):
    """A sandbox that refuses the first create because its queue is full, as Azure does: at the call itself."""

    asked = 0

    def create_batch(self, payload: Mapping[str, object], lost: bool = False) -> Batch | None:
        self.asked += 1
        if self.asked == 1:
            text = queue_full_message("gpt-6-luna", "org-sandbox", 1_000_000)
            raise ApiError(400, text, code="token_limit_exceeded")
        return super().create_batch(payload, lost)


class Forgetful(Sandbox):
    """A sandbox that does not find the first file that is requested, as if the key were another project's."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        get, asked = self.files.get, []

        def forget_once(file_id: str, now: float) -> StoredFile:
            asked.append(file_id)
            if len(asked) == 1:
                raise ApiError(404, f"No such File object: {file_id}", param="id")
            return get(file_id, now)

        self.files.get = forget_once  # type: ignore[method-assign]


class InUse(Sandbox):
    """A sandbox that refuses the first deletion of a file, as for one that is in use."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        delete, asked = self.files.delete, []

        def refuse_once(file_id: str, now: float) -> dict[str, object]:
            asked.append(file_id)
            if len(asked) == 1:
                raise ApiError(409, "The file is in use.")
            return delete(file_id, now)

        self.files.delete = refuse_once  # type: ignore[method-assign]


def damage(folder: Path) -> None:
    """Change a shard's file between plan and run."""
    for path in sorted(folder.glob(".batcher/shards/shard-00001.jsonl")):
        path.write_bytes(path.read_bytes().replace(b"Artist Number", b"Artist  Number"))


def drop_artist(folder: Path) -> None:
    """Take the last artist out of the table between plan and forget."""
    table = folder / "artists.csv"
    rows = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(rows[:-1]), encoding="utf-8")


def revoke_dead(folder: Path) -> None:
    """Have the lines that were given up stand as those whose bio was revoked."""
    with Store(folder / ".batcher", time.time, time.sleep).transaction("revoke") as tx:
        tx.con.execute("UPDATE artists SET state = 'held', code = 'revoked' WHERE state = 'dead'")
        assert tx.con.execute("SELECT count(*) FROM artists WHERE state = 'held'").fetchall() != [(0,)]


def rejudge(folder: Path) -> None:
    """Make one bio of a finished job an answer that was refused; of another one the kept answer what no job accepts.

    The second artist has an answer of the direct lane as well, which takes the place of the revoked bio.
    """
    state = folder / ".batcher"
    with Store(state, time.time, time.sleep).transaction("rejudge") as tx:
        con = tx.con
        first, second = con.execute("SELECT artist_id FROM bios ORDER BY artist_id LIMIT 2").fetchall()
        (batch_id, run_id) = con.execute(
            "SELECT batch_id, run_id FROM bios, runs WHERE artist_id = ?", second
        ).fetchall()[0]
        con.execute("DELETE FROM bios WHERE artist_id = ?", first)
        con.execute("UPDATE attempts SET outcome = 'unusable' WHERE artist_id = ?", first)
        con.execute("UPDATE artists SET state = 'dead', failure = 'unusable' WHERE artist_id = ?", first)
        con.execute(
            "INSERT INTO attempts (artist_id, lane, outcome, counted, happened_at, version, call) "
            "VALUES (?, 'direct', 'repeated', false, 0, 1, 1)",
            second,
        )
    lines = [orjson.loads(line) for line in read_kept_lines(state, batch_id)]
    (line,) = (line for line in lines if line["custom_id"] == second[0])
    body = line["response"]["body"]
    append_direct_answers(state, [CallAnswer(run_id, 1, second[0], 1, orjson.dumps(body))])
    body["choices"][0]["message"]["content"] = "no object"
    plain = result_file_path(state, batch_id, "output")
    plain.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))
    archive_result_file(plain)
    plain.unlink()


SCENARIOS: Mapping[str, Scenario] = {
    "plain": Scenario(),
    "upload lost": Scenario(script={"upload": (LOST,)}),
    "upload refused": Scenario(script={"upload": (REFUSED,)}),
    "uploads limited": Scenario(settings={"uploads_per_minute": 1}, speed=60),
    "create lost": Scenario(faults={"list_lag_s": 60}, script={"create": (LOST,)}),
    "create refused": Scenario(script={"create": (REFUSED,)}, lines=6, priorities=(1,), grace=0.1),
    "create unlisted": Scenario(
        script={"create": (REFUSED,)},
        lines=6,
        priorities=(1,),
        codes=(0, 3),  # the first run leaves its lines held
        commands=(("run",), ("retry", "--class", "missing"), ("run",)),
        direct='[service]\nprofile = "compatible"\nlacks = ["list_batches"]',
    ),
    "file unknown": Scenario(
        sandbox=Forgetful,
        script={"create": (REFUSED,)},
        lines=6,
        priorities=(1,),
        grace=0.1,
        codes=(0, 2),
        commands=(("run",), ("run",)),
    ),
    "file in use": Scenario(sandbox=InUse, script={"create": (REFUSED,)}, lines=6, priorities=(1,), grace=0.1),
    "results late": Scenario(script={"content": 4 * (REFUSED,)}, lines=6, priorities=(1,)),
    "cancel refused": Scenario(sandbox=Doubling, script={"cancel": 4 * (REFUSED,)}, lines=6, priorities=(1,)),
    "room refused": Scenario(sandbox=Full),
    "batch refused": Scenario(faults={"fail_batches": {"1": "token_limit_exceeded"}}),
    "batch split": Scenario(settings={"enqueued_tokens": 7_000}, per_shard=12, priorities=(1,)),
    "lines fail": Scenario(faults={"line_failures": {"server": 0.4}}),
    "list refused": Scenario(script={"list": (FINE, FINE, *4 * (REFUSED,))}, lines=6, priorities=(1,)),
    "two batches": Scenario(sandbox=Doubling, lines=6, priorities=(1,)),
    "file damaged": Scenario(prelude=((("plan",), ""),), prepare=damage),
    "collected": Scenario(commands=(("run",), ("collect", "--only-new", "--out", "new.csv")), lines=6),
    "reported": Scenario(commands=(("run",), ("report", "--out", "report.html")), lines=6),
    "cancelled": Scenario(prelude=((("run",), "create.before"),), commands=(("cancel",), ("run",)), lines=6, grace=0.1),
    "retried": Scenario(
        faults={"line_failures": {"refusal": 0.5}},
        commands=(("run",), ("retry",), ("run",)),
        lines=6,
        retry="unusable = { tries = 0 }",
    ),
    "judged": Scenario(prelude=((("run",), ""),), commands=(("judge", "--revoke"),), lines=6, prepare=rejudge),
    "redone": Scenario(
        faults={"line_failures": {"refusal": 0.5}},
        prelude=((("run",), "clean.commit.after"),),
        prepare=revoke_dead,
        commands=(("redo", "--yes"), ("run",), ("retry",), ("run",)),
        codes=(0, 2, 4),  # redo that has done its work finds nothing
        lines=6,
        priorities=(1,),
        retry="unusable = { tries = 0 }",
    ),
    "submitted": Scenario(commands=(("plan",), ("submit", "--shards", "1"), ("run",)), lines=6),
    "folded": Scenario(lines=80, per_shard=40),
    "direct": Scenario(commands=(("plan",), ("direct", "--unreleased", "--workers", "2")), deaths=1),
    "direct killed": Scenario(
        prelude=((("plan",), ""), (("direct", "--unreleased", "--workers", "2"), "complete.after")),
        commands=(("direct", "--unreleased", "--workers", "2"),),
    ),
    "direct first": Scenario(commands=(("plan",), ("direct", "--limit", "4"), ("run",)), codes=(0, 3, 4)),
    "pilot": Scenario(commands=(("pilot", "--lines", "4"), ("run",))),
    "forgotten": Scenario(
        prelude=((("plan",), ""),), commands=(("forget", "--not-in-table", "--yes"), ("run",)), prepare=drop_artist
    ),
    "told": Scenario(lines=6, direct='[notify]\ncommand = "true"'),
    "admin key": Scenario(commands=(("plan",), ("run",)), lines=6, environment={"OPENAI_ADMIN_KEY": "sk-admin-test"}),
    "paused": Scenario(commands=(("plan",), ("pause",), ("resume",), ("run",)), lines=6),
}

COMMITS: Mapping[str, str] = {
    "plan": "plain",
    "limit_hint": "admin key",
    "reached": "plain",
    "begin": "plain",
    "release": "plain",
    "release_pilot": "pilot",
    "end_submit": "submitted",
    "intend_send": "plain",
    "record_upload": "plain",
    "record_create": "plain",
    "refresh": "plain",
    "ingest": "plain",
    "clean": "plain",
    "intend_collect": "collected",
    "collect": "collected",
    "intend_report": "reported",
    "report": "reported",
    "call_unknown": "upload lost",
    "forget_upload": "upload lost",
    "orphan_looked_for": "upload refused",
    "upload_refused": "uploads limited",
    "create_unknown": "create lost",
    "absent_once": "create refused",
    "hold_create": "create unlisted",
    "adopt": "create lost",
    "input_deleted": "create refused",
    "find_absent": "create refused",
    "intend_delete": "create refused",
    "delete_refused": "file in use",
    "stranger": "file unknown",
    "ask_again": "results late",
    "cancel_unknown": "cancel refused",
    "refuse_create": "room refused",
    "refuse_batch": "batch refused",
    "split": "batch split",
    "gather": "lines fail",
    "call_failed": "list refused",
    "record_cancel": "two batches",
    "file_damaged": "file damaged",
    "cancel": "cancelled",
    "withdraw": "cancelled",
    "retry": "retried",
    "judge": "judged",
    "revoke": "judged",
    "direct": "direct",
    "direct_look": "direct",
    "recover_calls": "direct killed",
    "recut": "direct first",
    "pause": "paused",
    "resume": "paused",
    "forget": "forgotten",
    "redo": "redone",
    "told": "told",
}
CALLS: Mapping[str, str] = {
    "upload": "plain",
    "create": "plain",
    "download": "plain",
    "delete": "plain",
    "delete_input": "create refused",
    "cancel": "two batches",
    "fold": "folded",
    "complete": "direct",
    "keep": "direct",
}


@dataclass(frozen=True)
class Effect:
    """A call with an effect, and the crash points around it in its function."""

    where: str
    call: str
    before: str
    after: str


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / "batcher").rglob("*.py")):
        name = str(path.relative_to(ROOT / "batcher"))
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def _point(node: ast.AST) -> str:
    """Return the name of the crash point that a call marks, "" for any other node."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "crashpoints.mark_reached":
        return str(node.args[0].value) if isinstance(node.args[0], ast.Constant) else ""
    return ""


def _commit(node: ast.AST) -> str:
    """Return the name of the transaction that a call opens, "" for any other node."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return ""
    place = {"transaction": 0, "_commit_on_exit": 1}.get(node.func.attr)
    if place is None or len(node.args) <= place or not isinstance(node.args[place], ast.Constant):
        return ""
    return str(node.args[place].value)  # type: ignore[attr-defined]


def points() -> list[str]:
    """Return every crash point that the code names."""
    found: set[str] = set()
    for _, module in _modules():
        for node in ast.walk(module):
            if _point(node):
                found.add(_point(node))
            if _commit(node):
                found |= {f"{_commit(node)}.commit.before", f"{_commit(node)}.commit.after"}
    return sorted(found)


def effects() -> list[Effect]:
    """Return every call of the service that has an effect."""
    found = []
    for name, module in _modules():
        if name.startswith(NOT_ACTING):
            continue
        for function in (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)):
            found += _effects_of(name, function)
    return found


def _effects_of(module: str, function: ast.FunctionDef) -> list[Effect]:
    marks = sorted((call.lineno, _point(call)) for call in _calls(function) if _point(call))
    found = []
    for node in _calls(function):
        if isinstance(node.func, ast.Attribute) and node.func.attr in EFFECTS:
            if not ast.unparse(node.func.value).endswith("service"):
                continue
            before = [name for line, name in marks if line < node.lineno]
            after = [name for line, name in marks if line > node.lineno]
            where = f"{module}:{node.lineno} ({function.name})"
            found.append(Effect(where, node.func.attr, before[-1] if before else "", after[0] if after else ""))
    return found


def _calls(function: ast.FunctionDef) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def scenario_of(point: str) -> str:
    """Return the scenario that reaches a point, "" where the table has none."""
    name, _, _ = point.partition(".")
    return (COMMITS if ".commit." in point else CALLS).get(name, "")
