"""What a job calls its rows and its answers: `NOUNS` of job.py, else "row" and "answer", or "artist" and "bio".

The words are a choice of the process, as a language is to gettext: a session sets them, and whoever makes a text asks
for them. job.py is read and not run, so that they are known where it is broken, and cost a look at the job nothing.
"""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from batcher.errors import JobError, format_faulty_value

LONGEST_NOUN = 40
"""Characters of a noun at most: it has to fit into the heading of a column."""
# The patterns are compiled where they are first used, as most commands use none of them.
_ASSIGNMENT = r"(?m)^NOUNS\b[^=\n]*=[ \t]*([(\[][^)\]]*[)\]]|[^\n]*)"
_NOUN = r"\w(?:[\w '&./-]*\w)?"
_OWN_ROW = r"(?m)^(?:class[ \t]+Row\b|Row[ \t]*=)"
_TAKES_ES = r"(?i)(?:s|x|z|ch|sh)$"
_TAKES_IES = r"[^aeiou]y$"
_TAKES_AN = r"(?i)(?!uni(?!n|d|m)|us[eu]|util|eu|one\b|ur[il]\b|uuid)[aeiou]|hour|hono|heir"


class Nouns(NamedTuple):
    """What a row and an answer of a job are called, alone and in number."""

    row: str
    answer: str
    rows: str
    answers: str

    @property
    def a_row(self) -> str:
        """A row with its article: "an artist"."""
        return put_article(self.row)

    @property
    def an_answer(self) -> str:
        """An answer with its article: "a bio"."""
        return put_article(self.answer)

    @property
    def id_option(self) -> str:
        """The option that names a row: `--artist` has the name that fits every job beside it."""
        return "--artist" if self.row == DEFAULT.row else "--row"

    @property
    def id_argument(self) -> str:
        """The id of a row where the form of a command is shown: ARTIST_ID."""
        return f"{to_name(self.row).upper()}_ID"

    @property
    def answers_file(self) -> str:
        """The file that a sentence proposes for the answers: bios.parquet."""
        return f"{to_name(self.answers)}.parquet"

    def name_outcome(self, outcome: str) -> str:
        """Return what a screen calls an outcome: where the state has "bio", an answer was accepted, of any job."""
        return self.answer if outcome == DEFAULT.answer else outcome

    def count_rows(self, count: int) -> str:
        """Return a number of rows: "1 artist", "1,824 artists"."""
        return f"{count:,} {self.row if count == 1 else self.rows}"

    def count_answers(self, count: int) -> str:
        """Return a number of answers: "1 bio", "1,824 bios"."""
        return f"{count:,} {self.answer if count == 1 else self.answers}"


DEFAULT = Nouns("artist", "bio", "artists", "bios")
OF_ROWS = Nouns("row", "answer", "rows", "answers")
"""The nouns of a job that names its model Row, and no nouns."""
_CURRENT = ContextVar("nouns", default=DEFAULT)


def current_nouns() -> Nouns:
    """Return the nouns of the job at hand."""
    return _CURRENT.get()


def set_nouns(nouns: Nouns) -> None:
    """Have all texts from here on use these nouns."""
    _CURRENT.set(nouns)


@contextmanager
def using_nouns(nouns: Nouns) -> Iterator[None]:
    """Have the texts of a block use these nouns."""
    token = _CURRENT.set(nouns)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def find_nouns(folder: Path) -> Nouns:
    """Return the nouns of the job in a folder; those of `choose_default` where it names none that can be used."""
    try:
        return read_nouns(folder)
    except OSError:
        return DEFAULT
    except JobError:
        return choose_default(_read_source(folder))


def read_nouns(folder: Path) -> Nouns:
    """Return the nouns of the job in a folder, without running it.

    Raises JobError where `NOUNS` is not two or four plain texts, and OSError where job.py cannot be read.
    """
    return parse_nouns(_read_source(folder), str(folder / "job.py"))


def _read_source(folder: Path) -> str:
    return (folder / "job.py").read_text(encoding="utf-8-sig", errors="replace")


def choose_default(source: str) -> Nouns:
    """Return the nouns of a job.py that assigns none: rows and answers where it has a Row, else artists and bios."""
    return OF_ROWS if "Row" in source and re.search(_OWN_ROW, source) else DEFAULT


def parse_nouns(source: str, path: str) -> Nouns:
    """Return the nouns that the text of a job.py assigns; those of `choose_default` for none.

    path: of the file, for the sentence of the JobError where they are not two or four plain texts.
    """
    written = find_assignment(source)
    if written is None:
        return choose_default(source)
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    nouns = build_nouns(value)
    if nouns is None:
        raise JobError(
            f"{path}: NOUNS has to be two plain texts, for a row and for an answer, as "
            f'NOUNS = ("ticket", "label"), or four, with their plurals behind them; it is '
            f"{format_faulty_value(written) if value is None else format_faulty_value(value)}"
        )
    return nouns


def find_assignment(source: str) -> str | None:
    """Return the expression that is assigned to `NOUNS` at the start of a line, the last one; None where none is."""
    found = re.findall(_ASSIGNMENT, source) if "NOUNS" in source else []
    return found[-1] if found else None


def build_nouns(texts: object) -> Nouns | None:
    """Return the nouns of two texts, or of four with the plurals; None where they are something else."""
    if not isinstance(texts, tuple | list) or len(texts) not in {2, 4}:
        return None
    plain = [text for text in texts if isinstance(text, str) and is_plain(text)]
    if len(plain) < len(texts):
        return None
    row, answer, *plurals = plain
    rows, answers = plurals or (form_plural(row), form_plural(answer))
    return Nouns(row, answer, rows, answers)


def is_plain(text: str) -> bool:
    """Return whether a text is a noun that any screen can show: letters, digits, and a few marks between them."""
    return len(text) <= LONGEST_NOUN and re.fullmatch(_NOUN, text) is not None


def form_plural(noun: str) -> str:
    """Return the plural of a noun by the rules of English: tickets, queries, analyses; in other letters the noun."""
    if noun and not noun[-1].isascii():
        return noun
    if noun.endswith("sis"):
        return f"{noun[:-2]}es"
    if re.search(_TAKES_ES, noun):
        return f"{noun}es"
    if re.search(_TAKES_IES, noun):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def put_article(noun: str) -> str:
    """Return a noun with its article: "a bio", "an artist"."""
    return f"{'an' if re.match(_TAKES_AN, noun) else 'a'} {noun}"


def to_name(noun: str) -> str:
    """Return a noun as a name in code or of a file: "support ticket" is support_ticket."""
    return re.sub(r"\W+", "_", noun)


def capitalize(text: str) -> str:
    """Return a text with a capital first letter; the rest stays as it is, as in SKU."""
    return text[:1].upper() + text[1:]
