"""Documentation that is held against the code: the lifecycle's picture, and every command and key that README names.

`BATCHER_WRITE_DOCS=1 pytest tests/docs/test_docs.py` draws the picture again.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from typer.main import get_command

from batcher.cli.app import app
from batcher.config.sections import Config
from batcher.core.lifecycle import ARTIST_EVENTS, SHARD_EVENTS, ArtistState, ShardState

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
SOURCE = (ROOT / "batcher" / "core" / "lifecycle.py").read_text(encoding="utf-8")


def picture(
    title: str, states: type[ArtistState] | type[ShardState], events: Mapping[str, tuple[frozenset[str], str]]
) -> str:
    """Return one machine as a Mermaid diagram, with a table of its states and what a crash leaves there."""
    arrows = [
        f"    {source} --> {target}: {event.replace('_', ' ')}"
        for event, (sources, target) in events.items()
        for source in sorted(sources)
    ]
    rows = [
        f"| `{state.value}` | {comment} |" for state, comment in zip(states, comments(states.__name__), strict=True)
    ]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *arrows, "```"])
    return "\n".join(
        [
            f"## {title}",
            "",
            diagram,
            "",
            "| state | what it means, and what a crash leaves there |",
            "|---|---|",
            *rows,
            "",
        ]
    )


def comments(name: str) -> Iterator[str]:
    """Yield the comments under the members of an enumeration, in order."""
    body = SOURCE.split(f"class {name}(StrEnum):")[1].split("\nclass ")[0].split("\n\n\n")[0]
    for text in re.findall(r'= "[a-z_]+"\n    """(.*?)"""', body, re.DOTALL):
        yield re.sub(r"\s+", " ", text)


def test_the_picture_of_the_lifecycle_is_drawn_from_its_table() -> None:
    drawn = "\n".join(
        [
            "# Where artists and shards stand\n",
            "Drawn from `batcher/core/lifecycle.py`, the only place that knows it.\n",
            picture("Artists", ArtistState, ARTIST_EVENTS),
            picture("Shards", ShardState, SHARD_EVENTS),
        ]
    )
    path = ROOT / "docs" / "lifecycle.md"
    if os.environ.get("BATCHER_WRITE_DOCS"):
        path.write_text(drawn, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == drawn


def test_readme_names_only_commands_and_options_that_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    named = re.findall(r"`?batcher ([a-z]+)((?: [^`\n|&]*)?)", README)
    assert {"plan", "submit", "poll", "collect", "run", "status", "show"} <= {name for name, _ in named}
    for name, rest in named:
        if name in {"example", "is"}:
            continue
        assert name in commands, name
        options = {option for parameter in commands[name].params for option in parameter.opts}
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in options, f"{name} {option}"


def test_readme_names_every_command() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    missing = {name for name in commands - {"version"} if f"batcher {name}" not in README}
    assert not missing


def test_readme_names_only_keys_that_exist() -> None:
    for section, keys in re.findall(r"`\[([a-z]+)\] ([a-z_]+)", README):
        assert keys in Config.model_fields[section].annotation.model_fields, (section, keys)  # type: ignore[union-attr]


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_paths_that_the_documents_name_exist() -> None:
    for document in DOCUMENTS:
        for path in re.findall(r"`((?:batcher|tests|docs|jobs)/[\w./]+)`", document.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{document.name}: {path}"


def test_every_decision_is_in_the_index_and_has_its_three_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"(?m)^## (.*)$", text) == ["Context", "Decision", "Consequences"], path.name
        title = text.partition("\n")[0].removeprefix(f"# {int(path.name[:4])}. ")
        assert f"| [{path.name[:4]}]({path.name}) | {title} |" in index, path.name
