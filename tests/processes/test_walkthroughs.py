"""The pages that lead through a job, followed from their first to their last command against a sandbox."""

from pathlib import Path

import pytest

from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.web.server import running_sandbox
from tests.support.walkthrough import PageFile, Reader, Step, compare_lines, read_page
from tests.support.world import ROOT

DOCS = ROOT / "docs"
HOW_TO = {name: DOCS / "how-to" / f"{name}.md" for name in ("table-of-your-own", "plain-text", "messages", "vectors")}
PAGES = {"tutorial": DOCS / "tutorial.md", **HOW_TO}
SPEED = 3_600.0
"""Sandbox seconds in one real second; the pages say the same."""


@pytest.mark.parametrize("name", PAGES)
def test_the_page_can_be_followed(name: str, tmp_path: Path) -> None:
    sandbox = Sandbox(SandboxSettings(speed=SPEED), tmp_path / "sandbox", scaled_clock(SPEED))
    folder = tmp_path / "reader"
    folder.mkdir()
    with running_sandbox(sandbox) as url:
        Reader(folder, url).follow(PAGES[name])


def test_the_first_lines_of_the_readme_can_be_typed(tmp_path: Path) -> None:
    block = (ROOT / "README.md").read_text(encoding="utf-8").split("## Try it on a table of your own\n\n")[1]
    lines = [line.partition("#")[0].strip() for line in block.partition("\n\n")[0].splitlines()]
    typed = [command for line in lines for command in line.split(" && ") if not command.startswith("pip ")]
    typed.remove("export OPENAI_API_KEY=...")
    page = tmp_path / "page.md"
    page.write_text("```console\n" + "\n...\n".join(f"$ {command}" for command in typed) + "\n...\n```\n")
    sandbox = Sandbox(SandboxSettings(speed=SPEED), tmp_path / "sandbox", scaled_clock(SPEED))
    folder = tmp_path / "reader"
    folder.mkdir()
    with running_sandbox(sandbox) as url:
        reader = Reader(folder, url)
        reader.set(OPENAI_BASE_URL=url, OPENAI_API_KEY="sandbox", BATCHER_POLL__INTERVAL_S="1")
        reader.follow(page)
    assert len(typed) == 5
    assert (folder / "my-job" / "bios.parquet").is_file()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_page_has_commands_with_what_they_print(page: Path) -> None:
    steps = [step for step in read_page(page) if isinstance(step, Step)]
    assert sum(step.command.startswith("batcher ") for step in steps) >= 5
    assert sum(bool(set(step.shown) - {"..."}) for step in steps) >= 3
    assert f"--speed {SPEED:g}" in page.read_text(encoding="utf-8")


def test_a_page_is_read_in_order(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Write `a/b.txt`:\n\n```text\nx\n```\n\n```console\n$ batcher plan  # again\none\n...\n$ cd a\n```\n"
    )
    assert list(read_page(page)) == [PageFile("a/b.txt", "x\n"), Step("batcher plan", ["one", "..."]), Step("cd a", [])]


@pytest.mark.parametrize("shown", [["one", "two", "three"], ["..."], ["one", "..."], ["...", "two", "..."]])
def test_lines_that_are_printed_pass(shown: list[str]) -> None:
    compare_lines("x", shown, "one\ntwo\nthree\n")


@pytest.mark.parametrize("shown", [[], ["one"], ["...", "two"], ["two", "..."], ["...", "three", "...", "one", "..."]])
def test_other_lines_fail(shown: list[str]) -> None:
    with pytest.raises(AssertionError):
        compare_lines("x", shown, "one\ntwo\nthree\n")
