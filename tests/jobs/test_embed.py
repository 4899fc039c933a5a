"""The example of vectors: names of its own, every row planned as one text, and the vectors that it refuses."""

from pathlib import Path

import orjson
import pytest

from batcher.config.loading import load_config
from batcher.core.endpoints.table import AnswerKind
from batcher.core.model import Endpoint, RowColumns
from batcher.job.loading import load_job
from batcher.job.schema import output_column_types
from tests.support.world import ROOT, World

FOLDER = ROOT / "jobs" / "embed"


def test_every_article_is_planned_as_one_text(tmp_path: Path) -> None:
    config = load_config(FOLDER / "batcher.toml")
    world = World(tmp_path)
    world.config = world.config.model_copy(update={"model": config.model})
    world.job = load_job(config.job.path, config.model.endpoint)
    assert (world.job.answers, output_column_types(world.job)) == (AnswerKind.VECTOR, {"embedding": "FLOAT[]"})
    assert world.job.row_columns == RowColumns("article_id", "title", None)
    world.plan(config.job.input)
    assert world.rows("SELECT count(*), min(artist_id), sum(tokens) > 800 FROM artists") == [(40, "101", True)]
    (shard,) = tmp_path.rglob("*.jsonl")
    line = orjson.loads(shard.read_bytes().splitlines()[0])
    assert line["url"] == "/v1/embeddings"
    assert line["body"].keys() == {"model", "input", "encoding_format", "dimensions"}
    assert line["body"]["input"].startswith("Mend a flat tyre\n\nTake the wheel out")


@pytest.mark.parametrize(
    ("vector", "reason"), [([0.6, 0.8], None), ([1], None), ([0.6, 0.6], "the vector has length 0.849, not 1")]
)
def test_vectors_are_checked(vector: list[float], reason: str | None) -> None:
    job = load_job(FOLDER, Endpoint.EMBEDDINGS)
    row = job.parse_artist_row({"article_id": 1, "title": "Ice", "body": "Hold the bar."}, "row 2")
    data, failure = job.validate_answer(row, orjson.dumps(vector).decode())
    assert (failure and failure.message) == reason
    assert data == (None if reason else f'{{"embedding":{orjson.dumps(vector).decode()}}}')
