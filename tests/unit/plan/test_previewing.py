"""Which rows are looked at, and which columns no row of a job reads."""

from pathlib import Path

import duckdb
import pytest

from batcher.plan.previewing import find_similar_ids, spread_ranks
from batcher.plan.rows import find_unused_columns
from batcher.plan.tables import NAMED_ROWS, read_column_names
from tests.support.planner_kit import JOB, Desk


@pytest.mark.parametrize(
    ("total", "count", "ranks"),
    [(0, 3, []), (1, 1, [1]), (1, 5, [1]), (9, 1, [5]), (9, 2, [1, 9]), (9, 3, [1, 5, 9]), (3, 9, [1, 2, 3])],
)
def test_ranks_are_spread_from_the_first_to_the_last(total: int, count: int, ranks: list[int]) -> None:
    assert spread_ranks(total, count) == ranks


def test_the_columns_of_a_table_are_read_in_every_format(desk: Desk) -> None:
    assert read_column_names(desk.table("b,a\n1,2\n")) == ["b", "a"]
    assert read_column_names(desk.table("b,a\n1\n", "short.csv")) == []  # a broken first row, which plan refuses
    rows = ['{"b": 1}', '{"a": 1, "b": 2}', *['{"b": 1}'] * NAMED_ROWS, '{"late": 1}']
    assert read_column_names(desk.table("\n".join(rows), "t.jsonl")) == ["b", "a"]
    path = desk.folder / "t.parquet"
    duckdb.execute(f"COPY (SELECT 1 AS b, 2 AS \"a 'quoted'\" LIMIT 0) TO '{path}'")
    assert read_column_names(path) == ["b", "a 'quoted'"]


def test_columns_are_unused_where_artist_reads_none_of_that_name(desk: Desk) -> None:
    table = desk.table("artist_id,artist_name,body,fact\na,Ana,text,born\n")
    assert find_unused_columns(table, desk.world.job) == ["body"]


def test_no_column_is_called_unused_where_the_job_may_read_any(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.support.planner_kit.JOB",
        JOB.replace("class Artist(BaseModel):", 'class Artist(BaseModel, extra="allow"):'),
    )
    desk.write_job()
    assert find_unused_columns(desk.table("artist_id,artist_name,body\na,Ana,text\n"), desk.world.job) == []


def test_ids_like_a_text_hold_it_or_are_spelt_much_like_it(desk: Desk, tmp_path: Path) -> None:
    table = desk.table("artist_id,artist_name\nhokusai-k,Katsushika Hokusai\nx,Hiroshige\n")
    assert [row.artist_id for row in find_similar_ids(table, desk.world.job, "HOKUSAI")] == ["hokusai-k"]
    assert [row.artist_id for row in find_similar_ids(table, desk.world.job, "hokusia")] == ["hokusai-k"]
    assert find_similar_ids(table, desk.world.job, "zzz") == []
