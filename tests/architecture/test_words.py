"""No text speaks of artists or bios: a job says what its rows and answers are called, and texts ask for it."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from tests.architecture.test_rules import PACKAGE, STATE, modules

WORDS = re.compile(r"(?<!\w)(?:artists?|bios?)(?!\w)", re.IGNORECASE)
"""The words of the example as words of a text; within a name, as artist_id, they are a key or a column."""
SQL = re.compile(r"\s*(?:SELECT|WITH)\b")
STATE_NAMES = {"artist", "artists", "bio", "bios"}
"""Tables, statements and outcomes, as modules of the state name them."""
ALLOWED: Mapping[str, Mapping[str, int]] = {
    # the default nouns, and the old name of the option --row
    "nouns.py": {"artist": 1, "bio": 1, "artists": 1, "bios": 1, "--artist": 1},
    "cli/planning.py": {"--artist": 1},
    "cli/sending.py": {"--artist": 2},
    "cli/completing.py": {"--artist": 1},
    # the example job, and the models Artist and Bio that a job.py may define
    "config/sections.py": {"jobs/bios": 1, "jobs/bios/artists.csv": 1},
    "commands/planning/init.py": {
        "jobs/example/artists.csv": 1,
        "Put your table in place of jobs/example/artists.csv, look at `batcher plan --dry-run`, then export "
        "OPENAI_API_KEY and run `batcher plan`.": 1,
    },
    "job/row.py": {"Artist": 1},
    "job/loading.py": {
        "Bio": 2, "artist": 1, "bio": 1, "an artist and a ": 1, ": Artist has no field ": 1,
        ": Artist has no prompt_values() giving the values of user.md": 1,
    },
    # keys of --json
    "commands/results/collect.py": {"bios": 1},
    "commands/results/judge.py": {"bios": 1},
    "commands/sending/redo.py": {"bios": 1},
    "views/pilot.py": {"bio": 1},
    "views/preview.py": {"artists": 1},
    # outcomes and fates, as the state has them
    "core/pilots.py": {"bio": 1},
    "lanes/direct/outcomes.py": {"bio": 1},
    "review/judging.py": {"bio": 2},
    "review/kept_answers.py": {"bio": 1},
    "views/review.py": {"bio": 1},
    "views/report/charts.py": {"has a bio": 1, "bios": 4},
    # names of charts and elements, which a page does not show
    "views/report/page.py": {"bios": 2},
    "views/report/sections.py": {"bios": 1},
    # fields that the sandbox takes for a name
    "sandbox/answers/filling.py": {"artist": 1},
}  # fmt: skip
"""How often each text with one of the words stands in a module. A new one is a text that does not fit every job."""


def literals(tree: ast.Module) -> Iterator[str]:
    """Yield the texts of a module, those within f-strings too; no docstrings and no SQL."""
    comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str() as text) if id(node) not in comments and not SQL.match(text):
                yield text


def test_no_text_speaks_of_artists_or_bios() -> None:
    found = {
        str(path.relative_to(PACKAGE)): Counter(
            text
            for text in literals(tree)
            if WORDS.search(text) and not (STATE in path.parents and text in STATE_NAMES)
        )
        for path, tree in modules().items()
    }
    assert {path: dict(texts) for path, texts in found.items() if texts} == ALLOWED, (
        "say current_nouns().rows, .an_answer, .count_answers(n) ... in their place"
    )
