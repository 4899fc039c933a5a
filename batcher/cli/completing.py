"""What a shell completes: commands, options, ids of rows and numbers of shards, without Typer and DuckDB.

Either of them takes longer to import than a person waits for a completion. Commands and options are in a list that a
test holds against the declarations, ids in one that `plan` writes, numbers in the names of the shard files. The script
that calls this is Typer's (`--install-completion`), and so are the variables and the forms of the answers.
"""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from batcher.disk.id_list import find_listed_ids, list_shard_numbers

VARIABLE = "_BATCHER_COMPLETE"
"""What the script sets: "complete_" and the name of the shell."""
WORDS = Path(__file__).parents[1] / "data" / "commands.txt"
"""A line for each command: its name ("batcher" for none) and its options."""
TAKE_IDS = {"show", "answers", "preview"}
"""Commands with ids of rows as arguments."""
BREAKS = ":="
"""Characters at which bash parts a word (COMP_WORDBREAKS); of the last word it replaces what comes after them."""
MOST = 50
"""Ids that are offered at most."""


def complete_at_once(environment: Mapping[str, str]) -> bool:
    """Print completions where a shell asks for them; return whether that was done. PowerShell is left to Typer."""
    shell = environment.get(VARIABLE, "").removeprefix("complete_")
    if shell == "bash":
        words, place = _split_words(environment["COMP_WORDS"]), int(environment["COMP_CWORD"])
        part = words[place] if place < len(words) else ""
        *before, word = _join_parts([*words[:place], part])
        kept = len(word) - len("" if part in BREAKS else part)
        sys.stdout.write("\n".join(each[kept:] for each in find_completions(before[1:], word, environment)))
    elif shell in {"zsh", "fish"}:
        line = environment.get("_TYPER_COMPLETE_ARGS", "")
        words = _split_words(line)[1:] + ([""] if not line or line[-1].isspace() else [])
        found = find_completions(words[:-1], words[-1] if words else "", environment)
        if shell == "zsh":
            quoted = "\n".join('"' + word.replace(":", r"\\:") + '"' for word in found)
            sys.stdout.write(f"_arguments '*: :(({quoted}))'" if found else "_files")
        elif environment.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
            sys.exit(0 if found else 1)
        else:
            sys.stdout.write("\n".join(found))
    else:
        return False
    return True


def _split_words(line: str) -> list[str]:
    """Return the words of a line as a shell takes them; a quote that is open lasts to the end of the line."""
    for end in ("", "'", '"'):
        with suppress(ValueError):
            return shlex.split(line + end)
    return line.split()


def _join_parts(parts: Sequence[str]) -> list[str]:
    """Return words in one piece that bash has parted."""
    words: list[str] = []
    for part in parts:
        is_joined = words and part and (part in BREAKS or words[-1].endswith(tuple(BREAKS)))
        words[-1:] = [words[-1] + part] if is_joined else [*words[-1:], part]
    return words


def find_completions(before: Sequence[str], word: str, environment: Mapping[str, str]) -> list[str]:
    """Return what a word may be completed to; empty where that is the name of a file, or not known.

    before: the words before it, without the program's name.
    """
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return [f"{option}={found}" for found in find_completions([*before, option], value, environment)]
    before = [part for each in before for part in (each.split("=", 1) if each.startswith("--") else [each])]
    options = {name: rest for name, *rest in map(str.split, WORDS.read_text(encoding="ascii").splitlines())}
    command = next((each for each in before if each in options), "batcher")
    last = before[-1] if before else ""
    if word.startswith("-"):
        return [option for option in options[command] if option.startswith(word)]
    if command == "batcher":
        return [name for name in options if name.startswith(word) and name != "batcher"]
    folder = _find_state_folder(before, environment)
    if last == "--shard":
        return [str(number) for number in list_shard_numbers(folder) if str(number).startswith(word)]
    takes_ids = command in TAKE_IDS and not (last.startswith("--") and last in options[command])
    return find_listed_ids(folder, word, MOST) if takes_ids or last in {"--row", "--artist"} else []


def _find_state_folder(before: Sequence[str], environment: Mapping[str, str]) -> Path:
    """Return the state folder that the command would use, as far as that can be known without checking the settings."""
    path = Path(before[before.index("--config") + 1]) if "--config" in before[:-1] else Path("batcher.toml")
    named = environment.get("BATCHER_STATE__DIR")
    if not named and path.is_file():
        import tomllib

        try:
            named = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("state", {}).get("dir")
        except (OSError, ValueError, AttributeError):
            named = None
    return path.parent / (named if isinstance(named, str) else ".batcher")


def complete_or_go_on() -> None:
    """End the process where a shell has asked for completions."""
    if complete_at_once(os.environ):
        sys.stdout.flush()
        os._exit(0)
