"""The real command, and what its user sees when something is wrong: one sentence, exit code 2, nothing changed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import duckdb
import orjson
import pytest

from tests.support.place import GOOD, HEAD, Place

Files = Mapping[str, bytes]


@pytest.fixture(scope="module")
def planned_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a plan, once: tests copy it."""
    folder = tmp_path_factory.mktemp("planned")
    ended = Place(folder).run("plan")
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def planned(place: Place, planned_folder: Path) -> Place:
    shutil.copytree(planned_folder / ".batcher", place.folder / ".batcher")
    return place


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["plan", "--foo"], "no such option: --foo; `batcher plan --help` shows what it takes"),
        (["plen", "--json"], "no such command 'plen'; did you mean 'plan'? `batcher --help` shows what it takes"),
        (["collect"], "missing option '--out'; `batcher collect --help` shows what it takes"),
    ],
)  # fmt: skip
def test_a_wrong_command_line(place: Place, arguments: list[str], sentence: str) -> None:
    assert place.refused(*arguments) == sentence


@pytest.mark.parametrize("arguments", [
    ["plan", "--limit"], ["run", "--out", "b.csv", "--limit"], ["preview", "--sample"], ["submit", "--shards"],
    ["pilot", "--lines"], ["pilot", "--seed"], ["direct", "--limit"], ["direct", "--priority"], ["redo", "--version"],
    ["answers", "--refused", "--limit"], ["sql", "select 1", "--limit"], ["log", "--lines"], ["log", "--shard"],
], ids=lambda words: "".join(words[::len(words) - 1]))  # fmt: skip
def test_a_number_that_the_state_cannot_store(place: Place, arguments: list[str]) -> None:
    assert place.refused(*arguments, str(10**20)) == (
        f"invalid value for '{arguments[-1]}': Input should be less than or equal to 1000000000; "
        f"`batcher {arguments[0]} --help` shows what it takes"
    )


@pytest.mark.parametrize(
    "arguments",
    [["collect", "--out", "b\udcff.parquet"], ["report", "--out", "b\udcff.html", "--json"], ["show", "a\udcff"]],
    ids=lambda words: words[0],
)
def test_an_argument_that_is_not_utf8(planned: Place, arguments: list[str]) -> None:
    word = next(word for word in arguments if "\udcff" in word)
    sentence = planned.refused(*arguments)
    shown = word.encode("unicode_escape").decode()
    assert sentence == f"the argument {shown} is not UTF-8; write it in UTF-8, and rename a file whose name is not"


def test_a_state_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "n\udcff"
    folder.mkdir()
    sentence = Place(folder).refused("plan")
    assert sentence.startswith("the state folder ")
    assert sentence.endswith("/.batcher has a name that is not UTF-8; rename it, or set [state] dir")


def test_no_configuration(place: Place) -> None:
    (place.folder / "batcher.toml").unlink()
    sentence = "batcher.toml does not exist; `batcher init` writes one, --config names another"
    assert place.refused("plan", "--json") == sentence


def test_an_unknown_key(place: Place) -> None:
    place.write("batcher.toml", "[limits]\nteir = 3\n")
    assert place.refused("status").startswith("batcher.toml: unknown key limits.teir; [limits] has tier, threshold,")


# --- the table and the job -------------------------------------------------------------------------------------------

MEND = "; fix the table, or leave such rows out with --skip-bad-rows"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            GOOD.replace("artist_name", "name"),
            "artists.csv has no column artist_name; its columns are artist_id, name, priority, nationality, born: "
            "rename one, or give it an alias in job.py",
        ),
        (GOOD + "a1,Ana Again,1,,\n", "artists.csv, row 4: artist_id 'a1' is already in row 2" + MEND),
        (HEAD, "artists.csv has no rows; there is nothing to plan"),
        (
            GOOD.encode() + b"c3,Caf\xe9,1,,\n",
            "artists.csv, row 4: byte 7 of the line is 0xe9, which is not UTF-8; save it as UTF-8",
        ),
        (
            GOOD + "c3,Cy\x1b[31m Nul\0,1,,\n",
            "artists.csv, row 4, column artist_name: holds a NUL character, which no request can carry; remove it"
            + MEND,
        ),
    ],
    ids=["wrong-column", "duplicate", "empty", "latin-1", "nul"],
)
def test_a_bad_table(place: Place, table: str | bytes, sentence: str) -> None:
    place.write("jobs/bios/artists.csv", table)
    assert place.refused("plan", "--json") == f"jobs/bios/{sentence}"


