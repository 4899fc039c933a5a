"""The floor of ingesting and collecting: what the work costs without Batcher, in one process.

Parsing each line and the answer within it, appending a row a line to DuckDB, and writing them as one Parquet file.
Run as `python -m benchmarks.floor_results ANSWERS FOLDER`; prints seconds by step.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import orjson

COLUMNS = (
    "custom_id VARCHAR, bio VARCHAR, summary VARCHAR, sparse BOOLEAN, model VARCHAR, finish_reason VARCHAR, "
    "tokens_input INTEGER, tokens_output INTEGER, completed_at DOUBLE"
)
ROWS = 5_000


def main(answers: Path, folder: Path) -> None:
    """Run the steps, and time each."""
    marks = [("start", time.perf_counter())]
    with duckdb.connect(str(folder / "floor.duckdb")) as con:
        con.execute(f"CREATE TABLE results ({COLUMNS})")
        appender = con.appender("results")
        rows = _rows(answers)
        while chunk := list(itertools.islice(rows, ROWS)):
            appender.append_rows(chunk)
        appender.flush()
        marks.append(("parse and append", time.perf_counter()))
        con.execute(f"COPY results TO '{folder / 'floor.parquet'}' (FORMAT parquet, COMPRESSION zstd)")
    marks.append(("parquet", time.perf_counter()))
    print(json.dumps({b[0]: b[1] - a[1] for a, b in itertools.pairwise(marks)}))


def _rows(answers: Path) -> Iterator[tuple[object, ...]]:
    for path in sorted(answers.glob("*.jsonl")):
        with path.open("rb") as file:
            for raw in file:
                line = orjson.loads(raw)
                body = line["response"]["body"]
                choice, usage = body["choices"][0], body["usage"]
                bio = orjson.loads(choice["message"]["content"])
                yield (
                    line["custom_id"], bio["bio"], bio["summary"], bio["sparse"], body["model"],
                    choice["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"], body["created"],
                )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
