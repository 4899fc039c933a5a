"""The contract of this job: one artist in, one biography out, and what makes a biography acceptable.

Batcher imports this file by its path, alone: it may use the standard library and pydantic, and nothing of batcher.
It must define `Artist` (with `prompt_values`), `Bio` and `accept`. Values of the table are data: nothing here
evaluates them, and none can hold a line break, so that no value can imitate the prompt's structure.
"""

import re
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from operator import itemgetter
from typing import Annotated, NoReturn

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError, core_schema  # a part of pydantic: its only way to word an error freely

MAX_TEXT = 20_000  # characters in one value
MIN_BIO = 20  # characters; shorter is no sentence
FEW_FACTS = 2  # as many lines of substance, or fewer, make a sparse artist
FIRST_YEAR, LAST_YEAR = 1000, 2099  # four-digit numbers in this range are taken for years

# --- the input -------------------------------------------------------------------------------------------------------

_WHOLE = re.compile(r"[+-]?\d{1,9}(?:\.0*)?")
_Info = core_schema.ValidationInfo


def _refuse(info: _Info, reason: str) -> NoReturn:
    raise PydanticCustomError("artist", "{sentence}", {"sentence": f"{info.field_name} {reason}."})


def _line(value: object, info: _Info) -> str | None:
    """The text on one line with single spaces; None where nothing is left."""
    if type(value) is str and value.isprintable() and len(value) <= MAX_TEXT:  # nearly all; their only gaps are spaces
        return (value if "  " not in value else " ".join(value.split())).strip() or None
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = "; ".join(str(item) for item in value if item is not None)
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        value = _number_text(value)
    if not isinstance(value, str):
        _refuse(info, f"must be text, not {type(value).__name__}")
    if len(value) > MAX_TEXT:
        _refuse(info, f"is longer than {MAX_TEXT:,} characters")
    line = value if value.isprintable() else _printable(value, info)
    return " ".join(line.split()) or None


def _number_text(value: float | Decimal) -> str:
    """A number where a text belongs: an id of 7 is "7", also in a column that became 7.0 for the sake of gaps."""
    text = str(value)
    return "" if text.lower() == "nan" else text.removesuffix(".0")  # NaN is how such a column writes a gap


def _printable(text: str, info: _Info) -> str:
    """Control characters become spaces and invisible marks go; what no request can carry is refused."""
    if "\0" in text:
        _refuse(info, "contains a NUL character")
    kinds = [(char, unicodedata.category(char)) for char in text]
    if any(kind == "Cs" for _, kind in kinds):
        _refuse(info, "contains half of a surrogate pair, so its encoding is broken")
    joiners = "\u200c\u200d"  # Persian and Indic spelling needs them
    return "".join(" " if kind == "Cc" else char for char, kind in kinds if kind != "Cf" or char in joiners)


def _required(value: object, info: _Info) -> str:
    return _line(value, info) or _refuse(info, "is empty")


def _whole(value: object, info: _Info) -> int | None:
    """A whole number as CSV or Parquet carries it: 1881, "1881", 1881.00 or "1881.0"; None where there is none."""
    if value is None or (type(value) is int and -(10**9) < value < 10**9):
        return value
    if isinstance(value, str) and len(value) < 10 and value.isdecimal():
        return int(value)
    given = isinstance(value, str | int | float | Decimal) and not isinstance(value, bool)
    text = str(value).strip() if given else "?"
    if not text:
        return None
    if not _WHOLE.fullmatch(text):
        _refuse(info, "must be a whole number")
    return int(text.partition(".")[0])


def _priority(value: object, info: _Info) -> int:
    number = _whole(value, info)
    if number is not None and number < 1:
        _refuse(info, "must be 1 (the most urgent) or more")
    return 3 if number is None else number


def _count(value: object, info: _Info) -> int | None:
    number = _whole(value, info)
    if number is not None and number < 0:
        _refuse(info, "must not be negative")
    return number


