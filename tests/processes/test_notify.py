"""The notices of a job, as real commands send them: each once, at least once, and never in the way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batcher.contracts.streams import NoticeObject
from tests.support.kill_harness import wait_until
from tests.support.shop import Shop, open_small_shop, run


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_small_shop(tmp_path, lines=12, per_shard=6) as made:
        yield made


def set_notify(shop: Shop, setting: str) -> None:
    with (shop.folder / "batcher.toml").open("a", encoding="utf-8") as file:
        file.write(f"[notify]\n{setting}\n")


def notices(shop: Shop) -> list[dict[str, Any]]:
    path = shop.folder / "notices.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def log_of(shop: Shop) -> str:
    return (shop.folder / ".batcher" / "batcher.log").read_text(encoding="utf-8")


def test_the_end_is_told_once_until_it_is_another_one(shop: Shop) -> None:
    set_notify(shop, f"command = 'cat >> {shop.folder}/notices.jsonl'")
    run(shop, "plan")
    run(shop, "poll")
    assert notices(shop) == []  # nothing was released
    run(shop, "run")
    wait_until(lambda: len(notices(shop)) == 1)
    (told,) = notices(shop)
    NoticeObject.model_validate(told)
    assert (told["version"], told["kind"], told["job"]) == (1, "finished", "bios")
    assert told["sentence"] == (
        f"Nothing is left to send: 12 bios, 0 dead, 0 held, ${told['numbers']['spent_usd']:.6f} spent. "
        "`batcher collect --out bios.parquet` writes the 12 bios."
    )
    assert told["numbers"]["done"] == 12
    assert told["time"].endswith("+00:00")
    run(shop, "poll")
    run(shop, "run")
    run(shop, "pause")
    run(shop, "poll")
    wait_until(lambda: len(notices(shop)) == 2)
    run(shop, "resume")
    run(shop, "poll")
    wait_until(lambda: len(notices(shop)) == 3)
    assert [notice["kind"] for notice in notices(shop)] == ["finished", "paused", "resumed"]
    assert notices(shop)[1]["sentence"] == "Paused: by hand. Paused (by hand): `batcher resume` goes on."


def test_a_notifier_that_hangs_or_fails_delays_and_ends_nothing(shop: Shop) -> None:
    set_notify(shop, f"command = 'echo $$ > {shop.folder}/pid; sleep 600'")
    run(shop, "plan")
    run(shop, "run")  # ends while the notifier runs
    wait_until((shop.folder / "pid").exists)
    wait_until(lambda: (shop.folder / "pid").read_text() != "")
    os.kill(int((shop.folder / "pid").read_text()), 9)
    wait_until(lambda: "the notice 'finished' did not go out: [notify] command failed with -9" in log_of(shop))


def test_a_notifier_that_hangs_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    order = {
        "notice": {"kind": "brake"}, "command": f"sleep 600 & echo $! > {tmp_path}/pid; wait", "urls": [],
        "log": str(tmp_path / "batcher.log"), "timeout_s": 1.0,
    }  # fmt: skip
    helper = [sys.executable, "-P", "-m", "batcher.commands.notify.helper"]
    subprocess.run(helper, input=json.dumps(order), text=True, check=True)
    said = (tmp_path / "batcher.log").read_text(encoding="utf-8")
    assert said.endswith("the notice 'brake' did not go out: [notify] command was killed, as it took more than 1 s\n")
    child = int((tmp_path / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text())


def test_a_process_killed_before_it_records_a_notice_sends_it_again(shop: Shop) -> None:
    set_notify(shop, f"command = 'cat >> {shop.folder}/notices.jsonl'")
    run(shop, "plan")
    run(shop, "run", -9, {"BATCHER_TEST_CRASH_AT": "told.commit.before"})
    run(shop, "poll")
    run(shop, "poll")
    wait_until(lambda: len(notices(shop)) >= 2)
    assert [notice["kind"] for notice in notices(shop)] == ["finished", "finished"]


def test_a_stop_that_only_the_user_can_mend_is_told(shop: Shop) -> None:
    set_notify(shop, f"command = 'cat >> {shop.folder}/notices.jsonl'")
    run(shop, "plan")
    shop.environment["OPENAI_API_KEY"] = ""
    run(shop, "poll", 2)
    run(shop, "poll", 2)
    wait_until(lambda: len(notices(shop)) == 1)
    assert notices(shop)[0]["kind"] == "stopped"


def test_urls_without_apprise_are_refused_with_what_to_install(shop: Shop) -> None:
    run(shop, "plan")
    hidden = shop.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['apprise'] = None\n", encoding="utf-8")
    set_notify(shop, "urls = ['json://localhost']")
    environment = {**shop.environment, "PYTHONPATH": f"{hidden}{os.pathsep}{shop.environment.get('PYTHONPATH', '')}"}
    ended = subprocess.run(
        ["python", "-m", "batcher", "poll"],
        cwd=shop.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "[notify] urls needs apprise: pip install 'batcher[notify]', or remove the urls" in ended.stderr
