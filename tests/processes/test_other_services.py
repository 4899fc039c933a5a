"""Services other than OpenAI, by the commands as a user types them: doctor, plan, run, collect."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.hosts import HOSTS, UNLISTED, Played, played_host
from tests.support.shop import Shop, answer, open_small_shop, run

QUIET = ("OPENAI_BASE_URL", "OPENAI_API_KEY")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def open_at(stack: ExitStack, base: Path, name: str) -> tuple[Shop, Played]:
    """Return a shop of six artists whose environment leads to a host; its settings say nothing of it yet."""
    shop = stack.enter_context(open_small_shop(base, lines=6, per_shard=3))
    host = next(each for each in (*HOSTS, *UNLISTED) if each.name == name)
    played = stack.enter_context(played_host(host, shop.sandbox))
    for variable in QUIET:
        del shop.environment[variable]
    shop.environment |= played.environment
    return shop, played


def write_settings(shop: Shop, lines: str) -> None:
    with (shop.folder / "batcher.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n{lines}\n")


def test_doctor_names_the_lines_with_which_an_unknown_host_serves_the_job(stack: ExitStack, tmp_path: Path) -> None:
    shop, played = open_at(stack, tmp_path, "no-list")
    told = answer(shop, "doctor", code=2)
    assert {each["ability"]: each["has"] for each in told["probed"]} == {
        "list_batches": False, "metadata": None, "file_expiry": False, "list_files": True, "delete_files": True,
    }  # fmt: skip
    screen = " ".join(run(shop, "doctor", code=2)[0].split())
    assert "What the service can do" in screen and 'lacks = ["list_batches"]' in screen
    assert not played.sandbox.lifecycle.batches
    write_settings(shop, told["settings"])
    assert answer(shop, "doctor")["ok"]
    done = answer(shop, "run --out bios.parquet")
    assert done["states"] == {"done": 6}
    assert shop.query("SELECT count(*) FROM 'bios.parquet'") == [(6,)]


@pytest.mark.parametrize("name", ["azure", "azure-classic"])
def test_a_whole_job_at_azure(stack: ExitStack, tmp_path: Path, name: str) -> None:
    shop, played = open_at(stack, tmp_path, name)
    refused = run(shop, "doctor", code=2)[0]
    assert "OPENAI_API_KEY is not set" in refused
    write_settings(shop, f"[service]\n{played.host.settings}")
    told = answer(shop, "doctor")
    assert told["ok"] and told["probed"] == []
    done = answer(shop, "run --out bios.parquet")
    assert done["states"] == {"done": 6}
    assert answer(shop, "status")["service"] == f"{played.url}{played.host.base}"
    assert not played.refused
    key = played.environment["AZURE_OPENAI_API_KEY"].encode()
    assert not any(key in path.read_bytes() for path in shop.folder.rglob("*") if path.is_file())
