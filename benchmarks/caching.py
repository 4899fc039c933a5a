"""What the prompt cache saves: `python -m benchmarks.caching [--rows N] [--sentences N] [--model NAME]`.

A table of tickets is planned and run by the commands, over HTTP, against a sandbox of its own for each setting of
`[model] cache`. All lines begin with a prompt of about 1,500 tokens, and none fails. Printed are the input cost that
`plan` forecasts, what the sandbox bills, and their targets: with "auto" at most a third of "off", and within 10% of the
forecast.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.answers.models import bill_usd
from batcher.sandbox.web.server import running_sandbox
from benchmarks.measure import python

MODEL = "gpt-6-luna"
SPEED = 3_600.0
"""Seconds of the sandbox in one of ours. Its batches take 10 to 90 minutes."""
MODES = ("auto", "off")
"""`[model] cache`."""
JOB = """
from typing import Literal

from pydantic import BaseModel, Field


class Artist(BaseModel):
    artist_id: str
    artist_name: str
    message: str

    def prompt_values(self) -> dict[str, str]:
        return {"message": self.message}


class Bio(BaseModel):
    queue: Literal["billing", "delivery", "returns", "technical", "other"] = Field(description="Who handles it.")
    urgency: Literal["low", "normal", "high"]
    summary: str = Field(max_length=200)


def accept(artist: Artist, bio: Bio) -> str | None:
    return None
"""
SUBJECTS = ("A customer", "The sender", "A business account", "A reseller", "An anonymous visitor", "A former customer")
ACTIONS = (
    "asks for the status of an order", "reports a damaged parcel", "disputes an invoice", "wants to return a product",
    "cannot log in any more", "complains about a late courier", "asks for a copy of a receipt", "ends a subscription",
)  # fmt: skip
RULES = (
    "choose the queue that owns the next step, not the one that caused the problem",
    "the urgency is high only where money or safety is at stake today",
    "mention the product and the date in the summary, and leave out names and addresses",
    "prefer the technical queue as soon as an error message is quoted",
)


class Outcome(NamedTuple):
    """Dollars of input and tokens of one run, by the forecast of `plan` and by the sandbox's bill."""

    forecast_usd: float
    billed_usd: float
    billed_all_usd: float
    spent_usd: float
    tokens: dict[str, int]
    prefix: int


def write_job(folder: Path, rows: int, sentences: int, model: str, cache: str) -> None:
    """Write a job of tickets: settings, prompts and table."""
    (folder / "job").mkdir(parents=True)
    (folder / "batcher.toml").write_text(
        f'[job]\npath = "job"\ninput = "tickets.csv"\n[model]\nname = "{model}"\ncache = "{cache}"\n'
        "max_output_tokens = 4_000\n[poll]\ninterval_s = 0.2\n[api]\nreconcile_grace_s = 0.5\n",
        encoding="utf-8",
    )
    (folder / "job" / "job.py").write_text(JOB, encoding="utf-8")
    pairs = [(subject, action, rule) for rule in RULES for subject in SUBJECTS for action in ACTIONS]
    told = [f"{n}. {subject} {action}: {rule}." for n, (subject, action, rule) in enumerate(pairs[:sentences], 1)]
    (folder / "job" / "system.md").write_text("\n".join(["You sort support tickets.", *told]), encoding="utf-8")
    (folder / "job" / "user.md").write_text("Ticket: {message}", encoding="utf-8")
    dice = random.Random(rows)
    lines = [
        f'{n:05d},Ticket {n},"{dice.choice(SUBJECTS)} {dice.choice(ACTIONS)} of {dice.randint(1, 28)} May, and '
        f'{dice.choice(ACTIONS)} since {dice.randint(2, 9)} days."'
        for n in range(1, rows + 1)
    ]
    (folder / "tickets.csv").write_text("\n".join(["artist_id,artist_name,message", *lines]) + "\n", encoding="utf-8")


def run_mode(folder: Path, rows: int, sentences: int, model: str, cache: str) -> Outcome:
    """Plan and run a job under one setting; return its costs."""
    write_job(folder, rows, sentences, model, cache)
    sandbox = Sandbox(SandboxSettings(), folder / "sandbox", scaled_clock(SPEED))
    with running_sandbox(sandbox) as url:
        plan = command(folder, url, "plan")
        ended = command(folder, url, "run")
        if ended["states"] != {"done": rows}:
            raise SystemExit(f"the run ended with {ended['states']}")
        status = command(folder, url, "status")
    billed = [json.loads(line) for line in (folder / "sandbox" / "ledger.jsonl").read_text().splitlines()]
    usd = sum(
        bill_usd(model, (each["tokens_in"], each["tokens_cached"], each["tokens_written"], 0), True) or 0.0
        for each in billed
    )
    names = ("tokens_in", "tokens_cached", "tokens_written", "tokens_out")
    return Outcome(
        plan["expectation"]["dollars"]["input"],
        usd,
        sum(each["usd"] for each in billed),
        status["costs"]["spent"],
        {name: sum(each[name] for each in billed) for name in names},
        plan["cache_prefix"],
    )


def command(folder: Path, url: str, name: str) -> dict[str, Any]:
    """Run a command with --json; return its answer, the last line that it prints."""
    environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-bench"}
    root = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    words = python("-m", "batcher", name, "--json")
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}: {done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print the figures with their targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caching")
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--sentences", type=int, default=53)
    parser.add_argument("--model", default=MODEL)
    chosen = parser.parse_args()
    found: dict[str, Outcome] = {}
    print("| cache | before the breakpoint | input | read | written | input, forecast | input, billed | all, billed |")
    for mode in MODES:
        with tempfile.TemporaryDirectory(prefix="batcher-caching-") as name:
            made = found[mode] = run_mode(Path(name), chosen.rows, chosen.sentences, chosen.model, mode)
        tokens = made.tokens
        print(
            f"| {mode} | {made.prefix:,} | {tokens['tokens_in']:,} | {tokens['tokens_cached']:,} "
            f"| {tokens['tokens_written']:,} | ${made.forecast_usd:.4f} | ${made.billed_usd:.4f} "
            f"| ${made.billed_all_usd:.4f} |",
            flush=True,
        )
    auto, off = found["auto"], found["off"]
    print(f"| input cost of auto, of off's | <= 33.3% | {auto.billed_usd / off.billed_usd:.1%} |")
    for mode in ("auto", "off"):
        made = found[mode]
        print(f"| billed above the forecast, {mode} | within 10% | {made.billed_usd / made.forecast_usd - 1:+.1%} |")
        print(f"| told above billed, {mode} | 0.0% | {made.spent_usd / made.billed_all_usd - 1:+.2%} |")


if __name__ == "__main__":
    main()
