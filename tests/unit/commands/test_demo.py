"""The folder that the demo leaves: its own is written again, and no other is touched."""

import tomllib
from pathlib import Path

import pytest

from batcher.commands.tools.demo import prepare_folder, write_settings
from batcher.config.sections import ModelSection
from batcher.core.model import Endpoint
from batcher.errors import InputError


def test_the_folder_of_an_earlier_demo_is_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    prepare_folder(folder)
    write_settings(folder, Path("/jobs/a 'b'"), Path("/jobs/ä.csv"), ModelSection())
    settings = tomllib.loads((folder / "batcher.toml").read_text(encoding="utf-8"))
    assert settings == {"job": {"path": "/jobs/a 'b'", "input": "/jobs/ä.csv"}, "state": {"dir": "state"}}
    (folder / "state").mkdir()
    for name in ("bios.parquet", "report.html", "state/state.duckdb", "mine.txt"):
        (folder / name).write_text("earlier", encoding="utf-8")
    prepare_folder(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["batcher.toml", "mine.txt"]


def test_an_endpoint_of_its_own_is_that_of_the_demo(tmp_path: Path) -> None:
    model = ModelSection(name="text-embedding-3-small", endpoint=Endpoint.EMBEDDINGS, parameters={"dimensions": 64})
    write_settings(tmp_path, Path("/jobs/a"), Path("/jobs/a.csv"), model)
    settings = tomllib.loads((tmp_path / "batcher.toml").read_text(encoding="utf-8"))
    assert settings["model"] == {
        "name": "text-embedding-3-small", "endpoint": "/v1/embeddings", "parameters": {"dimensions": 64},
    }  # fmt: skip


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(InputError, match=r"exists and holds no earlier demo; name another folder with --folder"):
        prepare_folder(tmp_path)
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "precious"
