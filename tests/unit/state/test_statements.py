"""The statements in the SQL files: each is named once, exists and is used."""

import re

from batcher.state.db.transaction import load_statements
from tests.support.world import ROOT


def source() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "batcher").rglob("*.py")))


def test_every_statement_named_in_the_code_exists() -> None:
    named = set(
        re.findall(
            r"""(?:\.fetch_all|\.fetch_one|\.count_changed|\.move_lines|load_statements\(\)\[)\(?\s*"(\w+)\"""",
            source(),
        )
    )
    assert len(named) > 80
    assert named - set(load_statements()) == set()


def test_every_statement_is_used() -> None:
    code = source()
    assert [name for name in load_statements() if f'"{name}"' not in code] == []


def test_no_name_is_given_twice() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "batcher/state/sql").glob("*.sql")]
    names = re.findall(r"(?m)^-- name: (\w+)$", "\n".join(texts))
    assert sorted(names) == sorted(load_statements())
