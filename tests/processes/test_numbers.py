"""Jobs whose answers are numbers, through the real commands over HTTP: vectors of texts, and judgements of them."""

import csv
import json
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from batcher.sandbox import Faults, Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.answers.numbers import make_vector
from batcher.sandbox.web.server import running_sandbox
from tests.support.shop import DEMO_SETTINGS, Shop, answer, run

JOB = """\
from pydantic import BaseModel

NOUNS = ("text", "vector")
ID = "text_id"


class Row(BaseModel):
    text_id: str
    body: str
"""
EMBEDDINGS = 'name = "text-embedding-3-small"\nendpoint = "/v1/embeddings"\n'
MODERATIONS = 'name = "omni-moderation-latest"\nendpoint = "/v1/moderations"\n'
LENGTH = 64


def read_vector(value: object) -> "array[float]":
    """Return a list of a table as 32-bit numbers."""
    assert isinstance(value, list)
    return array("f", value)


def write_job(folder: Path, texts: Sequence[str], model: str, more: str = "") -> None:
    """Write a job of these texts: a table, a row, and the text itself as what is asked."""
    (folder / "job").mkdir(parents=True)
    (folder / "job" / "job.py").write_text(JOB, encoding="utf-8")
    (folder / "job" / "user.md").write_text("{body}", encoding="utf-8")
    with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text_id", "body"])
        rows.writerows((f"t{n:05}", text) for n, text in enumerate(texts))
    settings = f'[job]\npath = "job"\ninput = "texts.csv"\n[model]\n{model}{more}{DEMO_SETTINGS}'
    (folder / "batcher.toml").write_text(settings, encoding="utf-8")


@contextmanager
def open_text_shop(
    base: Path, texts: Sequence[str], model: str, more: str = "", faults: Faults | None = None
) -> Iterator[Shop]:
    """Yield a folder with such a job, and a sandbox that runs an hour in a second."""
    write_job(base / "shop", texts, model, more)
    settings = SandboxSettings(service_s=(200, 600), faults=faults or Faults())
    sandbox = Sandbox(settings, base / "sandbox", scaled_clock(3600))
    with running_sandbox(sandbox) as url:
        yield Shop(base / "shop", sandbox, url)


@pytest.mark.parametrize("rows", [300, pytest.param(5_000, marks=pytest.mark.soak)])
def test_texts_become_vectors_in_a_file(tmp_path: Path, rows: int) -> None:
    texts = [f"Text {n} about {'bread' if n % 3 else 'water'}, 日本語 {n * 7}" for n in range(rows)]
    faults = Faults(line_failures={"server": 0.02, "invalid_json": 0.02, "empty": 0.01})
    limits = f"[limits]\nlines_per_shard = {rows // 3}\n"
    with open_text_shop(tmp_path, texts, EMBEDDINGS, limits, faults) as shop:
        planned = answer(shop, "plan")
        assert planned["lines_planned"] == rows
        run(shop, "run --out vectors.parquet")
        found = shop.query(
            "SELECT text_id, typeof(embedding), embedding, tokens_output, cost_usd FROM 'vectors.parquet'"
        )
        assert {kind for _, kind, *_ in found} == {"FLOAT[]"}
        by_id = {str(key): vector for key, _, vector, *_ in found}
        assert len(by_id) == rows
        for n, text in enumerate(texts):
            assert read_vector(by_id[f"t{n:05}"]) == make_vector(text, 1_536)
        assert all(tokens == 0 and cost > 0 for *_, tokens, cost in found)  # type: ignore[operator]
        billed = shop.sandbox.ledger.billed_usd
        status = answer(shop, "status")
        assert status["costs"]["spent"] == pytest.approx(billed, abs=2e-6)


