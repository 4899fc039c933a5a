"""The floor of `plan`: what the work costs without Batcher, step by step, in one process.

Reading the table, rendering with str.join, counting with the tokenizer alone, writing and hashing the bytes, and
appending a row a line to DuckDB. Run as `python -m benchmarks.floor_plan TABLE FOLDER`; prints seconds by step.
"""

import hashlib
import itertools
import json
import sys
import time
from pathlib import Path

import duckdb
import orjson
import toktok

ROOT = Path(__file__).resolve().parents[1]
FACTS = ("nationality", "born", "died", "dates", "gender", "birth_place", "death_place", "roles", "media", "movements")


def main(table: str, folder: str) -> None:
    """Run the steps, and time each."""
    marks = [("start", time.perf_counter())]
    system = (ROOT / "jobs" / "bios" / "system.md").read_text(encoding="utf-8")
    columns = ", ".join(("artist_id", "artist_name", "priority", *FACTS))
    rows = duckdb.execute(f"SELECT {columns} FROM read_parquet(?) ORDER BY priority", [table]).fetchall()
    marks.append(("read", time.perf_counter()))
    texts = [_render(row) for row in rows]
    marks.append(("render", time.perf_counter()))
    counts = toktok.batch_count(texts, "o200k_base")
    marks.append(("count", time.perf_counter()))
    lines = [_line(row[0], text, system) for row, text in zip(rows, texts, strict=True)]
    _write(lines, Path(folder))
    marks.append(("write", time.perf_counter()))
    _append(rows, counts, Path(folder))
    marks.append(("state", time.perf_counter()))
    print(json.dumps({b[0]: b[1] - a[1] for a, b in itertools.pairwise(marks)}))


def _render(row: tuple[object, ...]) -> str:
    facts = "\n".join(f"{name}: {value}" for name, value in zip(FACTS, row[3:], strict=True) if value is not None)
    return "".join(("Artist: ", str(row[1]), "\n\nFacts:\n", facts))


def _line(line_id: object, text: str, system: str) -> bytes:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return orjson.dumps({"custom_id": line_id, "body": {"model": "gpt-6-luna", "messages": messages}}) + b"\n"


def _write(lines: list[bytes], folder: Path) -> None:
    data = b"".join(lines)
    hashlib.sha256(data).hexdigest()
    (folder / "floor.jsonl").write_bytes(data)


def _append(rows: list[tuple[object, ...]], counts: list[int], folder: Path) -> None:
    with duckdb.connect(str(folder / "floor.duckdb")) as con:
        con.execute(
            "CREATE TABLE lines (artist_id VARCHAR, name VARCHAR, priority INTEGER, data VARCHAR, tokens INTEGER)"
        )
        data = [(r[0], r[1], r[2], orjson.dumps(r[3:]).decode(), n) for r, n in zip(rows, counts, strict=True)]
        appender = con.appender("lines")
        appender.append_rows(data)
        appender.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
