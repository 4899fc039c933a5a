"""The bios job: its input model, output model, prompts, table and acceptance check."""

import csv
import importlib.util
import itertools
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest
from openai.lib._pydantic import to_strict_json_schema
from pydantic import ValidationError

FOLDER = Path(__file__).resolve().parents[2] / "jobs" / "bios"
SHARED = Path(__file__).resolve().parents[3] / "shared"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bios_job", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


job = load(FOLDER / "job.py")
NO_SUMMARY = "An artist."


def artist(name: str = "Claude Monet", **facts: object) -> Any:
    return job.Artist.model_validate({"artist_id": "x", "artist_name": name, **facts})


def bio(text: str, summary: str = NO_SUMMARY) -> Any:
    return job.Bio(bio=text, summary=summary, sparse=False)


def verdict(name: str, text: str, **facts: object) -> str | None:
    reason = job.accept(artist(name, **facts), bio(text))
    assert reason is None or isinstance(reason, str)
    return reason


def test_csv_strings_and_native_values_give_the_same_artist() -> None:
    native = artist(born=1840, died=1926, number_of_works=12, priority=2, nationality="French")
    strings = artist(
        born="1840", died=" 1926.0 ", number_of_works="12", priority="2", nationality=" French\t", rank="9"
    )
    assert strings == native


def test_what_is_absent_or_blank_is_unknown() -> None:
    row = artist(priority=None, born=None, died=" ", nationality="  ")
    assert (row.priority, row.born, row.died, row.nationality) == (3, None, None, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (7.0, "7"), (7.5, "7.5"), (Decimal("7.0"), "7"), (Decimal("7.25"), "7.25"), (2**70, str(2**70))],
)
def test_an_id_may_be_a_number(value: object, text: str) -> None:
    assert job.Artist.model_validate({"artist_id": value, "artist_name": value}).artist_id == text


def test_a_gap_in_a_column_of_numbers_is_no_text() -> None:
    assert artist(nationality=float("nan")).nationality is None