def test_a_vector_is_shown_judged_and_asked_for_again(tmp_path: Path) -> None:
    texts = ["First of all", "Second to none", "Third time", "Fourth wall", "Fifth wheel", "Sixth sense"]
    parameters = f"parameters = {{ dimensions = {LENGTH} }}\n"
    with open_text_shop(tmp_path, texts, EMBEDDINGS, parameters) as shop:
        shown = run(shop, "preview --sample 1")[0]
        assert "[answer: a vector]" in shown and "[input]\n" in shown and "encoding_format: base64" in shown
        body = answer(shop, "preview --sample 1")["artists"][0]["request"]["body"]
        assert body.keys() == {"model", "input", "encoding_format", "dimensions"} and body["input"] in texts

        run(shop, "plan")
        assert answer(shop, "pilot --lines 1")["judged"] == 1
        assert f"({LENGTH} numbers)" in run(shop, "pilot --lines 1")[0]
        answer(shop, "direct --unreleased --limit 2", 3)
        run(shop, "run --out vectors.parquet --report report.html")
        found = {str(key): vector for key, vector in shop.query("SELECT text_id, embedding FROM 'vectors.parquet'")}
        assert [read_vector(found[f"t{n:05}"]) for n in range(6)] == [make_vector(each, LENGTH) for each in texts]
        lanes = [lane for (lane,) in shop.query("SELECT lane FROM 'vectors.parquet'")]
        assert lanes.count("direct") == 2

        assert f", ...] ({LENGTH} numbers)" in run(shop, "show t00003")[0]
        assert json.loads(answer(shop, "answers t00003")["answers"][0]["text"])[0] == pytest.approx(
            read_vector(found["t00003"])[0]
        )
        for name in ("vectors.csv", "vectors.jsonl"):
            run(shop, f"collect --out {name}")
        with (shop.folder / "vectors.csv").open(encoding="utf-8", newline="") as file:
            written = {row["text_id"]: json.loads(row["embedding"]) for row in csv.DictReader(file)}
        assert {key: read_vector(vector) for key, vector in written.items()} == {
            key: read_vector(vector) for key, vector in found.items()
        }
        first = json.loads((shop.folder / "vectors.jsonl").read_text(encoding="utf-8").splitlines()[0])
        assert read_vector(first["embedding"]) == read_vector(found[first["text_id"]])

        job = shop.folder / "job" / "job.py"
        check = (
            '\n\ndef accept(row, vector):\n    return "no" if row.text_id == "t00001" and len(vector) == 64 else None\n'
        )
        job.write_text(JOB + check, encoding="utf-8")
        assert answer(shop, "judge --dry-run")["refused"]["bios"] == 1
        assert answer(shop, "redo --row t00002 --yes")["lines"] == 1
        run(shop, "run --out vectors.parquet")
        assert answer(shop, ["sql", "SELECT count(*) FROM attempts WHERE artist_id = 't00002'"])["rows"] == [[2]]

    again = tmp_path / "again"  # the file is a table of vectors that exist
    with open_text_shop(again, [*texts, "Seventh heaven"], EMBEDDINGS, parameters) as shop:
        (shop.folder / "done.parquet").write_bytes((tmp_path / "shop" / "vectors.parquet").read_bytes())
        assert answer(shop, "plan --done done.parquet")["lines_planned"] == 1
        run(shop, "run --out vectors.parquet")
        kept = {str(key): vector for key, vector in shop.query("SELECT text_id, embedding FROM 'vectors.parquet'")}
        assert read_vector(kept["t00004"]) == read_vector(found["t00004"]) and len(kept) == 7


