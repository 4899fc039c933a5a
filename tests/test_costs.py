"""What commands cost, counted: nothing here looks at a clock, for the speed itself is `make bench`'s."""

import subprocess
import sys

from tests.world import ROOT

HEAVY = ("openai", "httpx2", "asyncio", "genai_prices", "toktok", "batcher.api", "batcher.runner", "batcher.planner")


def imported(statement: str) -> set[str]:
    """Which of the heavy modules a fresh process has after a statement."""
    command = f"import sys; {statement}; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(HEAVY) & set(told.stdout.split())


def test_a_look_imports_nothing_that_acts() -> None:
    """Each of these takes longer to import than a look takes."""
    assert imported("import batcher.cli, batcher.statuscommands") == set()
    assert imported("import batcher.cli, batcher.actcommands") >= {"batcher.api", "batcher.runner"}
