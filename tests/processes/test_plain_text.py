"""A job whose answers are plain text, through every command that shows or judges answers, at both endpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.job_kit import MESSAGES_JOB, TEXT_JOB
from tests.support.shop import Shop, answer, open_small_shop, run

LINES = 6


@pytest.fixture(params=["/v1/chat/completions", "/v1/responses"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Yield a shop of three shards of two lines, whose job has no output model."""
    with open_small_shop(tmp_path, LINES, per_shard=2) as made:
        job = made.folder / "jobs" / "bios"
        (job / "job.py").write_text(TEXT_JOB, encoding="utf-8")
        (job / "user.md").write_text("Artist: {artist_name}", encoding="utf-8")
        made.environment["BATCHER_MODEL__ENDPOINT"] = request.param
        yield made


def test_plain_text_from_the_pilot_to_the_file(shop: Shop) -> None:
    line = answer(shop, "preview --sample 1")["artists"][0]["request"]
    assert not {"response_format", "text"} & line["body"].keys()
    assert "[answer: plain text]" in run(shop, "preview --sample 1")[0]

    run(shop, "plan")
    pilot = answer(shop, "pilot --lines 1")
    assert all(each["bio"]["text"].startswith("Sandbox text on") for each in pilot["samples"])
    assert "Sandbox text on" in run(shop, "pilot --lines 1")[0]
    answer(shop, "direct --unreleased --limit 2", 3)
    run(shop, "run --out texts.parquet --report report.html")

    rows = shop.query("SELECT artist_id, artist_name, text, lane FROM 'texts.parquet'")
    assert len(rows) == LINES
    assert all(str(name) in str(text) and not str(text).startswith("{") for _, name, text, _ in rows)
    assert [lane for *_, lane in rows].count("direct") == 2
    found = {str(key): str(text) for key, _, text, _ in rows}
    first = min(found)
    assert found[first] in " ".join(run(shop, f"show {first}")[0].split())
    assert found[first] in " ".join(run(shop, f"answers {first}")[0].split())
    assert found[first] in (shop.folder / "report.html").read_text(encoding="utf-8")
    texts = answer(shop, ["sql", "SELECT artist_id, data->>'$.text' AS text FROM bios"])["rows"]
    assert dict(texts) == found


def test_plain_text_is_judged_again_and_asked_for_again(shop: Shop) -> None:
    run(shop, "run --out texts.parquet")
    job = shop.folder / "jobs" / "bios" / "job.py"
    names = sorted(str(name) for (name,) in shop.query("SELECT artist_name FROM 'texts.parquet'"))
    check = f"\n\ndef accept(artist, text):\n    return 'no' if {names[0]!r} in text else None\n"
    job.write_text(TEXT_JOB + check, encoding="utf-8")
    assert answer(shop, "judge --dry-run")["refused"]["bios"] == 1
    assert answer(shop, ["redo", "--where", f"text LIKE '%{names[1]}%'", "--yes"])["lines"] == 1

    model = "\n\nclass Bio(BaseModel):\n    bio: str\n\n\ndef accept(artist, bio):\n    return None\n"
    job.write_text(TEXT_JOB + model, encoding="utf-8")
    changed = answer(shop, "versions 1")["diff"].splitlines()
    assert "-# plain text" in changed
    assert "+# schema bio" in changed


def test_messages_of_the_job_are_sent_and_rendered_again(shop: Shop) -> None:
    job = shop.folder / "jobs" / "bios"
    (job / "job.py").write_text(MESSAGES_JOB, encoding="utf-8")
    answer(shop, "plan", 2)  # user.md has no use beside them
    (job / "user.md").unlink()
    place = "input" if shop.environment["BATCHER_MODEL__ENDPOINT"] == "/v1/responses" else "messages"
    if place == "input":
        source = MESSAGES_JOB.replace('"type": "text"', '"type": "input_text"')
        assert "row 2: messages gives part 1 of type 'text' in message 3" in answer(shop, "plan", 2)["error"]
        (job / "job.py").write_text(source, encoding="utf-8")
    line = answer(shop, "preview --sample 1")["artists"][0]
    roles = [message["role"] for message in line["request"]["body"][place]]
    assert roles == ["system", "user", "assistant", "user"]
    assert "[assistant]\nBea painted.\n" in run(shop, "preview --sample 1")[0]

    run(shop, "plan")
    answer(shop, "direct --unreleased --limit 2", 3)  # renders its lines again from the rows
    run(shop, "run --out texts.parquet")
    rows = shop.query("SELECT artist_name, text, lane FROM 'texts.parquet'")
    assert len(rows) == LINES
    assert all(str(name) in str(text) for name, text, _ in rows)
    first = shop.query("SELECT artist_id FROM 'texts.parquet' LIMIT 1")[0][0]
    assert answer(shop, f"redo --artist {first} --yes")["lines"] == 1
    run(shop, "run --out texts.parquet")  # in a retry shard, whose line is rendered again
    assert answer(shop, ["sql", f"SELECT count(*) FROM attempts WHERE artist_id = '{first}'"])["rows"] == [[2]]
