"""`batcher demo`: the whole job with the real commands, against the local Batch API."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import orjson
from rich.text import Text

from batcher.commands.tools.sandbox import require_sandbox
from batcher.config.loading import load_config
from batcher.config.sections import ModelSection
from batcher.core.model import EMBEDDING_FIELD
from batcher.errors import BatcherError, ExitCode, InputError
from batcher.job.loading import load_job
from batcher.job.schema import output_column_types
from batcher.nouns import current_nouns, find_nouns, set_nouns
from batcher.views.answers import shorten_vector
from batcher.views.progress import CleanConsole

DEMO_LINES = 3
"""Bios that are shown at the end."""
DEMO_FAULTS = {"server": 0.02, "rate_limit": 0.02, "invalid_json": 0.01, "content_policy": 0.005}
"""The shares of the lines that fail, by the kind of failure."""
MARK = "# Written by `batcher demo`; the next one writes this folder anew."
"""The first line of the settings in a folder of the demo, by which a later demo knows it."""
PICTURE_COLUMNS = 114
"""The width of the picture; with the lines that it has, it is about as wide as high."""
FAILED = "failed.parquet"
"""Where the demo's `collect` writes what has no answer; the file of the answers is called as the job calls these."""
REPORT = "report.html"
"""The page that the demo's `report` writes."""


def run_demo(config: Path, input: Path | None, speed: float, svg: Path | None, folder: Path) -> None:
    """Run plan, submit, poll and collect as a user would, over HTTP, and leave what they wrote in `folder`.

    svg: save what was printed as a picture, without the long and the last parts of it. Raises SetupError without the
    sandbox's libraries, and InputError where the folder holds something else than an earlier demo.
    """
    console = CleanConsole(record=svg is not None, width=PICTURE_COLUMNS if svg else None)
    console.print(
        Text("The whole job against a local Batch API: no key, no network, nothing is paid. It takes a minute at most.")
    )
    require_sandbox()
    from batcher.sandbox import Faults, Sandbox, SandboxSettings, scaled_clock
    from batcher.sandbox.web.server import running_sandbox

    own = load_config(config)
    job = own.job
    set_nouns(find_nouns(job.path))
    prepare_folder(folder)
    with tempfile.TemporaryDirectory(prefix="batcher-demo-") as scratch:
        settings = SandboxSettings(seed=1, speed=speed, faults=Faults(line_failures=DEMO_FAULTS))
        sandbox = Sandbox(settings, Path(scratch), scaled_clock(speed))
        with running_sandbox(sandbox) as url:
            write_settings(folder, job.path.resolve(), (input or job.input).resolve(), own.model)
            aside = console if svg is None else CleanConsole(width=console.width)
            demo = Demo(console, aside, folder, build_environment(url, console.width))
            demo.print_note(
                f"The job {job.path.name} against a local Batch API at {url}; a second counts as {speed:,.0f}."
            )
            demo.run_commands()
            loaded = load_job(job.path, own.model.endpoint)
            key = loaded.row_columns.name or loaded.row_columns.id
            demo.print_first_bios(key, next(iter(output_column_types(loaded))))
        demo.print_next_steps()
        if svg is not None:
            console.save_svg(str(svg), title="batcher demo")


def prepare_folder(folder: Path) -> None:
    """Make the folder, without what an earlier demo has left. Raises InputError where it holds something else."""
    settings = folder / "batcher.toml"
    is_ours = settings.is_file() and settings.read_text(encoding="utf-8", errors="replace").startswith(MARK)
    if folder.exists() and not is_ours and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and holds no earlier demo; name another folder with --folder")
    if is_ours:
        shutil.rmtree(folder / "state", ignore_errors=True)
        for name in (current_nouns().answers_file, FAILED, REPORT):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def write_settings(folder: Path, job: Path, table: Path, model: ModelSection) -> None:
    """Write the settings of the demo, with which the commands can be tried on its state afterwards.

    model: of the job's own settings. It is written where answers are numbers, as another endpoint answers otherwise.
    """
    path, rows = orjson.dumps(str(job)).decode(), orjson.dumps(str(table)).decode()  # JSON texts are TOML texts, too
    text = f'{MARK}\n[job]\npath = {path}\ninput = {rows}\n\n[state]\ndir = "state"\n'
    if not model.endpoint.takes_prompt:
        parameters = ", ".join(
            f"{key} = {orjson.dumps(x).decode()}" for key, x in model.parameters.to_parameters().items()
        )
        text += f'\n[model]\nname = "{model.name}"\nendpoint = "{model.endpoint}"\nparameters = {{ {parameters} }}\n'
    (folder / "batcher.toml").write_text(text, encoding="utf-8")