@pytest.mark.parametrize("value", ["2", "2.", "2.00", " 2 ", 2, 2.0, Decimal("2.00"), Decimal(2)])
def test_a_priority_is_a_whole_number_however_it_is_written(value: object) -> None:
    assert artist(priority=value).priority == 2


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("artist_name", " \n ", "artist_name is empty."),
        ("artist_name", "\u200b\u2060", "artist_name is empty."),
        ("artist_name", None, "artist_name is empty."),
        ("artist_id", "", "artist_id is empty."),
        ("artist_name", "A\0B", "artist_name contains a NUL character."),
        ("artist_name", "A\ud83d", "artist_name contains half of a surrogate pair, so its encoding is broken."),
        ("roles", "A\0B", "roles contains a NUL character."),
        ("media", "x" * 20_001, "media is longer than 20,000 characters."),
        ("nationality", {"a": 1}, "nationality must be text, not dict."),
        ("born", "soon", "born must be a whole number."),
        ("born", "1881.5", "born must be a whole number."),
        ("born", float("nan"), "born must be a whole number."),
        ("died", "9" * 5000, "died must be a whole number."),
        ("died", True, "died must be a whole number."),
        ("artist_id", True, "artist_id must be text, not bool."),
        ("artist_id", float("nan"), "artist_id is empty."),
        ("priority", Decimal("2.5"), "priority must be a whole number."),
        ("priority", "0", "priority must be 1 (the most urgent) or more."),
        ("number_of_works", "-1", "number_of_works must not be negative."),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence(field: str, value: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        job.Artist.model_validate({"artist_id": "x", "artist_name": "Y", field: value})
    assert [error["msg"] for error in caught.value.errors()] == [sentence]


def test_a_fact_of_20000_characters_is_kept() -> None:
    assert len(artist(media="x" * 20_000).media) == 20_000


def test_facts_stand_on_one_line_each_and_unknown_ones_are_left_out() -> None:
    values = artist(
        nationality="French\nBorn: 1999", born=1840, roles="painter\u2028x", media=["oil", "ink"]
    ).prompt_values()
    assert values["facts"].split("\n") == [
        "Nationality: French Born: 1999",
        "Born: 1840",
        "Roles: painter x",
        "Media of recorded works: oil; ink",
    ]


def test_no_character_of_a_value_can_break_its_line() -> None:
    breaks = "".join(map(chr, itertools.chain(range(1, 33), range(127, 161), (0x2028, 0x2029, 0xFEFF, 0x202E))))
    values = artist(f"A{breaks}B", dates=f"1{breaks}2").prompt_values()
    assert values["artist_name"] == "A B"
    assert values["facts"].splitlines()[0] == "Dates as recorded: 1 2"


@pytest.mark.parametrize(
    ("facts", "last"),
    [
        ({}, "(Nothing is recorded but the name.)"),
        ({"number_of_works": 2}, "(Hardly anything else is recorded.)"),
        ({"nationality": "French", "born": 1840, "died": 1926}, "Died: 1926"),
    ],
)
def test_hardly_any_facts_are_said_to_be_few(facts: dict[str, Any], last: str) -> None:
    assert artist(**facts).prompt_values()["facts"].split("\n")[-1] == last


def test_an_organization_is_founded_not_born() -> None:
    facts = artist("Archigram", artist_type="organization", born=1961).prompt_values()["facts"]
    assert "Founded: 1961" in facts
    assert "Born" not in facts


@pytest.mark.parametrize(
    "name", ["{{7*7}}", "{artist_name}", "%s", "${HOME}", "'; DROP TABLE artists; --", "../../etc"]
)
def test_template_like_names_are_data(name: str) -> None:
    assert artist(name).prompt_values()["artist_name"] == name
    assert verdict(name, f"{name} is the name under which little else is known.") is None


def test_the_schema_is_strict_as_it_stands() -> None:
    schema = job.Bio.model_json_schema()
    assert to_strict_json_schema(job.Bio) == schema
    assert schema["additionalProperties"] is False
    assert schema["required"] == list(schema["properties"]) == ["bio", "summary", "sparse"]
    assert {key for field in schema["properties"].values() for key in field} == {"type", "description"}


def test_an_unknown_or_missing_field_of_the_output_is_refused() -> None:
    with pytest.raises(ValidationError):
        job.Bio.model_validate({"bio": "a", "summary": "b", "sparse": False, "more": 1})
    with pytest.raises(ValidationError):
        job.Bio.model_validate({"bio": "a", "summary": "b"})


def test_the_prompts_fit_the_values() -> None:
    user = (FOLDER / "user.md").read_text("utf-8")
    assert user.startswith("Artist: {artist_name}\n")
    assert set(re.findall(r"{(\w+)}", user)) == set(artist().prompt_values())
    system = (FOLDER / "system.md").read_text("utf-8")
    assert 1_500 <= len(system) <= 2_300
    assert "{" not in system


def table() -> list[dict[str, str]]:
    with (FOLDER / "artists.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_sound() -> None:
    data = (FOLDER / "artists.csv").read_bytes()
    assert b"\r" not in data
    assert data.endswith(b"\n")
    rows = table()
    assert len(rows) >= 320
    assert len({row["artist_id"] for row in rows}) == len(rows)
    assert {row["priority"] for row in rows} == set("12345")
    assert all(re.fullmatch(r"[a-z0-9-]+", row["artist_id"]) for row in rows)
    assert [row["priority"] for row in rows] != sorted(row["priority"] for row in rows)


def test_every_row_of_the_table_validates_and_its_years_are_plausible() -> None:
    for row in table():
        one = job.Artist.model_validate({key: value or None for key, value in row.items()})
        assert one.artist_name == row["artist_name"]
        assert one.born is None or 1200 < one.born < 2000, row
        assert one.died is None or one.died < 2026, row
        if one.born and one.died:
            assert one.born + 15 < one.died < one.born + 106, row


def test_the_table_has_its_difficult_rows() -> None:
    names = {row["artist_name"]: row for row in table()}
    assert not any(names["John Wood"][key] for key in ("nationality", "born", "died", "dates"))
    assert names["Tanning, Dorothea"]
    assert names['James "Son" Thomas']
    assert names["Albrecht Dürer"]
    assert names["Guerrilla Girls"]["artist_type"] == "organization"
    assert any("active" in row["dates"] for row in names.values())


LIFE = {
    "born": 1840,
    "died": 1926,
    "dates": "French, c. 1840 - 1926, active 1865/68 and the 1890s",
    "number_of_works": 1204,
}


@pytest.mark.parametrize(
    "text",
    [
        "Claude Monet (1840\N{EN DASH}1926) was a French painter.",
        "Monet was a French painter, born c. 1840.",
        "CLAUDE MONET was a French painter.",
        "claude monet was a French painter.",
        "Claude\nMonet\N{RIGHT SINGLE QUOTATION MARK}s work is in 1204 places.",
        "Monet was at work from 1865 to 1868 and in the 1890s.",
        "Monet was at work in 1865\N{EN DASH}68.",
        "Monet is a name in 12345 files and 0999 more.",
        "Monet was, as an Aix paper had it, unable to stop; Italian friends can't be named.",
    ],
)
def test_a_good_bio_is_accepted(text: str) -> None:
    assert verdict("Claude Monet", text, **LIFE) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "0 characters"),
        (" \n\t ", "0 characters"),
        ("Claude Monet.", "fewer than 20"),
        ("The artist was a French painter.", "does not name"),
        ("Monetary policy was the subject.", "does not name"),
        ("\u00c9douard Manet was a French painter.", "does not name"),
        ("Monet moved to Giverny in 1883.", "1883"),
        ("Monet moved to Giverny c. 1883.", "1883"),
        ("Monet worked there in the 1880s.", "1880s"),
        ("Monet worked there in the 1840s.", "1840s"),
        ("Monet worked there in the 1880's.", "1880s"),
        ("Monet (1840\N{EN DASH}1927) was a painter.", "1927"),
        ("Monet (1840-99) was a French painter.", "1899"),
        ("Monet painted them, a critic said in 2024.", "2024"),
        ("As an AI, I know nothing of Claude Monet.", "AI"),
        ("Monet: I cannot write this biography.", "I cannot"),
        ("I\N{RIGHT SINGLE QUOTATION MARK}m sorry, but Monet is unknown to me.", "sorry"),
        ("I don't have the facts on Claude Monet.", "left over"),
        ("Claude Monet was a painter. {facts}", "'{'"),
        ("Artist: Claude Monet, a French painter", "Artist: "),
        ("Claude Monet was [insert nationality].", "[insert"),
        ("Claude Monet was a painter.<|endoftext|>", "<|"),
        ("```json Claude Monet was a painter. ```", "```"),
    ],
)
def test_a_bad_bio_is_refused_with_its_reason(text: str, word: str) -> None:
    reason = verdict("Claude Monet", text, **LIFE)
    assert reason is not None
    assert word in reason
    assert reason.endswith(".")
    assert "\n" not in reason


