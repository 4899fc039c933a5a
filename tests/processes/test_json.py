"""What commands print with --json, in many states of a small job, against the schemas in docs/reference/json."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from batcher.contracts.registry import CONTRACTS
from tests.support.shop import Shop, open_small_shop, run
from tests.support.world import ROOT

LINES = 42
BROKEN = "\ndef accept(artist, bio):\n    return 'too plain' if artist.born % 4 == 0 else None\n"
STEPS: tuple[tuple[str, str, int], ...] = (
    ("version", "version", 0),
    ("init", "init new", 0),
    ("preview", "preview --sample 2", 0),
    ("error", "status", 2),
    ("plan", "plan", 0),
    ("plan", "plan --dry-run", 0),
    ("status", "status", 0),
    ("versions", "versions", 0),
    ("doctor", "doctor", 0),
    ("pilot", "pilot --lines 6", 0),
    ("submit", "submit --shards 1", 0),
    ("pause", "pause", 0),
    ("status", "status", 0),
    ("resume", "resume", 0),
    ("cancel", "cancel", 0),
    ("collect", "collect --out early.csv", 3),
    ("retry", "retry", 0),
    ("poll", "poll --once", 3),
    ("direct", "direct --limit 2", 3),
    ("run", "run --out bios.jsonl --failed failed.csv --report run.html", 4),
    ("status", "status", 0),
    ("show", "show a00003", 0),
    ("show", "show a00001", 0),
    ("error", "show nobody", 2),
    ("answers", "answers --refused", 0),
    ("answers", "answers a00001", 0),
    ("judge", "judge --dry-run", 0),
    ("collect", "collect --out bios.csv --failed failed.csv --overwrite", 4),
    ("report", "report --out report.html", 0),
    ("redo", "redo --artist a00001 --yes", 0),
    ("versions-difference", "versions 1", 0),
    ("sql", "sql FROM/**/bios", 0),
    ("sql-views", "sql", 0),
    ("bill", "bill", 0),
    ("log", "log --lines 1", 0),
    ("forget", "forget --not-in-table --yes", 0),
    ("error", "forget", 2),
)
"""Which contract, the command, and its exit code."""


@cache
def schema(name: str) -> Draft202012Validator:
    path = ROOT / "docs" / "reference" / "json" / f"{name}.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    return Draft202012Validator(found, format_checker=Draft202012Validator.FORMAT_CHECKER)


def read_answer(shop: Shop, name: str, command: str, code: int) -> Mapping[str, Any]:
    """Run a command; return its answer, which keeps to its schema and is as a program would write it again."""
    *before, line = run(shop, [*command.split(), "--json"], code)[0].splitlines()
    assert bool(before) == (name == "run")
    for each in map(json.loads, before):
        schema(f"stream-{each['kind']}").validate(each)
    found: dict[str, Any] = json.loads(line)
    schema(name).validate(found)
    if name != "error":
        again = CONTRACTS[name].model_validate_json(line)
        assert json.loads(again.to_json()) == found
    return found


def test_each_command_prints_what_its_schema_says(tmp_path: Path) -> None:
    with open_small_shop(tmp_path, LINES, per_shard=10) as shop:
        shop.environment |= {"BATCHER_PILOT__MIN_ACCEPTED": "0", "BATCHER_BRAKE__MAX_UNUSABLE": "1"}
        shop.environment["OPENAI_ADMIN_KEY"] = "sk-admin-of-the-sandbox"
        job = shop.folder / "jobs" / "bios" / "job.py"
        job.write_text(job.read_text(encoding="utf-8") + BROKEN, encoding="utf-8")
        told = [(name, read_answer(shop, name, command, code)) for name, command, code in STEPS]
    assert {name for name, _, _ in STEPS} == {*CONTRACTS, "error"}
    last = dict(told)
    assert last["run"]["dead"] == last["run"]["states"]["dead"] > 0
    assert last["run"]["collected"]["files"][0] == {"path": "bios.jsonl", "rows": last["run"]["states"]["done"]}
    assert last["run"]["costs"]["spent"] == round(last["run"]["costs"]["spent"], 6) > 0
    assert last["run"]["report"] == "run.html"
    assert last["status"]["now"].endswith("Z")
    assert isinstance(last["show"]["data"], dict)
    assert last["show"]["bio"] is None or isinstance(last["show"]["bio"]["data"], dict)
