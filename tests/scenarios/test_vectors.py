"""Vectors of one prompt have one length: known before, or that of the first one, in both lanes and at a judgement."""

from pathlib import Path
from typing import Any

import pytest

from batcher.job.loading import load_job
from batcher.review.judging import judge_again
from batcher.sandbox import SandboxSettings
from batcher.state.bios import load_vector_length
from batcher.state.versions import load_version
from tests.support.direct_kit import Desk, settings_of
from tests.support.job_kit import TEXT_JOB, write_small_job

LINES = 12
OWN = "own-embedder"
"""A model whose vectors have a length that is not known before."""


def desk_of(folder: Path, model: str, **parameters: object) -> Desk:
    """Return a planned job of vectors by this model: three shards, of which the first is released."""
    asked: dict[str, Any] = {"name": model, "endpoint": "/v1/embeddings", "max_output_tokens": None}
    config = settings_of(
        model={**asked, "parameters": parameters},
        limits={"enqueued_tokens": 1_000_000, "lines_per_shard": 4},
        retry={"unusable": {"tries": 0}},
    )
    settings = SandboxSettings(limits={OWN: 1_000_000})
    desk = Desk(folder, settings, config)
    job = write_small_job(folder, TEXT_JOB, system=None)
    desk.job = load_job(job, config.model.endpoint)
    table = folder / "artists.csv"
    table.write_text("artist_id,artist_name\n" + "".join(f"a{n:02},Artist {n}\n" for n in range(LINES)))
    desk.plan(table)
    desk.release(1)
    return desk


def reasons(desk: Desk) -> list[tuple[object, ...]]:
    return desk.rows("SELECT DISTINCT lane, code, message FROM attempts WHERE outcome <> 'bio' ORDER BY lane")


@pytest.mark.parametrize(
    ("model", "parameters", "length"),
    [
        (OWN, {}, 1_536),
        (OWN, {"dimensions": 10}, 10),
        ("text-embedding-3-large", {}, 3_072),
        ("text-embedding-3-large", {"dimensions": 10}, 10),
    ],
)
def test_a_vector_of_another_length_is_refused_in_either_lane(
    tmp_path: Path, model: str, parameters: dict[str, object], length: int
) -> None:
    desk = desk_of(tmp_path, model, **parameters)
    desk.act()
    assert desk.states() == {"done": 4, "ready": 8}
    assert desk.rows("SELECT DISTINCT json_array_length(data, '$.embedding') FROM bios") == [(length,)]
    with desk.store.read_transaction() as tx:
        known = load_vector_length(tx, 1, load_version(tx, 1).version)
        assert known is not None and not known.find_fault(length) and known.find_fault(length + 1)

    desk.sandbox.update_faults({"line_failures": {"invalid_json": 1.0}})  # of half the length
    desk.release(1)
    desk.act()
    desk.direct(unreleased=True)
    reason = f"the vector has {length // 2:,} numbers, where {length:,} are expected"
    assert reasons(desk) == [("batch", "invalid_output", reason), ("direct", "invalid_output", reason)]
    made = judge_again(desk.store, desk.job, revoke=True, dry_run=False, progress=lambda _: None)
    assert (made.accepted, made.revoked, made.judged) == (0, 0, LINES)
    assert desk.states() == {"done": 4, "dead": 8}


def test_the_first_vector_of_a_model_that_is_not_known_says_how_long_they_are(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, OWN)
    desk.sandbox.update_faults({"line_failures": {"invalid_json": 1.0}})
    desk.act()
    assert desk.rows("SELECT DISTINCT json_array_length(data, '$.embedding') FROM bios") == [(768,)]