def test_texts_are_judged_by_category_at_no_cost(tmp_path: Path) -> None:
    texts = [f"A text about {'violence and hate' if n % 10 == 0 else 'gardens'}, number {n}" for n in range(100)]
    limits = "[limits]\nenqueued_tokens = 1_000_000\nlines_per_shard = 40\n[budget]\nmax_usd = 1\n"
    faults = Faults(line_failures={"invalid_json": 0.05})
    with open_text_shop(tmp_path, texts, MODERATIONS, limits, faults) as shop:
        assert "[answer: flags and scores by category]" in run(shop, "preview --sample 1")[0]
        run(shop, "plan")
        answer(shop, "direct --unreleased --limit 5", 3)
        run(shop, "run --out flags.parquet")
        counts = shop.query(
            "SELECT count(*), count(*) FILTER (flagged), count(*) FILTER (violence AND hate), "
            "count(*) FILTER (sexual), bool_and((violence_score >= 0.8) = violence), any_value(typeof(flagged)), "
            "any_value(typeof(self_harm_intent_score)), sum(cost_usd) FROM 'flags.parquet'"
        )
        assert counts == [(100, 10, 10, 0, True, "BOOLEAN", "DOUBLE", 0.0)]
        flagged = shop.query("SELECT text_id FROM 'flags.parquet' WHERE flagged ORDER BY text_id")
        assert [key for (key,) in flagged] == [f"t{n:05}" for n in range(0, 100, 10)]
        assert '"flagged":true' in run(shop, "show t00010")[0].replace("\n", "").replace(" ", "")
        assert answer(shop, ["redo", "--where", "hate_score > 0.5", "--yes"])["lines"] == 10
        assert answer(shop, "status")["costs"]["spent"] == 0


def test_four_commands_make_vectors_of_a_table(tmp_path: Path) -> None:
    with open_text_shop(tmp_path, ["unused"], EMBEDDINGS) as shop:
        rows = "".join(f"{n},Title {n},Text {n}\n" for n in range(30))
        (shop.folder / "songs.csv").write_text(f"song_id,title,lyrics\n{rows}", encoding="utf-8")
        told = run(shop, "init --endpoint embeddings --folder new songs.csv")[0]
        assert "song_id is the id" in told and "system.md" not in told
        settings = ["--config", "new/batcher.toml"]
        assert "[answer: a vector]" in run(shop, ["preview", *settings])[0]
        assert "30 new songs" in run(shop, ["plan", *settings])[0]
        assert "30 vectors" in run(shop, ["run", "--out", "new/vectors.parquet", *settings])[0]
        found = {str(key): vector for key, vector in shop.query("SELECT song_id, embedding FROM 'new/vectors.parquet'")}
        assert read_vector(found["7"]) == make_vector("Title 7\n\nText 7", 1_536) and len(found) == 30


NO_LIMIT = "the enqueued-token limit of omni-moderation-latest at tier 3 is not known; set enqueued_tokens"
NO_USE = "no use at /v1/embeddings, which takes one text"
ANSWER = "\n\nclass Answer(BaseModel):\n    x: int\n"
MESSAGES = "\n\ndef messages(row):\n    return []\n"
UNFIT = [
    (EMBEDDINGS, "b " * 9_000, {}, "row 3 (t00001): the text is 9,001 tokens, the context of"),
    (EMBEDDINGS, "", {}, "row 3, column body is empty"),
    (MODERATIONS, "b", {}, NO_LIMIT),
    (EMBEDDINGS, "b", {"system.md": "x"}, f"system.md has {NO_USE}: that of user.md; remove it"),
    (EMBEDDINGS, "b", {"job.py": JOB + MESSAGES}, f"messages(row) of job.py has {NO_USE}: write it into user.md"),
    (
        EMBEDDINGS,
        "b",
        {"job.py": JOB + ANSWER},
        "Answer of job.py has no use at /v1/embeddings, whose answers are numbers; remove it",
    ),
]


@pytest.mark.parametrize(("model", "text", "files", "sentence"), UNFIT)
def test_what_does_not_fit_is_said_before_anything_is_sent(
    tmp_path: Path, model: str, text: str, files: dict[str, str], sentence: str
) -> None:
    with open_text_shop(tmp_path, ["a", text], model) as shop:
        for name, content in files.items():
            (shop.folder / "job" / name).write_text(content, encoding="utf-8")
        assert sentence in answer(shop, "plan", 2)["error"]