Required = Annotated[str, BeforeValidator(_required)]
Text = Annotated[str | None, BeforeValidator(_line)]
Year = Annotated[int | None, BeforeValidator(_whole)]
Count = Annotated[int | None, BeforeValidator(_count)]

LABELS = {
    "artist_type": "Kind",
    "nationality": "Nationality",
    "born": "Born",
    "died": "Died",
    "dates": "Dates as recorded",
    "gender": "Gender",
    "birth_place": "Place of birth",
    "death_place": "Place of death",
    "roles": "Roles",
    "media": "Media of recorded works",
    "movements": "Styles and movements",
    "number_of_works": "Works counted in museum collections",
}
GROUP_LABELS = LABELS | {"born": "Founded", "died": "Closed", "birth_place": "Founded in", "death_place": "Closed in"}
_SUBSTANCE = sorted(LABELS.keys() - {"artist_type", "gender", "number_of_works"})
_substance = itemgetter(*_SUBSTANCE)
NO_FACTS = "(Nothing is recorded but the name.)"
HARDLY_ANY = "(Hardly anything else is recorded.)"


class Artist(BaseModel):
    """One row of the input table. Other columns of the table are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    artist_id: Required
    artist_name: Required
    priority: Annotated[int, BeforeValidator(_priority)] = 3
    artist_type: Text = None
    nationality: Text = None
    born: Year = None
    died: Year = None
    dates: Text = None
    gender: Text = None
    birth_place: Text = None
    death_place: Text = None
    roles: Text = None
    media: Text = None
    movements: Text = None
    number_of_works: Count = None

    def prompt_values(self) -> dict[str, str]:
        """What goes into the placeholders of user.md; each fact stands on a line of its own."""
        values = self.__dict__
        labels = GROUP_LABELS if self.is_group else LABELS
        lines = [f"{label}: {value}" for key, label in labels.items() if (value := values[key]) is not None]
        if _substance(values).count(None) >= len(_SUBSTANCE) - FEW_FACTS:
            lines.append(HARDLY_ANY if lines else NO_FACTS)
        return {"artist_name": self.artist_name, "facts": "\n".join(lines)}

    def known_facts(self) -> dict[str, str | int]:
        values = self.__dict__
        return {key: values[key] for key in LABELS if values[key] is not None}

    @property
    def is_group(self) -> bool:
        return self.artist_type in ("organization", "collaboration")


# --- the output ------------------------------------------------------------------------------------------------------


def _without_titles(schema: JsonDict) -> None:
    """Pydantic's generated titles say nothing to the model and would be paid for on every line."""
    schema.pop("title", None)
    properties = schema.get("properties")
    for field in properties.values() if isinstance(properties, dict) else ():
        if isinstance(field, dict):
            field.pop("title", None)


