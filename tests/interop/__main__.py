"""`make interop`: Batcher before servers that others wrote, and the sandbox before clients that others wrote.

Prints each check as ok, failed or skipped because, and at the end how many of how many held; writes docs/interop.md.
Ends with 1 where one failed. It needs the package registries; OGX needs Python 3.12 or later (INTEROP_PYTHON names
one), openai-node needs node and npm: what cannot be installed is skipped. Everything runs on the loopback interface,
in a temporary folder, and ends with it.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx2

from tests.interop.checks import CHECKS, Check
from tests.interop.machine import FailureError, Machine, SkipError
from tests.interop.page import PAGE, Row, render_page, summarize

LONGEST_S = 3600


def main() -> int:
    """Make the checks, and write the page; return the exit code."""
    options = argparse.ArgumentParser(prog="python -m tests.interop")
    options.add_argument("--only", default="", help="checks whose partner or text holds this; the page is not written")
    options.add_argument("--keep", action="store_true", help="keep the folder, with logs and environments")
    chosen = options.parse_args()
    checks = [each for each in CHECKS if chosen.only.lower() in f"{each.partner} {each.what}".lower()]
    signal.signal(signal.SIGALRM, _give_up)
    signal.signal(signal.SIGTERM, _give_up)
    signal.alarm(LONGEST_S)
    machine = Machine(Path(tempfile.mkdtemp(prefix="batcher-interop-")))
    try:
        rows = [make_check(each, machine) for each in checks]
        print(summarize(rows), flush=True)
        if not chosen.only:
            PAGE.write_text(render_page(rows), encoding="utf-8")
    finally:
        machine.close()
        if chosen.keep:
            print(f"kept: {machine.folder}")
        else:
            shutil.rmtree(machine.folder, ignore_errors=True)
    return int(any(row.result.startswith("failed") for row in rows))


def _give_up(number: int, _frame: object) -> None:
    sys.exit(f"ended by signal {signal.Signals(number).name}")


def make_check(check: Check, machine: Machine) -> Row:
    """Make one check, and print and return what came of it."""
    began = time.monotonic()
    try:
        check.perform(machine)
        result = "ok"
    except SkipError as reason:
        result = f"skipped because {reason}"
    except (FailureError, httpx2.HTTPError) as seen:
        result = f"failed: {seen}"
    print(f"{check.partner} {check.version}: {check.what}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
    return Row(check.partner, check.version, check.what, result, datetime.now(UTC).date().isoformat())


if __name__ == "__main__":
    sys.exit(main())