def test_what_a_file_holds_cannot_break_the_sentence_or_reach_the_terminal(place: Place) -> None:
    """Line breaks, escape sequences and halves of surrogates in names of columns and files."""
    place.write("jobs/bios/artists.csv", '"artist_id\nx","na\x1b[31mme"\n1,2\n')
    sentence = place.refused("plan", "--json")
    assert "its columns are artist_id x, na\\x1b[31mme" in sentence
    ended = place.run("plan", "--input", os.fsdecode(b"\xff.csv"), "--json")
    assert orjson.loads(ended.stdout)["error"].startswith("the argument \\udcff.csv is not UTF-8; ")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("job.py", "def broken(:\n", "jobs/bios/job.py, line 1: invalid syntax; fix the file"),
        ("user.md", "{artist_name.x}", "jobs/bios/user.md: {artist_name.x} is not a plain name; use {name} with a key "
         "of prompt_values, or write {{ and }} for braces that are meant as such"),
        ("user.md", "{artist_name} {nmae}", "jobs/bios/artists.csv, row 2: user.md names {nmae}, which prompt_values "
         "does not give; it gives artist_name, facts"),
    ],
)  # fmt: skip
def test_a_broken_job(place: Place, name: str, content: str, sentence: str) -> None:
    place.write(f"jobs/bios/{name}", content)
    assert place.refused("plan") == sentence


@pytest.mark.parametrize("arguments", [["submit"], ["collect", "--out", "b.csv", "--json"]])
def test_before_there_is_a_plan(place: Place, arguments: list[str]) -> None:
    sentence = place.refused(*arguments, OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert sentence == "there is no plan in .batcher; run `batcher plan` first"


def test_a_state_folder_that_cannot_be_made(place: Place) -> None:
    place.write("file", "x")
    place.write("batcher.toml", '[state]\ndir = "file/state"\n')
    sentence = "the state folder file/state cannot be made: Not a directory; set another [state] dir"
    assert place.refused("plan") == sentence


def test_a_foreign_state(place: Place) -> None:
    place.write(".batcher/state.duckdb", b"something else")
    sentence = ".batcher/state.duckdb is not a state of Batcher's; move it away, or set another [state] dir"
    assert place.refused("plan") == sentence


def test_an_edited_prompt(planned: Place) -> None:
    planned.write("jobs/bios/system.md", "Something else.")
    assert planned.refused("plan").startswith(
        "2 unsent lines in 2 shards were planned with another prompt; `batcher plan --replan`"
    )


@pytest.mark.parametrize("command", ["submit", "poll"])
def test_what_was_planned_for_another_model_is_not_sent(planned: Place, command: str) -> None:
    nowhere = "http://127.0.0.1:9/v1"
    told = planned.refused(command, BATCHER_MODEL__NAME="gpt-5-mini", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL=nowhere)
    assert told == (
        "2 unsent lines in 2 shards were planned with another [model] name; "
        "`batcher plan --replan` cuts them again (what was submitted stays as it is)"
    )


def test_an_unknown_artist_is_told_with_those_like_it(planned: Place) -> None:
    assert planned.refused("show", "ana") == "the plan has no artist 'ana'; similar: a1 (Ana Albers)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "nowhere/b.parquet"], "nowhere/b.parquet: the folder nowhere does not exist; make it first"),
        (["--out", "b.xlsx"], "b.xlsx: the ending must be .parquet, .csv or .jsonl"),
        (["--out", "b.csv", "--failed", "f.txt"], "f.txt: the ending must be .parquet, .csv or .jsonl"),
        (["--out", "b.csv", "--failed", "./b.csv"], "--out and --failed both name b.csv; give them different files"),
    ],
)
def test_a_target_that_cannot_be_written(planned: Place, arguments: list[str], sentence: str) -> None:
    assert planned.refused("collect", *arguments) == sentence


