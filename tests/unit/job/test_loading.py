"""Loading a job folder: what is accepted, and the sentence for each thing that can be wrong."""

import sys
from pathlib import Path

import pytest

from batcher.core.model import Endpoint
from batcher.errors import JobError
from batcher.job.loading import load_job
from tests.support.job_kit import JOB, MESSAGES_JOB, TEXT_JOB, WriteJob


def refusal(folder: Path) -> str:
    with pytest.raises(JobError) as raised:
        load_job(folder)
    return str(raised.value).replace(str(folder), "painters")


def test_a_sound_job_is_loaded_and_nothing_is_left_beside_it(
    write_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = write_job(system="\ufeff Be brief.\n")
    job = load_job(folder)
    assert (job.name, job.system, job.template) == ("painters", "Be brief.", "Artist: {artist_name}")
    assert sorted(path.name for path in folder.iterdir()) == ["job.py", "system.md", "user.md"]


def test_the_version_holds_all_that_a_line_repeats(write_job: WriteJob) -> None:
    version = load_job(write_job()).build_version("gpt-6-luna", Endpoint.CHAT, 600)
    assert (version.name, version.model, version.max_output_tokens) == ("painters", "gpt-6-luna", 600)
    assert (version.system, version.template, version.schema_name) == ("Be brief.", "Artist: {artist_name}", "bio")


@pytest.mark.parametrize("name", ["job.py", "system.md", "user.md"])
def test_a_missing_file_is_named(write_job: WriteJob, name: str) -> None:
    folder = write_job(**{Path(name).stem: None})
    assert refusal(folder) == f"painters is no job: {name} is missing; `batcher init` writes an example"


def test_a_missing_folder_is_no_job(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    with pytest.raises(JobError, match=r"nowhere is no job: job\.py is missing"):
        load_job(folder)


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        ("a = 1\nb = (\n", "painters/job.py, line 2: '(' was never closed; fix the file"),
        (
            "def f():\nreturn 1\n",
            "painters/job.py, line 2: expected an indented block after function definition on line 1; fix the file",
        ),
        (
            b"a = 'caf\xe9'\n",
            "painters/job.py, line 1: (unicode error) 'utf-8' codec can't decode byte 0xe9 in position 3: unexpected "
            "end of data; fix the file",
        ),
        (b"a = 1\0\n", "painters/job.py: source code string cannot contain null bytes; fix the file"),
        (
            "\n\nimport nothing_of_the_kind\n",
            "painters/job.py cannot be loaded: job.py, line 3: ModuleNotFoundError: No module named "
            "'nothing_of_the_kind'; fix job.py",
        ),
        ("a = {}['x']\n", "painters/job.py cannot be loaded: job.py, line 1: KeyError: 'x'; fix job.py"),
        (
            "import sys\nsys.exit('stop')\n",
            "painters/job.py cannot be loaded: job.py, line 2: SystemExit: stop; fix job.py",
        ),
        (
            "class Odd(Exception):\n    pass\n\nraise Odd('one\\ntwo')\n",
            "painters/job.py cannot be loaded: job.py, line 4: Odd: one; fix job.py",
        ),
        (
            "open('/proc/no-such-file')\n",
            "painters/job.py cannot be loaded: job.py, line 1: FileNotFoundError: [Errno 2] No such file or "
            "directory: '/proc/no-such-file'; fix job.py",
        ),
        ("", "painters/job.py has no pydantic model Row or Artist"),
        (JOB.replace("class Artist", "class Painter"), "painters/job.py has no pydantic model Row or Artist"),
        (JOB.replace("class Bio(BaseModel)", "class Bio"), "painters/job.py has no pydantic model Bio"),
        (JOB.replace("def accept", "def agree"), "painters/job.py has no accept(artist, bio) function; "
         "return None to accept"),
        (
            JOB.replace("accept(artist, bio)", "accept(artist)"),
            "painters/job.py: accept(artist) does not take an artist and a bio; write accept(artist, bio), and return "
            "None to accept",
        ),
        (
            JOB.replace("accept(artist, bio)", "accept(artist, bio, *, strict)"),
            "painters/job.py: accept(artist, bio, *, strict) does not take an artist and a bio; write "
            "accept(artist, bio), and return None to accept",
        ),
        (
            JOB.replace("    bio: str", "    pass"),
            "Bio has no field; give it one for each part of an answer",
        ),
        (JOB.replace("artist_name: str", "name: str"), "painters/job.py: Artist has no field artist_name"),
        (
            JOB.replace("def prompt_values", "def values"),
            "painters/job.py: Artist has no prompt_values() giving the values of user.md",
        ),
        (
            JOB.replace("bio: str", "bio: str = ''"),
            "Bio.bio has a default; structured output needs every field (use X | None)",
        ),
        (
            JOB.replace("bio: str", "bio: str\n    tags: dict[str, str]"),
            "Bio.tags is a mapping with free keys; structured output needs a model with named fields",
        ),
        (
            JOB.replace("bio: str", "bio: str\n    more: list[object]"),
            "Bio.more may be anything; structured output needs a type",
        ),
        (
            JOB.replace("bio: str", "bio: str\n    lane: str"),
            "Bio.lane has the name of a column that `collect` writes; rename it",
        ),
    ],
)  # fmt: skip
def test_a_broken_job_is_named_with_its_line(write_job: WriteJob, job: str | bytes, sentence: str) -> None:
    assert refusal(write_job(job=job)) == sentence