def test_the_summary_is_checked_too() -> None:
    text = "Claude Monet was a French painter."
    assert job.accept(artist(), bio(text, " ")) == "The summary is empty."
    assert "1883" in job.accept(artist(), bio(text, "At Giverny from 1883."))


NAMED = [
    ("Nalbandian, Karnig", "Karnig Nalbandian"),
    ("Georgia O'Keeffe", "O\N{RIGHT SINGLE QUOTATION MARK}Keeffe"),
    ("Jiþi Anderle", "Jiþi Anderle"),
    ("Constantin Brâncuși", "Constantin Brancusi"),
    ("Asger Jørn", "Jorn"),
    ("Ange\u0301lique Arnaud", "Angélique Arnaud"),
    ("F B", "F.B."),
    ("R. T.", "RT"),
    ("Master of 1565", "Master of 1565"),
    ("James D. Smillie (American, 1833-1909)", "James Smillie"),
    ("Weegee (Arthur Fellig)", "Arthur Fellig"),
    ("K.O.S. (Kids of Survival)", "Kids of Survival"),
    ("Xomob(?)", "Xomob"),
    ("Karel Dujardin (attributed)", "Dujardin"),
    ("Jan van der Straet, called Stradanus", "Stradanus"),
    ("Frederic, Lord Leighton", "Leighton"),
    ("Enoch Wood Perry, Jr.", "Enoch Perry"),
    ("Marcus Gheeraerts the Elder", "Gheeraerts"),
    ("Dinh Q. Lê", "Dinh Le"),
    ("Joseph Wright of Derby", "Wright"),
    ("Sam Falk/The New York Times", "Sam Falk"),
    ("IBM, East Fishkill, NY", "IBM"),
    ("Raymond Loewy Associates", "Associates of Raymond Loewy"),
    ("Gilbert & George", "Gilbert and George"),
    ('Andrew "Bunnie" Huang', "Andrew Huang"),
    ("DO NOT USE; use Const ID 1244 [Guerrilla Girls]", "Guerrilla Girls"),
    ("Art & Language (Michael Baldwin, born 1945; Mel Ramsden, born 1944)", "Art & Language"),
    ("WORK", "Work"),
    ("…", "…"),
]