def build_environment(url: str, width: int) -> dict[str, str]:
    """Return the environment of the demo's commands: the clock of the sandbox is fast, so delays are short."""
    return {
        **os.environ,
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": "sandbox",
        "COLUMNS": str(width),  # their output goes through a pipe, and then to this terminal
        "BATCHER_POLL__INTERVAL_S": "0.5",
        "BATCHER_API__RECONCILE_GRACE_S": "1",
        "BATCHER_RETRY__RATE_LIMIT__BASE_S": "1",
    }


class Demo:
    """The commands, one after the other.

    aside: the console for what is left out of a picture of the other one; the same where there is no picture.
    """

    def __init__(
        self, console: CleanConsole, aside: CleanConsole, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self._console, self._aside, self._folder, self._environment = console, aside, folder, environment
        self._began = time.monotonic()

    def print_note(self, text: str) -> None:
        """Print a line that no command has printed."""
        self._console.print(Text(text, style="dim"))

    def run_commands(self) -> None:
        """Run them. Raises BatcherError where one fails."""
        self._run_command("plan")
        self._run_command("submit", "--shards", "10", pictured=False)
        self._run_command("poll", pictured=False)
        self._run_command("collect", "--out", current_nouns().answers_file, "--failed", FAILED)
        self._run_command("report", "--out", REPORT)

    def _run_command(self, *arguments: str, pictured: bool = True) -> None:
        self._console.print(Text(f"\n$ batcher {' '.join(arguments)}", style="bold"))
        command = [sys.executable, "-m", "batcher", *arguments]
        done = subprocess.run(  # noqa: S603 - our own command with our own arguments
            command, cwd=self._folder, env=dict(self._environment), stdout=subprocess.PIPE, text=True, check=False
        )
        (self._console if pictured else self._aside).print(Text(done.stdout.rstrip()))
        if not pictured and self._aside is not self._console:
            self.print_note("(What it prints is left out of this picture.)")
        if done.returncode not in {ExitCode.DONE, ExitCode.DEAD_LINES}:
            raise BatcherError(f"the demo's `batcher {arguments[0]}` ended with {done.returncode}")

    def print_first_bios(self, key: str, field: str) -> None:
        """Print a field of the first bios. key: the column that names a row."""
        import duckdb

        columns = [duckdb.ColumnExpression(name) for name in (key, field)]
        written = duckdb.from_parquet(str(self._folder / current_nouns().answers_file))
        rows = written.select(*columns).limit(DEMO_LINES).fetchall()
        self.print_note(f"\nThe first {current_nouns().answers}:")
        for name, bio in rows:
            shown = shorten_vector(bio) if isinstance(bio, list) and field == EMBEDDING_FIELD else str(bio)
            self._console.print(Text.assemble((f"{name}: ", "bold"), shown))

    def print_next_steps(self) -> None:
        """Print what the demo has left, and three commands to try on it."""
        took = f"{time.monotonic() - self._began:.0f} s in all. Nothing left this machine, and nothing was paid."
        answers = current_nouns().answers
        left = f"The {answers}, the page {self._folder / REPORT}, the settings and the state are in {self._folder}."
        self._aside.print(Text(f"\n{took} {left}", style="dim"))
        own = "python -m batcher" if sys.argv[0].endswith("__main__.py") else os.path.relpath(sys.argv[0])
        program = "batcher" if shutil.which("batcher") else own
        settings = f"--config {self._folder / 'batcher.toml'}"
        self._aside.print(Text("To try next:", style="bold"))
        for command, what in (
            (f"status {settings}", "where the job stands"),
            (f"answers --refused {settings}", "answers that were refused, and why"),
            ("init my_job", "a job of your own: settings, prompts and an example table"),
        ):
            self._aside.print(Text(f"  {what}:", style="dim"))
            self._aside.print(Text(f"    {program} {command}"), soft_wrap=True)
