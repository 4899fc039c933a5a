"""What `batcher sandbox` says at its start: a trial must not become the result of a real job."""

import time
from pathlib import Path
from unittest import mock

import pytest

from batcher.commands.tools import sandbox
from batcher.sandbox import Sandbox
from batcher.state.db.store import Store


def make_state(folder: Path) -> Path:
    store = Store(folder, time.time, time.sleep)
    store.path.parent.mkdir(parents=True)
    store.path.write_bytes(b"a state")
    return folder


def test_a_real_state_is_found_and_a_trial_s_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "batcher.toml"
    assert sandbox.find_real_state(config) is None
    state = make_state(tmp_path / ".batcher")
    assert sandbox.find_real_state(config) == state  # also where there are no settings
    config.write_text('[state]\ndir = "elsewhere"\n', encoding="utf-8")
    assert sandbox.find_real_state(config) is None
    elsewhere = make_state(tmp_path / "elsewhere")
    assert sandbox.find_real_state(config) == elsewhere
    make_state(tmp_path / sandbox.TRIAL_STATE)
    monkeypatch.setenv("BATCHER_STATE__DIR", str(tmp_path / sandbox.TRIAL_STATE))
    assert sandbox.find_real_state(config) is None


def test_the_banner_tells_to_use_another_state_folder() -> None:
    told = sandbox.describe_start("http://127.0.0.1:8080/v1", None)
    assert "BATCHER_STATE__DIR=.batcher-sandbox" in told and "Careful" not in told
    assert "--out bios.parquet" not in told
    warned = sandbox.describe_start("http://127.0.0.1:8080/v1", Path("/job/.batcher"))
    assert "Careful: /job/.batcher holds the state of a job" in warned and told.splitlines()[-1] in warned


def test_each_start_draws_other_ids(tmp_path: Path) -> None:
    with mock.patch("batcher.sandbox.web.server.serve_sandbox") as serve:
        for _ in range(2):
            sandbox.run_sandbox(0, 1.0, 3, 7, tmp_path)
    settings = [call.args[0].settings for call in serve.call_args_list if isinstance(call.args[0], Sandbox)]
    assert len({each.id_salt for each in settings}) == 2 and {each.seed for each in settings} == {7}