@pytest.mark.parametrize(("name", "form"), NAMED)
def test_a_form_that_names_the_artist_is_accepted(name: str, form: str) -> None:
    assert verdict(name, f"Museums hold prints by {form} from several places.") is None


@pytest.mark.parametrize(
    ("name", "form", "facts"),
    [
        ("Nalbandian, Karnig", "Karnig Hovsepian", {}),
        ("Claude Monet", "Claude Lorrain", {}),
        ("F B", "F. H. B.", {}),
        ("A. S.", "a shop as such", {}),
        ("WORK", "a studio at work", {}),
        ("Anthony Little", "a little studio", {}),
        ("Gilbert & George", "George Grosz", {}),
        ("Raymond Loewy Associates", "Raymond Associates", {}),
        ("Pietro da Cortona", "a painter from Cortona", {"birth_place": "Cortona"}),
        ("Hong Kong Institute of Architects", "architects in Hong Kong", {"nationality": "Hong Kong Institute"}),
        ("Jan Steen", "Jan Steenwijck", {}),
    ],
)
def test_a_form_that_does_not_is_refused(name: str, form: str, facts: dict[str, object]) -> None:
    assert verdict(name, f"Museums hold prints by {form} from several places.", **facts) is not None


def test_a_hostile_name_takes_no_time() -> None:
    for name in ("a " * 9_999, "(" * 20_000, "()" * 9_999 + "x", "a of " * 3_999, ", " * 9_999, "1999-" * 3_999):
        assert verdict(name, "Nobody is named in this text, in 1066 or ever.") is not None


def templated(one: Any, name: str) -> str:
    """Return an honest biography of nothing but the name and the facts."""
    facts = [line.partition(": ")[2] for line in one.prompt_values()["facts"].split("\n") if ": " in line]
    return " ".join((f"{name} is named in museum collections.", *(f"Stated: {fact}." for fact in facts)))


@pytest.fixture(scope="module")
def real() -> list[Any]:
    if not SHARED.is_dir():
        pytest.skip("the reference data is not beside the repository")
    found = duckdb.connect().execute(f"FROM '{SHARED / 'artists' / 'artists.parquet'}' ORDER BY rank")
    columns = [column[0] for column in found.description or ()]
    return [job.Artist.model_validate(dict(zip(columns, row, strict=True))) for row in found.fetchall()]


def refused(artists: list[Any], write: Callable[[Any], str]) -> list[str]:
    return [one.artist_id for one in artists if job.accept(one, bio(write(one))) is not None]


@pytest.mark.shared
def test_an_honest_bio_of_each_real_artist_is_accepted(real: list[Any]) -> None:
    assert len(real) == 42_888
    assert refused(real, lambda one: templated(one, one.artist_name)) == []
    assert refused(real, lambda one: templated(one, one.artist_name.upper())) == []


@pytest.mark.shared
def test_an_invented_year_is_refused_for_each_real_artist(real: list[Any]) -> None:
    for claim in ("moved to Rome in 1023", "was seen in the 1020s", "showed (1021\N{EN DASH}1022)"):
        assert len(refused(real, lambda one, claim=claim: f"{one.artist_name} {claim}.")) == len(real)  # type: ignore[misc]


@pytest.mark.shared
def test_the_name_of_another_real_artist_is_refused(real: list[Any]) -> None:
    """Refuse all but a handful: namesakes, and names that the facts state too, are not to be distinguished."""
    others = {one.artist_id: other.artist_name for one, other in zip(real, real[20_000:] + real[:20_000], strict=True)}
    wrong = refused(real, lambda one: templated(one, others[one.artist_id]))
    print(f"another's name is refused for {len(wrong)} of {len(real)}")
    assert len(wrong) >= len(real) - 40


@pytest.mark.shared
def test_the_bios_of_the_earlier_run_are_accepted(real: list[Any]) -> None:
    by_id = {one.artist_id: one for one in real}
    done = (
        duckdb.connect().execute(f"SELECT artist_id, bio FROM '{SHARED / 'artists' / 'done_8180.parquet'}'").fetchall()
    )
    passed = sum(job.accept(by_id[artist_id], bio(text)) is None for artist_id, text in done)
    print(f"{passed} of {len(done)} earlier bios are accepted")
    assert passed == len(done) == 8_180
