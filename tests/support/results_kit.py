"""What tests of results share: a job whose batch has ended, and whose result files can be overwritten."""

import atexit
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from batcher.config.sections import Config
from batcher.sandbox import Faults, SandboxSettings, apply_changes
from batcher.sandbox.api.batches import Batch
from tests.support.world import World, config_with, kept_open, write_table

HOURS = 3600.0
LINES = 12
Rows = list[dict[str, Any]]
NOBODY = {"custom_id": "nobody", "response": {"status_code": 200, "body": {}}, "error": None}
"""A result line of an artist that no shard has."""
Make = Callable[..., "Bench"]
"""The fixture `make`: the kind of bench, and its options."""


def patient_config(**sections: Mapping[str, object]) -> Config:
    """Return settings under which a day of waiting takes few polls."""
    patient: dict[str, Mapping[str, object]] = {
        "poll": {"interval_s": 3_600},
        "retry": {"outage": {"base_s": 600, "cap_s": 3600}},
    }
    return config_with(**{**patient, **sections})


@cache
def planned(lines: int, per_shard: int) -> Path:
    """Return a folder with a planned and released job, which tests copy."""
    folder = Path(tempfile.mkdtemp(prefix="batcher-planned-"))
    atexit.register(shutil.rmtree, folder)
    world = World(folder, config=patient_config(limits={"lines_per_shard": per_shard}))
    world.plan(write_table(folder / "artists.csv", lines, priorities=(1,)))
    world.release()
    shutil.rmtree(folder / "sandbox")
    return folder


class Bench:
    """A world with one batch that has ended, whose result files can be overwritten before they are ingested."""

    def __init__(
        self, folder: Path, lines: int = LINES, config: Config | None = None, per_shard: int = 1000, **faults: object
    ) -> None:
        shutil.copytree(planned(lines, per_shard), folder, dirs_exist_ok=True)
        settings = apply_changes(SandboxSettings(), {"faults": apply_changes(Faults(), faults)})
        self.world = World(folder, settings, config or patient_config())
        self.open()
        self.lines = lines
        self.batch = self.run_batch()

    def open(self) -> None:
        """Open the state and keep it open."""
        self.kept = ExitStack()
        self.anchor = self.kept.enter_context(kept_open(self.world.store))

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the state open for the length of the block."""
        self.open()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Close the state."""
        self.kept.close()

    def run_batch(self) -> Batch:
        """Send the shards that can be sent, and move the clock until the service has ended their batches."""
        self.world.act(once=True)
        self.world.clock.sleep(3 * HOURS)
        self.world.sandbox.run_due_events()
        return list(self.world.sandbox.lifecycle.batches.values())[-1]

    def read(self, kind: str = "output") -> Rows:
        return [orjson.loads(line) for line in self.read_bytes(kind).split(b"\n") if line]

    def read_bytes(self, kind: str = "output") -> bytes:
        """Return a result file as it is, without any bytes where there is none."""
        file_id = self.file_id(kind)
        return self.world.sandbox.files._files[file_id].path.read_bytes() if file_id else b""

    def file_id(self, kind: str) -> str | None:
        return self.batch.output_file_id if kind == "output" else self.batch.error_file_id

    def write(self, rows: Sequence[object], kind: str = "output") -> None:
        """Replace the lines of a result file by others: objects, or bytes that are written unchanged."""
        self.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows), kind)

    def write_bytes(self, data: bytes, kind: str = "output") -> None:
        files = self.world.sandbox.files
        if self.file_id(kind) is None:
            part = self.world.folder / "part"
            part.write_bytes(b"")
            stored = files.add(part, f"{self.batch.id}_{kind}.jsonl", "batch_output", self.world.clock())
            setattr(self.batch, f"{kind}_file_id", stored.id)
        file_id = self.file_id(kind)
        assert file_id is not None
        files._files[file_id].path.write_bytes(data)
        files._files[file_id].bytes = len(data)

    def fail_first(self, bad: int, status: int, code: str, kind: str = "") -> None:
        """Make the first `bad` lines fail."""
        rows = self.read()
        self.write(rows[bad:])
        self.write([failed(row, status, code, kind) for row in rows[:bad]], "error")
        self.batch.completed, self.batch.failed = len(rows) - bad, bad

    def act(self, once: bool = True) -> object:
        ended = self.world.act(once)
        self.check_conservation()
        return ended

    def act_later(self) -> object:
        """Act after the pause that follows incomplete results."""
        self.world.clock.sleep(HOURS)
        return self.act()

    def check_conservation(self, texts: bool = True) -> None:
        states = self.world.states()
        assert sum(states.values()) == self.lines
        assert states.get("done", 0) == self.count("bios")
        shown = self.world.rows(
            "SELECT a.artist_id, attempts, (SELECT count(*) FROM attempts AS t WHERE t.artist_id = a.artist_id "
            "AND t.counted) FROM artists AS a"
        )
        assert all(attempts == counted for _, attempts, counted in shown)
        for artist_id, data in self.world.rows("SELECT artist_id, data FROM bios") if texts else ():
            assert f"Artist Number {int(str(artist_id)[1:])}" in str(data)

    def count(self, table: str, where: str = "true") -> int:
        return int(str(self.world.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]))

    def outcomes(self) -> Mapping[str, int]:
        return Counter(str(row[0]) for row in self.world.rows("SELECT outcome FROM attempts"))

    def events(self, kind: str) -> list[str]:
        return [str(row[0]) for row in self.world.rows(f"SELECT detail FROM events WHERE kind = '{kind}'")]

    def odd(self) -> str:
        return "; ".join(self.events("odd_results"))


def failed(row: Mapping[str, Any], status: int, code: str, kind: str = "", message: str = "no") -> dict[str, Any]:
    """Return the result line of an artist whose request failed with an HTTP error."""
    error = {"message": message, "type": kind or code, "param": None, "code": code}
    response = {"status_code": status, "request_id": "0" * 32, "body": {"error": error}}
    return {**row, "response": response, "error": None}


def with_text(row: Mapping[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return the result line with the JSON text of its answer changed."""
    changed: dict[str, Any] = orjson.loads(orjson.dumps(row))
    message = changed["response"]["body"]["choices"][0]["message"]
    content = orjson.loads(message["content"])
    change(content)
    message["content"] = orjson.dumps(content).decode()
    return changed
