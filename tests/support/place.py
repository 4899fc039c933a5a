"""A folder as a user has it, and the real command in it, without any service."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import orjson

from tests.support.nursery import nursery
from tests.support.world import ROOT

HEAD = "artist_id,artist_name,priority,nationality,born\n"
GOOD = HEAD + "a1,Ana Albers,1,German,1899\nb2,Bo Berg,2,Swedish,1901\n"


class Place:
    """A folder as a user has it: batcher.toml, jobs/, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(ROOT / "batcher.toml", folder / "batcher.toml")
        shutil.copytree(ROOT / "jobs" / "bios", folder / "jobs" / "bios", ignore=shutil.ignore_patterns("__pycache__"))
        self.write("jobs/bios/artists.csv", GOOD)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "BATCHER_"))}
        clean["BATCHER_RETRY__CALL__TRIES"] = "0"  # an unanswered call is not repeated, so no test waits
        clean.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's Python writes it where it may
        with tempfile.TemporaryDirectory() as name:
            out, err = Path(name) / "out", Path(name) / "err"
            code = nursery().run(arguments, self.folder, {**clean, **environment}, out, err)
            told = [path.read_text(encoding="utf-8") for path in (out, err)]
        return subprocess.CompletedProcess(["batcher", *arguments], code, *told)

    def files(self) -> dict[str, bytes | None]:
        """Return every path of the folder with its content (None for a folder); lock files and the log are left out."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.folder.rglob("*"))
            if path.suffix != ".lock" and not path.name.startswith("batcher.log")
        }

    def refused(self, *arguments: str, code: int = 2, **environment: str) -> str:
        """Return the sentence of a command that must fail, and check that it changed nothing."""
        before = self.files()
        ended = self.run(*arguments, **environment)
        assert "Traceback" not in ended.stderr, ended.stderr
        assert ended.returncode == code, ended.stderr
        assert ended.stderr.startswith("batcher: ")
        assert ended.stderr.count("\n") == 1
        assert ended.stderr.endswith("\n")
        sentence = ended.stderr.removeprefix("batcher: ").rstrip("\n")
        if "--json" in arguments:
            assert orjson.loads(ended.stdout) == {"version": 1, "error": sentence}
        else:
            assert ended.stdout == ""
        assert self.files() == before
        return sentence.replace(f"{self.folder.resolve()}/", "")