class Bio(BaseModel):
    """A short biography of one artist."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_without_titles)

    bio: str = Field(
        description="The biography in plain prose: 80 to 180 words where the facts carry it, fewer where they do not. "
        "Names the artist in the first sentence."
    )
    summary: str = Field(description="One sentence of under 200 characters that says who the artist is.")
    sparse: bool = Field(description="True if the facts were too few for a real biography.")


# --- the acceptance check --------------------------------------------------------------------------------------------

# One scan finds the years and what was left over of a prompt or a refusal. It starts with one set of characters, which
# the regular-expression engine skips to; the look-behinds then tell the cases apart.
_SCAN = re.compile(
    r"[12{}<|`\[IA](?:"
    r"(?<=[12])(?P<rest>[0-9]{3})(?![0-9])(?P<decade>['\u2019]?s\b)?(?:\s?[\u2010-\u2014/-]\s?(?P<short>[0-9]{1,3})(?![0-9]))?"
    r"|(?<=I)(?: (?:cannot|apologi[sz]e|do not have|am (?:sorry|unable|not able))|['\u2019]m (?:sorry|unable|not able)"
    r"| (?:can|don)['\u2019]t )"
    r"|(?<=\bA)I (?:language )?(?:model|assistant)\b|(?<=[Aa]s an A)I\b"
    r"|(?:(?<=^A)|(?<=\nA))rtist: "
    r"|(?<=[{}])|(?<=<)\||(?<=\|)>|(?<=`)``|(?<=\[)(?:[Ii]nsert|[Aa]rtist|[Nn]ame)\b)"
)


def accept(artist: Artist, bio: Bio) -> str | None:
    """None if the biography may be kept, otherwise the reason against it in one sentence."""
    text = bio.bio.strip()
    if len(text) < MIN_BIO:
        return f"The bio has {len(text)} characters, fewer than {MIN_BIO}."
    if not bio.summary.strip():
        return "The summary is empty."
    if not _names(artist, text):
        return "The bio does not name the artist."
    return _foreign(artist, f"{text}\n{bio.summary}")


def _foreign(artist: Artist, text: str) -> str | None:
    """What stands in the text, but not in the facts, and cannot be meant."""
    given = (str(artist.born), str(artist.died))
    for match in _SCAN.finditer(text):
        if match["rest"] is None:
            if match[0] not in _source(artist):
                return f"The bio contains {match[0]!r}, left over from a prompt or a refusal."
        elif match[0] not in given:
            for year in _years_of(match):
                if year not in given and year not in _told_years(artist):
                    return f"The bio gives the year {year}, which is not among the facts."
    return None


def _years_of(match: re.Match[str]) -> Iterator[str]:
    """The years that a match stands for: "1881-73" is 1881 alone, "1873-81" also 1881, "1890s" only that decade."""
    year, before = match[0][:4], match.string[: match.start()][-1:]
    if before.isdigit() or not FIRST_YEAR <= int(year) <= LAST_YEAR:
        return
    yield f"{year}s" if match["decade"] else year
    short = match["short"] or ""
    end = year[: 4 - len(short)] + short
    if end > year:
        yield end


def _source(artist: Artist) -> str:
    """Everything that the model was told about the artist."""
    return " ".join((artist.artist_name, *map(str, artist.known_facts().values())))


def _told_years(artist: Artist) -> set[str]:
    """Every year in the facts and in the name; a decade in the facts also allows its first year."""
    matches = (match for match in _SCAN.finditer(_source(artist)) if match["rest"])
    told = {year for match in matches for year in _years_of(match)}
    return told | {year.removesuffix("s") for year in told}


# --- does a text name the artist? ------------------------------------------------------------------------------------

_WORD = re.compile(r"[^\W_]+")
_BRACKETS = re.compile(r"[(\[]([^()\[\]]*)[)\]]")
_CUT = re.compile(r"[,;]")
_ALIAS = re.compile(
    r"\b(?:called|known as|alias|dit|detto|genannt|as|lord|lady|duke|duc|earl|count|comte|viscount|baron|marquise?|"
    r"marquess|abbe|abbot) (.+)",
    re.IGNORECASE,
)
_JOINED = re.compile(r"[&+]|\b(?:and|et|und)\b")
_ENDINGS = re.compile(
    r"'s\b|\b(?:the elder|the younger|[js]r|esq|i{2,3}|iv|vi{0,3}|x[iv]+|2nd|3rd|s\.p\.a|s\.r\.l|a\.g|k\.k)\b| i$",
    re.IGNORECASE,
)
_GENERIC = frozenset(
    "the of and et und y a an da de del della di du des van von der den "  # noqa: SIM905 (words read best as words)
    "co company inc incorporated ltd limited gmbh ag llc corp corporation studio studios sons brothers bros associates "
    "partners architects architecture group collective factory works workshop manufactory manufacturer manufacturing "
    "design designs master painter artist class publisher publishers press firm lithography".split()
)
_LETTERS = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "\u0131": "i", "ß": "ss"}
    | {"æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "th", "Þ": "Th"}
    | dict.fromkeys("\u2018\u2019\u02bb\u02bc\u02be\u02bf\u00b4`", "'")
)
_SHORT = 6  # a word this short may be an English one too ("Cook", "WORK", "Little"): alone, it must bear a capital


def _names(artist: Artist, text: str) -> bool:
    if _has(text, artist.artist_name):
        return True
    plain = _plain(text)
    lower = plain.lower()
    name = _plain(artist.artist_name).lower()
    if " " in name and _has(lower, name):
        return True
    return any(_found(plain, lower, *reading) for reading in _readings(artist))


def _plain(text: str) -> str:
    """The text without accents and with plain apostrophes, its case kept."""
    if text.isascii():
        return text
    spelled = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return spelled if spelled.isascii() else "".join(c for c in spelled if not unicodedata.combining(c))


def _has(text: str, words: str) -> bool:
    """Whether the words stand in the text and are not a part of longer ones."""
    at = text.find(words)
    while at >= 0:
        end = at + len(words)
        joined_before = at > 0 and words[0].isalnum() and text[at - 1].isalnum()
        if not joined_before and not (words[-1].isalnum() and text[end : end + 1].isalnum()):
            return True
        at = text.find(words, at + 1)
    return False


def _readings(artist: Artist) -> Iterator[tuple[list[str], int]]:
    """Ways to name the artist: words, and how many of them a text must have (0: all of them, in a row)."""
    name = _plain(artist.artist_name)
    main = _BRACKETS.sub(" ", name)
    group = artist.is_group or _JOINED.search(main) is not None
    facts = set(_WORD.findall(_plain(" ".join(map(str, artist.known_facts().values()))).lower()))
    yield _keys(_CUT.split(main if group else main.partition("/")[0])[0], group, facts)
    if alias := _ALIAS.search(main):
        yield _keys(_CUT.split(alias[1])[0], False, facts)
    brackets = list(_BRACKETS.finditer(name))
    if brackets and not _WORD.search(name, brackets[-1].end()):
        words = _telling(brackets[-1][1])
        yield words, len(words)


def _telling(name: str) -> list[str]:
    return [word for word in _WORD.findall(_ENDINGS.sub(" ", name)) if word.lower() not in _GENERIC]


def _keys(name: str, group: bool, facts: set[str]) -> tuple[list[str], int]:
    """A person is named by the last word, a group by two thirds of its words, initials by all of them in a row.

    A word that the facts hold too ("Cortona", "Hong Kong") may be there for their sake and does not tell alone.
    """
    before = name.partition(" of ")[0]
    if not group and len(_telling(before)) > 1:  # "Joseph Wright of Derby" is a Wright; "Tom of Finland" is all he has
        name = before
    words = _telling(name.strip())
    if not words or len(words[-1]) == 1 or all(word.lower() in facts for word in words):
        return _WORD.findall(name), 0
    if group:
        own = [word for word in words if word.lower() not in facts]
        return own, (2 * len(own) + 2) // 3
    return ([words[0], words[-1]], 2) if words[-1].lower() in facts else (words[-1:], 1)


def _found(text: str, lower: str, words: list[str], needed: int) -> bool:
    if not words:
        return False
    if not needed:
        run = r"[\W_]{0,4}".join(map(re.escape, words))
        flags = re.IGNORECASE if any(len(word) > 1 for word in words) else re.NOFLAG
        return re.search(rf"(?<![^\W_]){run}(?![^\W_])", text, flags) is not None
    if len(words) == 1 and len(words[0]) <= _SHORT and words[0] != words[0].lower():
        return any(_has(text, form) for form in (words[0], words[0].capitalize(), words[0].upper()))
    return sum(_has(lower, word.lower()) for word in words) >= needed
