"""Calls that schemathesis makes up from the official description of files and batches, against the sandbox over HTTP.

Its own process keeps it out of the suite: as a plugin it would slow the start of every test run.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.web.server import running_sandbox
from tests.support.description import DESCRIPTION, describe_files_and_batches

KEY = "sk-test"
SEED = 20_261_127
EXAMPLES = 200 if os.environ.get("HYPOTHESIS_SOAK") else 10  # of each call, beside those at the bounds of each schema
UNCHECKED = "positive_data_acceptance"  # what is refused is told in words alone: 1 to 100 a page, JSONL for batches

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DESCRIPTION.is_file(), reason="the official description is not beside the repository"),
    pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is missing: `make test` installs it"),
]


def test_made_up_calls_are_answered_as_described(tmp_path: Path) -> None:
    """Expect no 5xx, statuses, types and bodies as described, bad input refused, keys checked, deleted files gone."""
    (tmp_path / "description.json").write_text(json.dumps(describe_files_and_batches()), encoding="utf-8")
    settings = SandboxSettings(api_key=KEY, uploads_per_minute=1_000_000, batches_per_hour=1_000_000)
    with running_sandbox(Sandbox(settings, tmp_path / "sandbox", scaled_clock(60))) as url:
        command = [sys.executable, "-m", "schemathesis.cli", "run", "description.json", "--url", url]
        command += ["--header", f"Authorization: Bearer {KEY}", "--exclude-checks", UNCHECKED]
        command += ["--seed", str(SEED), "--max-examples", str(EXAMPLES), "--generation-database", "none"]
        command += ["--no-color", "--warnings", "off", "--continue-on-failure", "--request-timeout", "20"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Selected: 9/9\n  Tested: 9\n" in ended.stdout, ended.stdout
