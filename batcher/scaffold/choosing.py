"""Which column of a table is the id, the name and the priority, and what the fields of a row are called."""

import keyword
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple
from unicodedata import normalize

from pydantic import BaseModel

from batcher.errors import InputError
from batcher.job.schema import COLLECT_COLUMNS, FAILED_COLUMNS
from batcher.nouns import LONGEST_NOUN
from batcher.scaffold.profile import ID_KINDS, LONGEST_ID, ColumnProfile, TableProfile

ID_WORDS = ("id", "uuid", "guid", "key", "code", "number", "no", "nr", "sku", "isbn", "doi", "url", "email")
"""Last words of columns that hold ids, the likeliest first."""
NAME_WORDS = ("name", "title", "subject", "headline", "full_name", "display_name")
"""Columns that hold names, the likeliest first."""
LONGEST_NAME = 200
"""Characters of the longest name."""
PRIORITY_WORDS = ("priority", "prio")
LARGEST_PRIORITY = 2**31 - 1
OTHER_PLURALS = {
    "movies": "movie", "cookies": "cookie", "people": "person", "children": "child", "news": "row", "series": "row",
    "species": "row", "answers": "row",
}  # fmt: skip
"""What a row is called where no rule gives its word; an answer is what comes back."""
NOT_FIELDS = frozenset({"str", "int", "float", "bool", "list", "dict", "dt", "Any", "Literal", "Field", "ConfigDict"})
"""Names that the fields of a row cannot have, as job.py uses them within the class."""


class ChosenColumns(NamedTuple):
    """The columns that name and rank a row, and why the first of them does; None: no column does.

    passed_over: a sentence on a column that is called an id and cannot be one; "" where there is none.
    """

    id: str
    why: str
    name: str | None
    priority: str | None
    passed_over: str = ""


def choose_columns(table: TableProfile, noun: str, id_wish: str | None, taken: Collection[str]) -> ChosenColumns:
    """Return which columns name and rank a row. noun: what a row is. taken: names of the fields of an answer.

    Raises InputError where no column has a different value in every row, or the one that was wished for has not.
    """
    column, why, passed_over = _check_wish(table, id_wish) if id_wish is not None else _find_id(table, noun)
    if slug(column) in taken:
        raise InputError(f"--schema: {slug(column)} is the column of the id; give the field of an answer another name")
    others = [each for each in table.columns if each.name != column and slug(each.name) not in taken]
    return ChosenColumns(column, why, _find_name(others, noun), _find_priority(others), passed_over)


def _check_wish(table: TableProfile, wish: str) -> tuple[str, str, str]:
    found = table.find_column(wish)
    if found is None:
        raise InputError(f"--id: {table.path} has no column {wish!r}{suggest(wish, [c.name for c in table.columns])}")
    if found.has_gaps:
        raise InputError(f"--id: column {wish} is empty in some rows; an id is needed in each")
    if not found.is_unique:
        raise InputError(f"--id: column {wish} is no id: it must have a different, short value in every row")
    return wish, "as --id says", ""


def _find_id(table: TableProfile, noun: str) -> tuple[str, str, str]:
    """Return the column of the id, why it is that, and a sentence on a likelier one that cannot be it, or ""."""
    ranks = {column.name: _rank_id(column, noun) for column in table.columns}
    likeliest = sorted(table.columns, key=lambda column: ranks[column.name])
    best = next((column for column in likeliest if column.is_unique), None)
    first = likeliest[0] if likeliest and ranks[likeliest[0].name][0] < _UNNAMED else None
    if best is None:
        unfit = f": {_explain_unfit(first)}, and no other has" if first is not None else ", as none has"
        raise InputError(
            f"{table.path}: no column can be the id{unfit} a different, short value in every row; add one that numbers "
            "the rows"
        )
    passed_over = f"{_explain_unfit(first)}, so it is not the id." if first is not None and first != best else ""
    why = f"it has a different value in each {f'of the {table.rows:,} rows' if table.rows > 1 else 'row'}"
    if ranks[best.name][0] >= _UNNAMED:
        why += ", though it is not called an id"
    return best.name, why, passed_over


def _explain_unfit(column: ColumnProfile) -> str:
    if column.has_gaps:
        return f"{column.name} is empty in some rows"
    if column.kind not in ID_KINDS:
        return f"{column.name} does not hold texts or numbers alone"
    return f"{column.name} has a value {'of many characters' if column.longest > LONGEST_ID else 'twice'}"


