"""What a shell completes, and that neither the state nor Typer is opened for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from batcher.cli.app import app
from batcher.cli.completing import WORDS, find_completions
from batcher.disk.id_list import find_listed_ids, write_id_list


def test_the_list_of_commands_is_that_of_the_declarations() -> None:
    """`BATCHER_WRITE_DOCS=1` writes it again."""
    root = get_command(app)
    commands = {"batcher": root, **root.commands}  # type: ignore[attr-defined]
    lines = [
        " ".join([name, *(option for each in command.params for option in each.opts if option.startswith("-"))])
        for name, command in commands.items()
    ]
    text = "".join(f"{line} --help\n" for line in lines)
    if os.environ.get("BATCHER_WRITE_DOCS"):
        WORDS.write_text(text, encoding="ascii")
    assert WORDS.read_text(encoding="ascii") == text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder with the list of ids and two shards."""
    (tmp_path / "state" / "shards").mkdir(parents=True)
    write_id_list(tmp_path / "state", ["a b", "degas", "dix-otto", "dix:2", "monet"])
    for shard in (1, 12):
        (tmp_path / "state" / "shards" / f"shard-{shard:05d}.jsonl").touch()
    (tmp_path / "batcher.toml").write_text('[state]\ndir = "state"\n', encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "word", "found"),
    [
        ("", "su", ["submit"]),
        ("", "--ver", ["--version"]),
        ("collect", "--on", ["--only-new"]),
        ("show", "di", ["dix-otto", "dix:2"]),
        ("show", "", ["degas", "dix-otto", "dix:2", "monet"]),
        ("retry --artist", "m", ["monet"]),
        ("cancel --shard", "1", ["1", "12"]),
        ("cancel", "--shard=1", ["--shard=1", "--shard=12"]),
        ("cancel --shard", "2", []),
        ("collect --out", "d", []),
        ("answers --class", "d", []),
    ],
)
def test_words_are_completed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, word: str, found: list[str]
) -> None:
    monkeypatch.chdir(folder)
    assert find_completions(line.split(), word, {}) == found
    config = str(folder / "batcher.toml")
    monkeypatch.chdir("/")
    for named in (["--config", config], [f"--config={config}"]):
        elsewhere = [*line.split()[:1], *named, *line.split()[1:]]
        assert find_completions(elsewhere if line else [], word, {}) == found


def test_a_list_of_its_earlier_name_is_read_until_a_plan_writes_one(tmp_path: Path) -> None:
    (tmp_path / "artist_ids.txt").write_bytes(b"degas\nmonet\n")
    assert find_listed_ids(tmp_path, "d", 5) == ["degas"]
    write_id_list(tmp_path, ["dix"])
    assert find_listed_ids(tmp_path, "d", 5) == ["dix"]
    assert [path.name for path in tmp_path.iterdir()] == ["row_ids.txt"]


@pytest.mark.parametrize(
    ("shell", "variables", "told"),
    [
        ("bash", {"COMP_WORDS": "batcher show di", "COMP_CWORD": "2"}, "dix-otto\ndix:2"),
        ("bash", {"COMP_WORDS": "batcher\nshow\ndix\n:\n2", "COMP_CWORD": "4"}, "2"),
        ("bash", {"COMP_WORDS": "batcher\nshow\ndix\n:", "COMP_CWORD": "3"}, "2"),
        ("bash", {"COMP_WORDS": "batcher\nshow\n'dix:", "COMP_CWORD": "2"}, "dix:2"),
        ("bash", {"COMP_WORDS": 'batcher\nplan\n--input\n"my table.csv"\n--li', "COMP_CWORD": "4"}, "--limit"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "batcher plan --input 'my table.csv' --li"}, "--limit"),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "batcher show di"}, '_arguments \'*: :(("dix-otto"\n"dix\\\\:2"))\''),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "batcher collect --out "}, "_files"),
        ("fish", {"_TYPER_COMPLETE_ARGS": "batcher show mo", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "monet"),
    ],
)
def test_each_shell_is_answered_in_its_form_without_slow_imports(
    folder: Path, shell: str, variables: dict[str, str], told: str
) -> None:
    program = (
        "import atexit, sys, os; from batcher.__main__ import main\n"
        "end = os._exit\n"
        "def report(code):\n"
        "    sys.stderr.write(' '.join({'typer', 'duckdb', 'rich', 'pydantic'} & set(sys.modules))); end(code)\n"
        "os._exit = report; main()"
    )
    environment = {**os.environ, "_BATCHER_COMPLETE": f"complete_{shell}", **variables}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, told, "")
