"""`batcher demo`: the whole job with the real commands, against the local Batch API."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from batcher.commands.tools.sandbox import require_sandbox
from batcher.config import load_config
from batcher.errors import BatcherError, ExitCode
from batcher.views.progress import CleanConsole

DEMO_LINES = 3
"""Bios that are shown at the end."""
DEMO_FAULTS = {"server": 0.02, "rate_limit": 0.02, "invalid_json": 0.01, "content_policy": 0.005}
"""The shares of the lines that fail, by the kind of failure."""


def run_demo(config: Path, input: Path | None, speed: float, svg: Path | None) -> None:
    """Run plan, submit, poll and collect as a user would, over HTTP, in a temporary folder.

    svg: save what was printed as a picture. Raises SetupError without the sandbox's libraries.
    """
    require_sandbox()
    from batcher.sandbox import Faults, Sandbox, SandboxSettings, scaled_clock
    from batcher.sandbox.web.server import running_sandbox

    job = load_config(config).job
    with tempfile.TemporaryDirectory(prefix="batcher-demo-") as scratch:
        folder = Path(scratch)
        settings = SandboxSettings(seed=1, speed=speed, faults=Faults(line_failures=DEMO_FAULTS))
        sandbox = Sandbox(settings, folder / "sandbox", scaled_clock(speed))
        console = CleanConsole(record=svg is not None, width=100 if svg else None)
        with running_sandbox(sandbox) as url:
            demo = Demo(console, folder, _build_environment(job.path, input or job.input, url, folder))
            demo.print_note(
                f"The job {job.path.name} against a local Batch API at {url}; a second counts as {speed:,.0f}."
            )
            demo.run_commands()
        if svg is not None:
            console.save_svg(str(svg), title="batcher demo")


def _build_environment(job: Path, table: Path, url: str, folder: Path) -> dict[str, str]:
    """Return the settings of the demo: the clock of the sandbox is fast, so delays are short."""
    return {
        **os.environ,
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": "sandbox",
        "BATCHER_JOB__PATH": str(job.resolve()),
        "BATCHER_JOB__INPUT": str(table.resolve()),
        "BATCHER_STATE__DIR": str(folder / "state"),
        "BATCHER_POLL__INTERVAL_S": "0.5",
        "BATCHER_API__RECONCILE_GRACE_S": "1",
        "BATCHER_RETRY__RATE_LIMIT__BASE_S": "1",
    }


class Demo:
    """The four commands, one after the other."""

    def __init__(self, console: CleanConsole, folder: Path, environment: Mapping[str, str]) -> None:
        self._console, self._folder, self._environment = console, folder, environment
        (folder / "batcher.toml").write_text("# The demo sets everything in its environment.\n", encoding="utf-8")

    def print_note(self, text: str) -> None:
        """Print a line that no command has printed."""
        self._console.print(Text(text, style="dim"))

    def run_commands(self) -> None:
        """Run them and print the first bios."""
        began = time.monotonic()
        out = self._folder / "bios.parquet"
        self._run_command("plan")
        self._run_command("submit", "--shards", "10")
        self._run_command("poll")
        self._run_command("collect", "--out", out.name, "--failed", "failed.parquet")
        self._print_first_bios(out)
        self.print_note(f"{time.monotonic() - began:.0f} s in all. Nothing left this machine, and nothing was paid.")

    def _run_command(self, *arguments: str) -> None:
        self._console.print(Text(f"\n$ batcher {' '.join(arguments)}", style="bold"))
        command = [sys.executable, "-m", "batcher", *arguments]
        done = subprocess.run(  # noqa: S603 - our own command with our own arguments
            command, cwd=self._folder, env=dict(self._environment), stdout=subprocess.PIPE, text=True, check=False
        )
        self._console.print(Text(done.stdout.rstrip()))
        if done.returncode not in {ExitCode.DONE, ExitCode.DEAD_LINES}:
            raise BatcherError(f"the demo's `batcher {arguments[0]}` ended with {done.returncode}")

    def _print_first_bios(self, path: Path) -> None:
        import duckdb

        rows = duckdb.execute(
            "SELECT artist_name, bio FROM read_parquet(?) LIMIT ?", [str(path), DEMO_LINES]
        ).fetchall()
        self.print_note("\nThe first bios:")
        for name, bio in rows:
            self._console.print(Text(f"{name}: ", style="bold") + Text(bio))