_UNNAMED = 100


def _rank_id(column: ColumnProfile, noun: str) -> tuple[int, int]:
    """Return how likely a column is the id, the likeliest first: by its name, then by how short its values are."""
    words = slug(column.name).split("_")
    if words in ([noun, "id"], ["id"]):
        return (0 if len(words) == 2 else 1), 0
    if words[-1] in ID_WORDS:
        return 2 + ID_WORDS.index(words[-1]), 0
    if words == [noun]:
        return _UNNAMED - 1, 0
    return _UNNAMED, 0 if column.kind == "int" else column.longest


def _find_name(columns: Sequence[ColumnProfile], noun: str) -> str | None:
    wanted = (f"{noun}_name", *NAME_WORDS)
    texts = {slug(each.name): each.name for each in columns if each.kind == "str" and 0 < each.longest <= LONGEST_NAME}
    named = next((texts[word] for word in wanted if word in texts), None)
    return named or next((name for word, name in texts.items() if word.endswith(("_name", "_title"))), None)


def _find_priority(columns: Sequence[ColumnProfile]) -> str | None:
    """Return the column of whole numbers from 1 on that is called a priority."""
    for column in columns:
        is_rank = column.least is not None and column.least >= 1 and column.longest < len(str(LARGEST_PRIORITY))
        if slug(column.name) in PRIORITY_WORDS and is_rank:
            return column.name
    return None


def name_fields(table: TableProfile, chosen: ChosenColumns, noun: str, fixed: Collection[str]) -> Mapping[str, str]:
    """Return the field of a row for each column that is read, by column: its own name where Python allows it.

    fixed: the columns of an answer that has no fields of its own.
    """
    columns = {column.name.lower() for column in table.columns}
    written = {*COLLECT_COLUMNS, *FAILED_COLUMNS, *fixed}
    known_by = (chosen.id, chosen.name, chosen.priority)
    fields: dict[str, str] = {}
    for column in table.columns:
        if not column.kind:
            continue
        name = column.name if _is_field_name(column.name) else _write_as_field(column.name)
        if not _is_field_name(name) or (column.name in known_by and name.lower() in written):
            name = f"{noun}_{name.strip('_') or 'column'}"
        # A stored row has its fields by their names, and is read by names and by those of columns.
        others = columns if name != column.name else ()
        fields[column.name] = _make_unique(name, {*(field.lower() for field in fields.values()), *others})
    return fields


def _is_field_name(name: str) -> bool:
    """Return whether a field of a pydantic model may have a name."""
    is_plain = name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")
    is_kept = normalize("NFKC", name) == name  # else Python would change it
    return is_plain and is_kept and not has_meaning(name)


def has_meaning(name: str) -> bool:
    """Return whether a name of a field would mean something else in job.py, or pydantic would warn of it."""
    return name in NOT_FIELDS or hasattr(BaseModel, name) or name.startswith(("model_dump", "model_validate"))


def _write_as_field(name: str) -> str:
    """Return a name in small letters of any alphabet, digits and underscores, with no letter that Python changes."""
    plain = normalize("NFKC", normalize("NFKC", name).lower())
    return re.sub(r"\W+", "_", plain).strip("_")


def _make_unique(name: str, taken: Collection[str]) -> str:
    """Return a name, with a number where it is taken. taken: in small letters."""
    numbers = (f"{name}_{number}" for number in range(2, len(taken) + 3))
    return next(each for each in (name, *numbers) if each.lower() not in taken)


def slug(name: str) -> str:
    """Return a name in small letters, digits and underscores: "Ticket ID" and "ticketId" are ticket_id."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")


def name_row(stem: str) -> str:
    """Return what a row of a table is called: "ticket" for tickets, support_tickets and Tickets-2026; else "row"."""
    words = [word for word in slug(stem).split("_") if word.isalpha()]
    word = words[-1] if words and len(words[-1]) <= LONGEST_NOUN else ""
    if word in OTHER_PLURALS:
        return OTHER_PLURALS[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return "row"


def suggest(word: str, known: Sequence[str]) -> str:
    """Return the end of a sentence on an unknown name: the nearest known one, or all."""
    near = get_close_matches(word.lower(), [name.lower() for name in known], 1)
    found = next((name for name in known if near and name.lower() == near[0]), None)
    return f"; did you mean {found}?" if found is not None else f"; there are {', '.join(known)}"
