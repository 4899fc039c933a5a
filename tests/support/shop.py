"""A folder and a sandbox on the loopback interface, for the commands as a user types them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from batcher.sandbox import Faults, Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.web.server import running_sandbox
from tests.support.nursery import nursery
from tests.support.world import ROOT, write_table

KEY = "sk-this-is-a-secret-that-must-not-be-kept"
FAULTS = {"server": 0.03, "rate_limit": 0.03, "invalid_json": 0.03, "content_policy": 0.02}
DEMO_SETTINGS = """
[poll]
interval_s = 0.2
[brake]
first_wave = 1
[api]
reconcile_grace_s = 0.5
[retry]
rate_limit = {base_s = 0.2, cap_s = 1}
enqueued_limit = {base_s = 0.2, cap_s = 1}
"""


class Shop:
    """A folder with only batcher.toml and jobs/, and a sandbox to speak to."""

    def __init__(self, folder: Path, sandbox: Sandbox, url: str) -> None:
        self.folder, self.sandbox = folder, sandbox
        self.environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line in a shell, as a user would."""
        return subprocess.run(
            line, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Run a query on files in the folder."""
        with duckdb.connect() as con:
            con.execute(f"SET file_search_path = '{self.folder}'")
            return con.execute(sql).fetchall()


@contextmanager
def open_shop(base: Path) -> Iterator[Shop]:
    """Yield a shop whose sandbox runs an hour in two seconds and fails some lines; a batch takes some minutes."""
    folder = base / "shop"
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    (folder / "batcher.toml").write_text(DEMO_SETTINGS, encoding="utf-8")
    settings = SandboxSettings(seed=3, service_s=(200, 600), faults=Faults(line_failures=FAULTS))
    sandbox = Sandbox(settings, base / "sandbox", scaled_clock(1800))
    with running_sandbox(sandbox) as url:
        yield Shop(folder, sandbox, url)


@contextmanager
def open_small_shop(base: Path, lines: int, per_shard: int, speed: float = 3600) -> Iterator[Shop]:
    """Yield a shop of `lines` artists of two priorities. speed: seconds of its sandbox in one second."""
    folder = base / "shop"
    shutil.copytree(ROOT / "jobs" / "bios", folder / "jobs" / "bios")
    write_table(folder / "artists.csv", lines, priorities=(1, 2))
    settings = f'[job]\ninput = "artists.csv"\n[limits]\nlines_per_shard = {per_shard}\n'
    (folder / "batcher.toml").write_text(settings + DEMO_SETTINGS, encoding="utf-8")
    sandbox = Sandbox(SandboxSettings(service_s=(200, 600)), base / "sandbox", scaled_clock(speed))
    with running_sandbox(sandbox) as url:
        yield Shop(folder, sandbox, url)


def run(
    shop: Shop, line: str | Sequence[str], code: int = 0, environment: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Run a command in a process of its own; return what it wrote on stdout and on stderr."""
    words = line.split() if isinstance(line, str) else line
    out, err = shop.folder.parent / "out", shop.folder.parent / "err"
    out.unlink(missing_ok=True)
    err.unlink(missing_ok=True)
    ended = nursery().run(words, shop.folder, {**shop.environment, **(environment or {})}, out, err)
    told = err.read_text(encoding="utf-8")
    assert (ended, "Traceback" in told) == (code, False), told
    return out.read_text(encoding="utf-8"), told


def answer(
    shop: Shop, line: str | Sequence[str], code: int = 0, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a command with --json; return its answer."""
    words = line.split() if isinstance(line, str) else line
    told = run(shop, [*words, "--json"], code, environment)[0]
    found: dict[str, Any] = json.loads(told.splitlines()[-1])  # before it there may be events
    return found