def test_run_refuses_a_wrong_target_before_it_does_anything(place: Place) -> None:
    assert place.refused("run", "--out", "b.xlsx") == "b.xlsx: the ending must be .parquet, .csv or .jsonl"


def test_collecting_before_anything_is_done_is_not_refused_but_said(planned: Place) -> None:
    ended = planned.run("collect", "--out", "b.parquet", "--failed", "f.csv")
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout == (
        "0 bios written to b.parquet.\n0 artists without a bio written to f.csv.\nNot among the bios: 2 still open.\n"
    )
    with duckdb.connect() as con:
        assert con.execute("SELECT * FROM read_parquet(?)", [str(planned.folder / "b.parquet")]).fetchall() == []


@pytest.fixture(scope="module")
def answering() -> Iterator[Callable[[int, str, bytes], str]]:
    """Yield how to start a server that gives every request the same answer; it returns the address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, kind: str, content: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_missing_key(planned: Place) -> None:
    sentence = "OPENAI_API_KEY is not set; export your key (platform.openai.com, API keys)"
    assert planned.refused("submit", "--json") == sentence


def test_a_service_that_is_not_there(planned: Place) -> None:
    sentence = planned.refused("submit", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert sentence.startswith("the service cannot be reached: ")
    assert sentence.endswith("; check OPENAI_BASE_URL")


def test_an_address_that_is_not_encrypted_is_warned_of_once(planned: Place) -> None:
    plain = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": "http://0.0.0.0:9/v1"}
    for command in ("submit", "run"):
        told = planned.run(command, **plain).stderr
        assert told.startswith("warning: key and prompts go to http://0.0.0.0:9/v1 unencrypted; use https://\n")
        assert told.count("unencrypted") == 1
    assert "unencrypted" in planned.run("doctor", **plain).stdout


HTML = b"<!doctype html>\n<html>\n<body>\n<h1>Not\n found</h1>" + b"<p>Nothing here.</p>\n" * 100 + b"</body></html>"
REFUSAL = b'{"error": {"message": "Incorrect API key provided: sk-se*****ret.", "code": "invalid_api_key"}}'


@pytest.mark.parametrize(
    ("status", "kind", "content", "begins", "ends"),
    [
        (404, "text/html", HTML, "the address does not speak the Batch API: ", "; check OPENAI_BASE_URL"),
        (401, "application/json", REFUSAL, "the service refuses the key: ", "; check OPENAI_API_KEY"),
        (200, "text/html", HTML, "", "; check OPENAI_BASE_URL"),
    ],
    ids=["html-404", "401", "html-200"],
)
def test_a_service_that_answers_otherwise(
    planned: Place,
    answering: Callable[[int, str, bytes], str],
    status: int,
    kind: str,
    content: bytes,
    begins: str,
    ends: str,
) -> None:  # fmt: skip
    url = answering(status, kind, content)
    sentence = planned.refused("submit", OPENAI_API_KEY="sk-secret-ret", OPENAI_BASE_URL=url)
    assert sentence.startswith(begins)
    assert sentence.endswith(ends)
    assert "sk-se" not in sentence
    assert len(sentence) < 700


def test_run_looks_at_key_and_address_before_it_plans(place: Place) -> None:
    assert place.refused("run").startswith("OPENAI_API_KEY is not set; ")
    sentence = place.refused("run", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert sentence.startswith("the service cannot be reached: ")


def test_a_file_of_the_users_is_not_replaced_and_run_says_so_first(planned: Place) -> None:
    planned.write("mine.csv", "my notes")
    rest = "exists, and is not as this job's `collect` wrote it; name another file, or replace it with --overwrite"
    assert planned.refused("collect", "--out", "mine.csv", "--json") == f"mine.csv {rest}"
    assert planned.refused("run", "--out", "bios.csv", "--failed", "mine.csv") == f"mine.csv {rest}"
    assert planned.run("collect", "--out", "mine.csv", "--overwrite").returncode == 3


PLAIN_JOB = """
from pydantic import BaseModel


