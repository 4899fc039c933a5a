"""The rows to measure with: the real table where it is present, else one of its shape."""

from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "artists" / "artists.parquet"
ROWS = 42_888


def source_table(folder: Path, rows: int = ROWS) -> Path:
    """Return a Parquet table of `rows` artists: the real one, or repetitions of it or of the job's own."""
    if rows == ROWS and REAL.exists():
        return REAL
    out = folder / f"artists-{rows}.parquet"
    source = REAL if REAL.exists() else ROOT / "jobs" / "bios" / "artists.csv"
    reader = "read_parquet" if REAL.exists() else "read_csv"
    have = duckdb.execute(f"SELECT count(*) FROM {reader}(?)", [str(source)]).fetchall()[0][0]
    copies = -(-rows // have)
    duckdb.execute(
        f"COPY (SELECT * REPLACE (artist_id || '-' || copy AS artist_id) FROM {reader}('{source}'), "
        f"range({copies}) AS r(copy) ORDER BY copy LIMIT {rows}) TO '{out}' (FORMAT parquet)"
    )
    return out