NAME = "{name} with a key of prompt_values, or write {{ and }} for braces that are meant as such"


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        ("Write.", "painters/user.md names no value of the artist, so every prompt would be the same; write "
         "{artist_name} where the name belongs"),
        ("", "painters/user.md names no value of the artist, so every prompt would be the same; write "
         "{artist_name} where the name belongs"),
        ("{artist_name.__class__}", "painters/user.md: {artist_name.__class__} is not a plain name; "
         f"use {NAME}"),
        ("{facts[0]}", f"painters/user.md: {{facts[0]}} is not a plain name; use {NAME}"),
        ("{}", f"painters/user.md: {{}} is not a plain name; use {NAME}"),
        ("{artist_name", "painters/user.md: expected '}' before end of string; write {{ and }} for braces that are "
         "meant as such"),
        (b"Artist:\n{artist_name}\xe9", "painters/user.md, line 2 is not UTF-8 (byte 22); save it as UTF-8"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_filled_in(write_job: WriteJob, user: str | bytes, sentence: str) -> None:
    assert refusal(write_job(user=user)) == sentence


@pytest.mark.parametrize("user", ["{artist_name:>10}", "{artist_name!r}"])
def test_a_template_with_a_format_is_refused_as_it_is_written(write_job: WriteJob, user: str) -> None:
    assert f"user.md: {user} is not a plain name" in refusal(write_job(user=user))


def test_a_system_prompt_that_is_not_utf_8(write_job: WriteJob) -> None:
    assert refusal(write_job(system=b"\xff")) == "painters/system.md, line 1 is not UTF-8 (byte 1); save it as UTF-8"


@pytest.mark.parametrize("system", ["", " \n\n", "\ufeff"])
def test_an_empty_system_prompt(write_job: WriteJob, system: str) -> None:
    sentence = "painters/system.md is empty; write into it what every request has in common"
    assert refusal(write_job(system=system)) == sentence


@pytest.mark.parametrize("accept", ["accept(artist, bio, strict=True)", "accept(*given)"])
def test_an_acceptance_check_may_take_more_where_it_need_not(write_job: WriteJob, accept: str) -> None:
    assert load_job(write_job(job=JOB.replace("accept(artist, bio)", accept))).name == "painters"


def test_a_job_without_an_output_model_is_of_plain_text(write_job: WriteJob) -> None:
    job = load_job(write_job(job=TEXT_JOB))
    version = job.build_version("gpt-6-luna", Endpoint.CHAT, 600)
    assert (job.bio, version.schema, version.schema_name) == (None, {}, "")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            TEXT_JOB + "\n\nclass Boi(BaseModel):\n    bio: str\n",
            "painters/job.py has no pydantic model Bio, and its model Boi is no part of Artist; name it Bio where an "
            "answer has its fields, else _Boi: then answers are plain text",
        ),
        (
            TEXT_JOB + "\n\naccept = None\n",
            "painters/job.py has no accept(artist, text) function; return None to accept",
        ),
        (
            TEXT_JOB + "\n\ndef accept(text):\n    return None\n",
            "painters/job.py: accept(text) does not take an artist and a text; write accept(artist, text), and return "
            "None to accept",
        ),
    ],
)
def test_what_may_be_a_mistake_in_a_job_of_plain_text_is_refused(
    write_job: WriteJob, source: str, sentence: str
) -> None:
    assert refusal(write_job(job=source)) == sentence


def test_models_of_the_row_are_no_output_model(write_job: WriteJob) -> None:
    models = "".join(f"class {name}(BaseModel):\n    x: int = 1\n\n\n" for name in ("Base", "Work", "_Own"))
    source = TEXT_JOB.replace("class Artist(BaseModel):", f"{models}class Artist(Base):")
    source = source.replace("    born:", "    works: list[Work] | None = None\n    born:")
    assert load_job(write_job(job=source)).bio is None


@pytest.mark.parametrize("system", ["Be brief.", None])
def test_messages_take_the_place_of_the_prompts(write_job: WriteJob, system: str | None) -> None:
    version = load_job(write_job(job=MESSAGES_JOB, system=system, user=None)).build_version("m", Endpoint.CHAT, 600)
    assert (version.system, version.template) == (system or "", "")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            {},
            "painters: user.md has no use beside messages(row) of job.py, which gives what stands behind system.md; "
            "remove one of the two",
        ),
        (
            {"user": None, "system": " "},
            "painters/system.md is empty; write into it what every request has in common",
        ),
        (
            {"user": None, "job": MESSAGES_JOB.replace("messages(row)", "messages()")},
            "painters/job.py: messages() does not take a row; write messages(row)",
        ),
        (
            {"user": None, "job": TEXT_JOB + "\n\nmessages = []\n"},
            "painters/job.py: messages is no function; write messages(row), or give it another name",
        ),
    ],
)
def test_messages_that_cannot_be_asked_for_are_refused(
    write_job: WriteJob, files: dict[str, str | None], sentence: str
) -> None:
    assert refusal(write_job(**{"job": MESSAGES_JOB, **files})) == sentence
