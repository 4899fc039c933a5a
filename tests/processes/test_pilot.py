"""`pilot`, and the pilot of `run`, as a user types them: what is sent, what is said, and what a kill leaves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.kill_harness import Killing, Scenario

SMALL = Scenario(lines=24, per_shard=8, priorities=(1, 2, 3), commands=(), pilot=200)
LARGE = Scenario(lines=2_000, per_shard=500, priorities=(1, 2), commands=(), pilot=200)


def _answer(job: Killing, command: Sequence[str], code: int = 0) -> tuple[Mapping[str, object], str]:
    """Run a command; return its JSON, and everything that it has printed."""
    job.output.write_text("")
    assert job.done([*command, "--json"]) == code, job.output.read_text()
    said = job.output.read_text()
    assert "Traceback" not in said
    *_, line = (line for line in said.splitlines() if line.startswith("{"))  # `run` tells events before its answer
    return json.loads(line), said


def _pilot_in_status(job: Killing) -> Mapping[str, object]:
    """Return what `status` says of a pilot; empty where it is over."""
    pilot = _answer(job, ("status",))[0]["pilot"]
    return pilot if isinstance(pilot, Mapping) else {}


def _states(job: Killing) -> dict[str, int]:
    return {str(state): int(str(n)) for state, n in job.query("SELECT state, count(*) FROM artists GROUP BY state")}


def test_a_pilot_alone_is_sent_and_reported(tmp_path: Path) -> None:
    job = Killing(tmp_path, SMALL)
    with job.serving():
        told, _ = _answer(job, ("pilot", "--lines", "6"))
        assert (told["stage"], told["lines"], told["accepted"], told["rest_lines"]) == ("passed", 6, 6, 18)
        assert len(told["samples"]) == 6  # type: ignore[arg-type]
        assert _states(job) == {"done": 6, "ready": 18}
        assert job.query("SELECT DISTINCT state FROM shards WHERE pilot IS NULL") == [("planned",)]
        spent = told["spent_usd"]
        assert isinstance(spent, float)
        rest = told["rest"]
        assert isinstance(rest, dict)
        assert rest["amount"] == pytest.approx(3 * spent, rel=0.1)


def test_a_second_pilot_is_of_what_is_unsent(tmp_path: Path) -> None:
    job = Killing(tmp_path, SMALL)
    with job.serving():
        _answer(job, ("pilot", "--lines", "6"))
        told, _ = _answer(job, ("pilot", "--lines", "6"))
        assert (told["pilot"], told["rest_lines"]) == (2, 12)
        told, _ = _answer(job, ("pilot", "--lines", "100"))
        assert (told["pilot"], told["lines"], told["rest_lines"]) == (3, 12, 0)
        assert _states(job) == {"done": 24}
    assert set(job.outcome().answers.values()) == {1}


def test_refused_answers_stand_beside_their_reasons_and_are_not_bought_again(tmp_path: Path) -> None:
    job = Killing(tmp_path, SMALL)
    job.refuse_where("artist.priority == 1")
    with job.serving():
        told, _ = _answer(job, ("pilot", "--lines", "6"), code=3)
        assert (told["stage"], told["accepted"], told["judged"]) == ("failed", 4, 6)
        assert told["refused"] == [{"code": "not_accepted", "reason": "urgency is out of range", "lines": 2}]
        answers = told["refused_answers"]
        assert isinstance(answers, list)
        assert [each["reason"] for each in answers] == ["urgency is out of range"] * 2
        assert all("Sandbox text on Artist Number" in each["text"] for each in answers)
        told, _ = _answer(job, ("run",), code=3)  # a small job has no pilot of its own, but this one was made
        assert "4 of 6 answers of the pilot were accepted" in str(told["error"])
        assert "2 x not_accepted: urgency is out of range" in str(told["error"])
        assert _states(job) == {"done": 4, "ready": 20}
    assert sum(job.outcome().answers.values()) == 6


def test_two_pilots_at_once_are_one(tmp_path: Path) -> None:
    """Whichever comes second waits for the first one, and reports on its pilot: nothing is bought again."""
    job = Killing(tmp_path, SMALL)
    job.refuse_where("artist.priority == 1")
    with job.serving():
        _answer(job, ("plan",))
        both = [job.start(("pilot", "--lines", "6", "--json")) for _ in range(2)]
        assert [job.finish(each) for each in both] == [3, 3], job.output.read_text()
        assert job.query("SELECT pilot, lines FROM pilots") == [(1, 6)]
    assert list(job.outcome().answers.values()) == [1] * 6


def test_resume_goes_on_although_too_few_were_accepted(tmp_path: Path) -> None:
    job = Killing(tmp_path, SMALL)
    job.refuse_where("artist.priority == 1")
    with job.serving():
        _answer(job, ("pilot", "--lines", "6"), code=3)
        assert _pilot_in_status(job)["failed"]
        assert str(_pilot_in_status(job)["text"]).startswith("4 of 6 answers of the pilot were accepted")
        told, _ = _answer(job, ("resume",))
        assert "the pilot of prompt 1 counts as passed" in str(told["told"])
        assert told["pilots_passed"] == [1]
        assert not _pilot_in_status(job)["failed"]  # its refused lines are retried
        told, _ = _answer(job, ("resume",))
        assert "pilot" not in str(told["told"])
        _answer(job, ("run",), code=4)
        assert _states(job) == {"done": 16, "dead": 8}


def test_the_failed_pilot_of_a_prompt_is_asked_about_only_while_lines_of_it_wait(tmp_path: Path) -> None:
    """Fail a pilot, pass one of another prompt, end a pause, and go back to the first prompt."""
    job = Killing(tmp_path, SMALL)
    job.refuse_where("artist.priority == 1")
    system = job.folder / "job" / "system.md"
    first = system.read_text()
    with job.serving():
        _answer(job, ("pilot", "--lines", "6"), code=3)
        job.refuse_where("False")
        system.write_text(first + "- One more rule.\n")
        _answer(job, ("plan", "--replan"))
        assert not _pilot_in_status(job)
        assert _answer(job, ("pilot", "--lines", "6"))[0]["stage"] == "passed"
        _answer(job, ("pause",))
        assert _answer(job, ("resume",))[0]["told"] == "1 pause ended"
        assert job.query("SELECT count(*) FROM facts WHERE name = 'brake_resumed'") == [(0,)]
        system.write_text(first)
        _answer(job, ("plan", "--replan"))
        shown = _pilot_in_status(job)
        assert (shown["pilot"], shown["prompt"], shown["failed"]) == (1, 1, True)
        assert _answer(job, ("run",), code=3)[0]["error"] == shown["text"]
        assert _answer(job, ("resume",))[0]["pilots_passed"] == [1]
        _answer(job, ("run",))
    assert set(job.outcome().answers.values()) <= {1, 2}


def test_answers_that_are_accepted_after_all_let_the_rest_follow(tmp_path: Path) -> None:
    job = Killing(tmp_path, SMALL)
    job.refuse_where("artist.priority == 1")
    with job.serving():
        _answer(job, ("pilot", "--lines", "6"), code=3)
        job.refuse_where("False")
        _answer(job, ("judge",))
        _answer(job, ("run",))
        assert _states(job) == {"done": 24}
    assert set(job.outcome().answers.values()) == {1}


def test_a_job_that_was_changed_after_its_pilot_asks_before_the_rest(tmp_path: Path) -> None:
    job = Killing(tmp_path, SMALL)
    job.refuse_where("False")
    with job.serving():
        _answer(job, ("pilot", "--lines", "6"))
        with (job.folder / "job" / "system.md").open("a") as file:
            file.write("- One more rule.\n")
        told, _ = _answer(job, ("run",), code=2)
        assert "--replan" in str(told["error"])
        _answer(job, ("plan", "--replan"))
        _answer(job, ("run",))
    assert job.query("SELECT version, count(*) FROM bios GROUP BY 1 ORDER BY 1") == [(1, 6), (2, 18)]


def test_accept_that_raises_stops_the_pilot_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    job = Killing(tmp_path, SMALL)
    job.refuse_where("1 / 0")
    with job.serving():
        told, _ = _answer(job, ("pilot", "--lines", "6"), code=2)
        assert "division by zero" in str(told["error"])
        job.refuse_where("False")
        told, _ = _answer(job, ("pilot", "--lines", "6"))
        assert (told["pilot"], told["bios"]) == (1, 6)
    assert set(job.outcome().answers.values()) == {1}


def test_run_sends_a_pilot_of_a_large_job_and_goes_on_by_itself(tmp_path: Path) -> None:
    job = Killing(tmp_path, LARGE)
    with job.serving():
        _answer(job, ("run",))
        assert job.query("SELECT pilot, wished, lines, resumed_at FROM pilots") == [(1, 200, 200, None)]
        order = "max(ended_at) FILTER (pilot = 1) <= min(intended_at) FILTER (pilot IS NULL)"
        assert job.query(f"SELECT {order} FROM submissions JOIN shards USING (shard)") == [(True,)]
        assert _states(job) == {"done": 2_000}
    assert set(job.outcome().answers.values()) == {1}


def test_run_stops_with_a_question_where_too_few_answers_are_accepted(tmp_path: Path) -> None:
    """Each line of the pilot is bought once, and nothing else, however often `run` is started. The brake has tripped by
    then, too."""
    job = Killing(tmp_path, LARGE)
    config = job.folder / "batcher.toml"
    config.write_text(config.read_text().replace("max_unusable = 1\nfirst_wave = 1\n", ""))
    job.refuse_where("int(artist.artist_id[1:]) % 16 < 15")
    with job.serving():
        for _ in range(2):
            told, _ = _answer(job, ("run",), code=3)
            question = str(told["error"])
            assert "of 200 answers of the pilot were accepted, [pilot] min_accepted asks for 90%" in question
            for command in ("batcher answers --refused", "plan --replan", "batcher judge", "batcher resume"):
                assert command in question
        assert len(job.sandbox.ledger.execution_counts()) == 200
    assert set(job.outcome().answers.values()) == {1}


@pytest.mark.parametrize(("refuses", "code"), [("False", 0), ("int(artist.artist_id[1:]) % 16 < 15", 3)])
def test_run_reports_on_its_pilot_before_it_goes_on_or_asks(tmp_path: Path, refuses: str, code: int) -> None:
    job = Killing(tmp_path, LARGE)
    job.refuse_where(refuses)
    with job.serving():
        job.output.write_text("")
        assert job.done(("run",)) == code, job.output.read_text()
        said = " ".join(job.output.read_text().split())
        assert "Pilot 1, seed 1: 200 lines, 200 first answers: " in said
        assert "Sample bios" in said
        assert "The other 1,800 lines: about $" in said
        assert ("`batcher answers --refused` shows them" in said) is bool(code)
        assert ("Refused, by reason" in said) is bool(code)
        said_as_json = _answer(job, ("run",), code)[1]
        assert "first answers" not in said_as_json


@pytest.mark.parametrize(("lines", "pilot"), [(1_999, 200), (2_000, 0)])
def test_run_sends_no_pilot_of_a_small_job_or_where_it_is_turned_off(tmp_path: Path, lines: int, pilot: int) -> None:
    job = Killing(tmp_path, replace(LARGE, lines=lines, pilot=pilot))
    with job.serving():
        _answer(job, ("run",))
        assert job.query("SELECT count(*) FROM pilots") == [(0,)]


def test_a_plan_that_exists_is_cut_again_for_the_pilot_of_run(tmp_path: Path) -> None:
    job = Killing(tmp_path, LARGE)
    with job.serving():
        _answer(job, ("plan",))
        assert job.done(("run",), "release_pilot.commit.before") == -9
        _answer(job, ("run",))
        assert job.query("SELECT pilot, lines FROM pilots") == [(1, 200)]
        assert _states(job) == {"done": 2_000}
    assert set(job.outcome().answers.values()) == {1}


def test_run_sends_a_pilot_of_bios_that_are_asked_for_again_with_a_bad_prompt(tmp_path: Path) -> None:
    """The pilot stops it, and nothing else is sent; each bio stays."""
    job = Killing(tmp_path, LARGE)
    job.refuse_where("False")
    prompt = job.folder / "job" / "user.md"
    with job.serving():
        _answer(job, ("run",))
        changed = prompt.read_text() + "\nMedium: Bronze\n"
        job.refuse_where("True")
        prompt.write_text(changed)
        assert _answer(job, ("redo", "--yes", "--version", "1"))[0]["lines"] == 2_000
        for _ in range(2):
            assert "0 of 200 answers of the pilot were accepted" in str(_answer(job, ("run",), code=3)[0]["error"])
        assert job.query("SELECT version, lines FROM pilots") == [(1, 200), (2, 200)]
        assert job.query("SELECT count(DISTINCT artist_id) FROM attempts WHERE version = 2") == [(200,)]
        assert job.query("SELECT version, count(*) FROM bios GROUP BY version") == [(1, 2_000)]
        job.refuse_where("False")
        prompt.write_text(changed)
        _answer(job, ("judge",))
        _answer(job, ("run",))
        assert job.query("SELECT version, count(*) FROM bios GROUP BY version") == [(2, 2_000)]
    assert max(job.sandbox.ledger.execution_counts().values()) == 2


POINTS = ("plan.commit.after", "release_pilot.commit.before", "release_pilot.commit.after", "ingest.commit.after")
POINTS_OF_ANY_SHARD = (
    "upload.after", "create.before", "create.after", "record_create.commit.after", "download.after",
    "ingest.commit.before", "gather.commit.after",
)  # fmt: skip
"""Points that test_crash_points kills other jobs at."""


@pytest.mark.parametrize(
    "point", [*POINTS, *(pytest.param(point, marks=pytest.mark.soak) for point in POINTS_OF_ANY_SHARD)]
)
def test_a_pilot_that_was_killed_goes_on_with_the_same_lines(tmp_path: Path, point: str) -> None:
    job = Killing(tmp_path, replace(SMALL, faults={"line_failures": {"server": 0.2}}))
    with job.serving():
        code = job.done(("pilot", "--lines", "12"), point)
        assert code == -9, job.output.read_text()
        before = job.query("SELECT artist_id FROM pilot_lines ORDER BY 1")
        assert str(_pilot_in_status(job)["text"]).startswith("A pilot is under way: ")
        told, _ = _answer(job, ("pilot", "--lines", "12"))
        assert (told["pilot"], told["lines"], told["bios"], told["rest_lines"]) == (1, 12, 12, 12)
        assert job.query("SELECT artist_id FROM pilot_lines ORDER BY 1") == before
        assert _states(job) == {"done": 12, "ready": 12}
    assert job.outcome().twice == 0
    assert set(job.outcome().answers.values()) == {1}
