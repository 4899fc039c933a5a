"""The example of support tickets: names of its own, every row planned, and the answers that it refuses."""

import subprocess
from pathlib import Path

import orjson
import pytest

from batcher.config.loading import load_config
from batcher.core.model import RowColumns
from batcher.job.loading import load_job
from batcher.plan.tables import read_table
from tests.support.world import ROOT, World

FOLDER = ROOT / "jobs" / "tickets"
GOOD = {"category": "bug", "urgency": 2, "needs_person": False, "summary": "The writer wants a whole file."}


def test_every_ticket_is_planned_by_its_own_names(tmp_path: Path) -> None:
    config = load_config(FOLDER / "batcher.toml")
    world = World(tmp_path)
    world.job = load_job(config.job.path)
    assert (world.job.name, world.job.row_columns) == ("tickets", RowColumns("ticket_id", "subject", "priority"))
    world.plan(config.job.input)
    assert world.rows("SELECT count(*), count(DISTINCT priority), min(artist_id) FROM artists") == [(40, 3, "4801")]
    assert world.rows("SELECT artist_name FROM artists WHERE artist_id = '4840'") == [("4840",)]  # it has no subject


def test_the_prompt_is_made_of_the_fields() -> None:
    job = load_job(FOLDER)
    rows = [row for _, row in read_table(FOLDER / "tickets.csv") if isinstance(row, dict)]
    values = job.prompt_values(job.parse_artist_row(rows[0], "row 2"), "row 2")
    assert job.template.format_map(values).startswith("Subject: Cannot log in after the update\nPlan: enterprise\n")
    assert values["opened"] == "2026-11-02"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"summary": "Help"}, "the summary is no sentence"),
        ({"summary": "Export gives an empty file"}, "the summary only repeats the subject"),
        ({"category": "security"}, "security is left to no person"),
        ({"category": "security", "needs_person": True}, None),
        ({"urgency": 5}, "column urgency: Input should be less than or equal to 4 (it is 5)"),
    ],
)
def test_answers_are_checked(changes: dict[str, object], reason: str | None) -> None:
    job = load_job(FOLDER)
    row = job.parse_artist_row(
        {"ticket_id": 1, "opened": "2026-11-02", "plan": "free", "subject": "Export gives an empty file", "body": "x"},
        "row 2",
    )
    _, failure = job.validate_answer(row, orjson.dumps({**GOOD, **changes}).decode())
    assert (failure and failure.message) == reason


@pytest.mark.parametrize(
    ("variable", "settings"),
    [
        ("", "batcher.toml"),
        ("JOB=jobs/tickets", "jobs/tickets/batcher.toml"),
        ("JOB=jobs/embed", "jobs/embed/batcher.toml"),
    ],
)
def test_make_demo_runs_the_job_that_is_named(variable: str, settings: str) -> None:
    words = ["make", "-n", "--no-print-directory", "demo", *([variable] if variable else [])]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1].endswith(f"batcher demo --config {settings}")
    assert (ROOT / settings).is_file()