class Artist(BaseModel):
    artist_id: str
    artist_name: str

    def prompt_values(self):
        return {"artist_name": self.artist_name}


class Bio(BaseModel):
    bio: str


def accept(artist, bio):
    return None
"""


def test_a_name_that_a_terminal_would_obey_is_shown(place: Place) -> None:
    """A job that takes names as they are; that of the repository cleans them."""
    place.write("jobs/bios/job.py", PLAIN_JOB)
    place.write("jobs/bios/user.md", "{artist_name}")
    place.write("jobs/bios/artists.csv", HEAD + "a1,Ana \x1b[2J\x9b1m Albers,1,German,1899\n")
    assert place.run("plan").returncode == 0
    for arguments in (["show", "a1"], ["show", "a1", "--json"]):
        told = place.run(*arguments).stdout
        assert "Ana " in told
        assert "\x1b" not in told
        assert "\x9b" not in told
    assert orjson.loads(told)["artist_name"] == "Ana \x1b[2J\x9b1m Albers"


def test_run_takes_no_target_for_failures_alone(place: Place) -> None:
    assert place.refused("run", "--failed", "f.csv").startswith("--failed needs --out")


def test_an_override_with_one_underscore_is_refused(place: Place) -> None:
    sentence = place.refused("plan", BATCHER_LIMITS_TIER="4")
    assert sentence == "BATCHER_LIMITS_TIER in the environment sets nothing; keys are set as BATCHER_SECTION__KEY"


def test_a_budget_without_a_price_is_refused_when_it_is_planned(place: Place) -> None:
    place.write("batcher.toml", '[model]\nname = "nobody-1"\n[limits]\nenqueued_tokens = 100000\n')
    sentence = place.refused("plan", BATCHER_BUDGET__MAX_USD="5")
    assert sentence == (
        "[budget] max_usd is set, but the price of nobody-1 is not known; set it to 0 to go on without a bound"
    )
    assert "Price: unknown for this model." in place.run("plan").stdout


def test_the_doctor_goes_on_past_an_address_that_is_none(planned: Place) -> None:
    ended = planned.run("doctor", OPENAI_API_KEY="sk-x", OPENAI_BASE_URL="http://[::1")
    assert ended.returncode == 2
    assert "OPENAI_BASE_URL is no address" in ended.stdout
    assert "enqueued tokens" in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_plan_over_the_budget_says_so(place: Place) -> None:
    told = place.run("plan", BATCHER_BUDGET__MAX_USD="0.0001").stdout
    assert "what is left of the budget, $0.000100: what does not fit is not sent." in " ".join(told.split())


def test_ctrl_c_in_a_plan_is_told_and_nothing_is_left(place: Place, tmp_path: Path) -> None:
    """A process of its own, which heeds the signal also where the tests run in the background of a shell."""
    rows = "".join(f"a{n},Artist {n},3,,\n" for n in range(60_000))
    place.write("jobs/bios/artists.csv", HEAD + rows)
    before = place.files()
    heeding = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[0] = 'batcher'; "
    command = [sys.executable, "-c", f"{heeding}from batcher.cli.app import main; main()", "plan"]
    with subprocess.Popen(command, cwd=place.folder, stderr=subprocess.PIPE, text=True) as child:
        shards = place.folder / ".batcher"
        while not shards.exists() and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        told = child.stderr.read()
    assert child.returncode == 130
    assert told == "batcher: interrupted; run the same command again to go on\n"
    assert place.files() == before


def test_with_its_output_closed_a_command_does_its_work(place: Place) -> None:
    command = f"'{sys.executable}' -m batcher plan --json >&-"
    ended = subprocess.run(["/bin/sh", "-c", command], cwd=place.folder, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (place.folder / ".batcher" / "shards" / "shard-00002.jsonl").exists()
