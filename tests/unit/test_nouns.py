"""The words of a job: read from job.py without running it, and used in every text."""

import threading
from pathlib import Path

import pytest

from batcher.errors import JobError
from batcher.nouns import (
    DEFAULT,
    Nouns,
    build_nouns,
    capitalize,
    current_nouns,
    find_nouns,
    form_plural,
    parse_nouns,
    put_article,
    read_nouns,
    using_nouns,
)

TICKETS = Nouns("ticket", "label", "tickets", "labels")


@pytest.mark.parametrize(
    "source",
    [
        'NOUNS = ("ticket", "label")',
        'NOUNS = "ticket", "label"  # what they are called',
        "NOUNS=['ticket', 'label']",
        'NOUNS: tuple[str, str] = ("ticket", "label")',
        'NOUNS = (\n    "ticket",  # a row\n    "label",\n)\n',
        '"""A job."""\n\nimport broken here\n\nNOUNS = ("ticket", "label")\n\nclass Row(',
        'NOUNS = ("row", "answer")\nNOUNS = ("ticket", "label")',
        'NOUNS = ("ticket", "label", "tickets", "labels")',
    ],
)
def test_nouns_are_read_without_running_the_job(source: str) -> None:
    assert parse_nouns(source, "job.py") == TICKETS


@pytest.mark.parametrize(
    "source", ["", "class Artist:\n    pass\n", '    NOUNS = ("ticket", "label")', "MY_NOUNS = 1", "# NOUNS = (1,)"]
)
def test_a_job_without_nouns_has_artists_and_bios(source: str) -> None:
    assert parse_nouns(source, "job.py") is DEFAULT
    assert DEFAULT == ("artist", "bio", "artists", "bios")


@pytest.mark.parametrize(
    "source", ["class Row(BaseModel):\n", "x = 1\nRow = create_model('Row')\n", "import broken here\nclass Row :\n"]
)
def test_a_job_with_a_row_and_without_nouns_speaks_of_rows(source: str, tmp_path: Path) -> None:
    rows = ("row", "answer", "rows", "answers")
    assert parse_nouns(source, "job.py") == rows
    (tmp_path / "job.py").write_text(f"NOUNS = make_nouns()\n{source}", encoding="utf-8")
    assert find_nouns(tmp_path) == rows


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('"ticket"', "'ticket'"),
        ('("ticket",)', "('ticket',)"),
        ('("ticket", "label", "tickets")', "('ticket', 'label', 'tickets')"),
        ('("ticket", 1)', "('ticket', 1)"),
        ('("ticket", "")', "('ticket', '')"),
        ('("ticket", " label")', "('ticket', ' label')"),
        ('("a\\nb", "label")', "('a\\nb', 'label')"),
        ('("<b>", "label")', "('<b>', 'label')"),
        ('("[red]", "label")', "'(\"[red]'"),
        (f'("ticket", "{"x" * 41}")', "('ticket', 'xxx"),
        ("make_nouns()", "'make_nouns()'"),
        ("", "''"),
    ],
)
def test_what_is_no_pair_of_nouns_is_one_sentence(written: str, shown: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(f"NOUNS = {written}\n", encoding="utf-8")
    with pytest.raises(JobError) as caught:
        read_nouns(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path / 'job.py'}: NOUNS has to be two plain texts, for a row and for an answer, as "
        f'NOUNS = ("ticket", "label"), or four, with their plurals behind them; it is {shown}'
    )
    assert find_nouns(tmp_path) is DEFAULT  # a look at the job goes on


def test_a_folder_without_a_job_has_the_default_nouns(tmp_path: Path) -> None:
    assert find_nouns(tmp_path / "none") is DEFAULT
    (tmp_path / "job.py").mkdir()
    assert find_nouns(tmp_path) is DEFAULT


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("ticket", "tickets"), ("query", "queries"), ("day", "days"), ("address", "addresses"), ("box", "boxes"),
        ("batch", "batches"), ("SKU", "SKUs"), ("support ticket", "support tickets"), ("bio", "bios"),
        ("analysis", "analyses"), ("basis", "bases"), ("class", "classes"), ("заявка", "заявка"), ("票", "票"),
    ],
)  # fmt: skip
def test_plurals_are_formed_as_in_english(noun: str, plural: str) -> None:
    assert form_plural(noun) == plural


def test_an_irregular_plural_is_given() -> None:
    assert build_nouns(("person", "profile", "people", "profiles")) == ("person", "profile", "people", "profiles")


@pytest.mark.parametrize(
    ("noun", "phrase"),
    [
        ("artist", "an artist"), ("bio", "a bio"), ("answer", "an answer"), ("user", "a user"), ("unit", "a unit"),
        ("hour", "an hour"), ("house", "a house"), ("update", "an update"), ("unsafe word", "an unsafe word"),
        ("url", "a url"), ("URL", "a URL"), ("UUID", "a UUID"), ("unidentified item", "an unidentified item"),
        ("university", "a university"), ("uninteresting row", "an uninteresting row"), ("union", "a union"),
    ],
)  # fmt: skip
def test_a_noun_has_its_article(noun: str, phrase: str) -> None:
    assert put_article(noun) == phrase


def test_nouns_in_sentences_options_and_files() -> None:
    nouns = build_nouns(("support ticket", "label"))
    assert nouns is not None
    assert [nouns.count_rows(n) for n in (0, 1, 1824)] == [
        "0 support tickets",
        "1 support ticket",
        "1,824 support tickets",
    ]
    assert [nouns.count_answers(n) for n in (1, 2)] == ["1 label", "2 labels"]
    assert (nouns.id_option, nouns.id_argument, nouns.answers_file) == ("--row", "SUPPORT_TICKET_ID", "labels.parquet")
    assert (DEFAULT.id_option, DEFAULT.id_argument, DEFAULT.answers_file) == ("--artist", "ARTIST_ID", "bios.parquet")
    assert [nouns.name_outcome(outcome) for outcome in ("bio", "refusal")] == ["label", "refusal"]
    assert [capitalize(noun) for noun in ("bios", "SKUs")] == ["Bios", "SKUs"]


def test_each_thread_may_have_a_job_of_its_own() -> None:
    """Two jobs of one program, in threads: neither speaks in the other's words."""
    inside, found = threading.Event(), []

    def work() -> None:
        with using_nouns(TICKETS):
            inside.set()
            found.append(current_nouns())

    with using_nouns(DEFAULT):
        thread = threading.Thread(target=work)
        thread.start()
        inside.wait()
        thread.join()
        assert current_nouns() is DEFAULT
    assert found == [TICKETS]
