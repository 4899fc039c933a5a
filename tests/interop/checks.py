"""The checks: Batcher's own commands before the servers of others, and the clients of others before the sandbox."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import duckdb
import httpx2

from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
from batcher.sandbox.web.server import running_sandbox
from tests.interop.machine import KEY, PARTNER, Machine, ensure, find_python, free_port
from tests.support.sandbox_kit import CHAT
from tests.support.world import ROOT, write_table

ARTISTS, PER_SHARD, LINES = 40, 10, 20
CALL_S = 180.0
SETTINGS = """
[job]
input = "artists.csv"
[model]
name = "{model}"
[limits]
enqueued_tokens = 40_000_000
lines_per_shard = {per_shard}
[poll]
interval_s = 0.5
[api]
reconcile_grace_s = 3
"""
AIBRIX, OGX, LITELLM, BATCHWIZARD, NODE = "0.8.0", "1.5.0", "1.108.7", "0.5.0", "7.59.0"


class Server(NamedTuple):
    """A server of others that runs: its address, the model's name there, and the sandbox behind it."""

    url: str
    model: str
    upstream: Sandbox


@contextmanager
def sandbox(folder: Path) -> Iterator[tuple[Sandbox, str]]:
    """Yield a sandbox that runs an hour in six seconds, and its base URL."""
    phases = {"validating_s": (1, 5), "service_s": (300, 900), "finalizing_s": (1, 5), "cancelling_s": (1, 5)}
    made = Sandbox(SandboxSettings(**phases), folder, scaled_clock(600))  # type: ignore[arg-type]
    with running_sandbox(made) as url:
        yield made, url


# --- the servers ------------------------------------------------------------------------------------------------------


@contextmanager
def aibrix(machine: Machine) -> Iterator[Server]:
    """Yield AIBrix's batch server, whose lines are answered by the sandbox."""
    programs = machine.install("aibrix", [f"aibrix=={AIBRIX}"])
    with sandbox(machine.new_folder("upstream")) as (upstream, url):
        port = free_port()
        script = [str(programs / "python"), str(PARTNER / "aibrix_server.py"), str(port), url, KEY]
        with machine.serving("aibrix", script, f"http://127.0.0.1:{port}/v1/batches", 90):
            yield Server(f"http://127.0.0.1:{port}/v1", "gpt-6-luna", upstream)


@contextmanager
def ogx(machine: Machine) -> Iterator[Server]:
    """Yield OGX with its reference implementation of batches, whose lines are answered by the sandbox."""
    programs = machine.install("ogx", [f"ogx=={OGX}"], find_python("python3.13", "python3.12"))
    with sandbox(machine.new_folder("upstream")) as (upstream, url):
        port = free_port()
        config = machine.folder / "ogx.json"  # JSON is YAML
        config.write_text(json.dumps(_ogx_config(machine.new_folder("ogx"), url, port)), encoding="utf-8")
        command = [str(programs / "ogx"), "run", "--insecure", str(config)]
        with machine.serving("ogx", command, f"http://127.0.0.1:{port}/v1/health", 90):
            yield Server(f"http://127.0.0.1:{port}/v1", "openai/gpt-6-luna", upstream)


def _ogx_config(folder: Path, url: str, port: int) -> Mapping[str, object]:
    def provide(name: str, kind: str, **config: object) -> list[object]:
        return [{"provider_id": name, "provider_type": f"{kind}::{name}", "config": config}]

    files = {"storage_dir": str(folder / "files"), "metadata_store": {"table_name": "files", "backend": "sql"}}
    kept = {
        name: {"table_name": name, "backend": "sql"} for name in ("inference", "conversations", "prompts", "connectors")
    }
    return {
        "version": 2,
        "distro_name": "interop",
        "apis": ["batches", "files", "inference"],
        "providers": {
            "inference": provide("openai", "remote", api_key=KEY, base_url=url),
            "files": provide("localfs", "inline", **files),
            "batches": provide("reference", "inline", sqlstore={"backend": "sql", "table_name": "batches"}),
        },
        "storage": {
            "backends": {
                "kv": {"type": "kv_sqlite", "db_path": str(folder / "kv.db")},
                "sql": {"type": "sql_sqlite", "db_path": str(folder / "sql.db")},
            },
            "stores": {"metadata": {"namespace": "registry", "backend": "kv"}, **kept},
        },
        "server": {"host": "127.0.0.1", "port": port},
    }


@contextmanager
def litellm(machine: Machine) -> Iterator[Server]:
    """Yield LiteLLM's proxy, which passes files and batches on to the sandbox."""
    programs = litellm_programs(machine)
    with sandbox(machine.new_folder("upstream")) as (upstream, url):
        port = free_port()
        where = {"api_base": url, "api_key": KEY}
        config = machine.folder / "litellm.json"
        settings = {
            "model_list": [
                {"model_name": "gpt-6-luna", "litellm_params": {"model": "openai/gpt-6-luna", **where}},
            ],
            "files_settings": [{"custom_llm_provider": "openai", **where}],
        }
        config.write_text(json.dumps(settings), encoding="utf-8")
        command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        # Without a list of prices of its own it would ask for one, for a minute, where there is no network.
        more = {"LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with machine.serving("litellm", command, f"http://127.0.0.1:{port}/health/liveliness", 120, more):
            yield Server(f"http://127.0.0.1:{port}/v1", "gpt-6-luna", upstream)


def litellm_programs(machine: Machine) -> Path:
    return machine.install("litellm", [f"litellm[proxy]=={LITELLM}"])


# --- Batcher before a server ------------------------------------------------------------------------------------------


class Job:
    """A job of some artists before a server, by Batcher's commands as a user types them."""

    def __init__(self, machine: Machine, server: Server) -> None:
        self._machine, self._server = machine, server
        self.folder = machine.new_folder("job")
        shutil.copytree(ROOT / "jobs" / "bios", self.folder / "jobs" / "bios")
        write_table(self.folder / "artists.csv", ARTISTS)
        (self.folder / "batcher.toml").write_text(
            SETTINGS.format(model=server.model, per_shard=PER_SHARD), encoding="utf-8"
        )
        self._more = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
        self._batcher = [sys.executable, "-m", "batcher"]

    def batcher(self, line: str) -> str:
        """Run a command, and return what it wrote."""
        code, told = self._machine.run([*self._batcher, *line.split()], self.folder, CALL_S, self._more)
        ensure(code == 0, f"`batcher {line}` ended with {code}: {' '.join(told.split())[-300:]}")
        return told

    def kill_in_flight(self, line: str) -> None:
        """Start a command, and kill it by SIGKILL once the server has a batch."""
        process = self._machine.start([*self._batcher, *line.split()], self.folder, self._more)
        self._machine.wait_until(lambda: self._has_batch() or process.poll() is not None, CALL_S)
        ensure(process.poll() is None and self._has_batch(), f"`batcher {line}` ended before it was killed")
        self._machine.kill(process)

    def _has_batch(self) -> bool:
        headers = {"authorization": f"Bearer {KEY}"}
        return bool(
            httpx2.get(f"{self._server.url}/batches", headers=headers, timeout=20, trust_env=False).json()["data"]
        )

    def check_bios(self) -> None:
        """Check that every artist has one bio, and that every line was executed once."""
        with duckdb.connect() as con:
            query = "SELECT count(*), count(DISTINCT artist_id), count(bio) FROM read_parquet(?)"
            rows = con.execute(query, [str(self.folder / "bios.parquet")]).fetchone()
        ensure(rows == (ARTISTS,) * 3, f"rows, artists and bios are {rows} instead of {ARTISTS} each")
        with self._server.upstream.lock:
            bought = self._server.upstream.ledger.execution_counts()
        seen = f"{sum(bought.values())} executions of {len(bought)} lines instead of {ARTISTS} of {ARTISTS}"
        ensure(sorted(bought.values()) == [1] * ARTISTS, seen)


Open = Callable[[Machine], AbstractContextManager[Server]]


def run_job(machine: Machine, opened: Open) -> None:
    """doctor, plan, run, collect: every artist has a bio, every line was executed once."""
    with opened(machine) as server:
        job = Job(machine, server)
        for line in ("doctor", "plan", "run", "collect --out bios.parquet --failed failed.parquet"):
            job.batcher(line)
        job.check_bios()


def run_killed_job(machine: Machine, opened: Open) -> None:
    """The same, where `run` is killed by SIGKILL once a batch is in flight, and started again."""
    with opened(machine) as server:
        job = Job(machine, server)
        job.batcher("plan")
        job.kill_in_flight("run")
        job.batcher("run --out bios.parquet")
        job.check_bios()


def run_direct_job(machine: Machine, opened: Open) -> None:
    """plan, direct, collect: the same by the direct lane."""
    with opened(machine) as server:
        job = Job(machine, server)
        for line in ("plan", "direct --unreleased", "collect --out bios.parquet"):
            job.batcher(line)
        job.check_bios()


# --- clients before the sandbox ---------------------------------------------------------------------------------------


def write_lines(folder: Path) -> Path:
    """Write the input of a batch, and return its path."""
    path = folder / "lines.jsonl"
    asked = [{"model": "gpt-6-luna", "messages": [{"role": "user", "content": f"Artist: {n}"}]} for n in range(LINES)]
    rows = [{"custom_id": f"a{n}", "method": "POST", "url": CHAT, "body": body} for n, body in enumerate(asked)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def drive(machine: Machine, command: Sequence[str], url: str) -> str:
    """Run a client to its end, and return what it wrote."""
    more = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    code, told = machine.run(command, machine.folder, CALL_S, more)
    ensure(code == 0, f"it ended with {code}: {' '.join(told.split())[-300:]}")
    return told


def run_batchwizard(machine: Machine) -> None:
    """`batchwizard process`: uploads, creates, waits, downloads."""
    programs = machine.install("batchwizard", [f"batchwizard=={BATCHWIZARD}"])
    folder = machine.new_folder("batchwizard")
    with sandbox(folder / "sandbox") as (_, url):
        out = folder / "out"
        command = [str(programs / "batchwizard"), "process", str(write_lines(folder)), "--output-directory", str(out)]
        drive(machine, [*command, "--check-interval", "1"], url)
    rows = [json.loads(row) for path in out.glob("*_results.jsonl") for row in path.read_text("utf-8").splitlines()]
    found = sorted(row["custom_id"] for row in rows if row["response"]["status_code"] == 200)
    ensure(found == sorted(f"a{n}" for n in range(LINES)), f"{len(found)} of {LINES} lines came")


def run_litellm_client(machine: Machine) -> None:
    """LiteLLM's create_file, create_batch, retrieve_batch, file_content, list_batches, cancel_batch, file_delete."""
    programs = litellm_programs(machine)
    folder = machine.new_folder("litellm-client")
    with sandbox(folder / "sandbox") as (_, url):
        script = [str(programs / "python"), str(PARTNER / "litellm_client.py"), url, KEY, str(write_lines(folder))]
        told = drive(machine, script, url)
    ensure(told.endswith("ok"), told[-300:])


def run_openai_node(machine: Machine) -> None:
    """openai-node: files and batches to their end, lists in pages, direct endpoints, stored completions, errors."""
    folder = machine.install_node([f"openai@{NODE}"])
    script = shutil.copy(PARTNER / "openai_node.mjs", folder)
    with sandbox(folder / "sandbox") as (_, url):
        told = drive(machine, ["node", str(script), str(write_lines(folder))], url)
    ensure(told.endswith("ok"), told[-300:])


# --- all of them ------------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    """One check: whose software, which version, what is done, and how."""

    partner: str
    version: str
    what: str
    perform: Callable[[Machine], None]


JOB = f"Batcher: doctor, plan, run, collect of {ARTISTS} artists in {ARTISTS // PER_SHARD} shards"
KILLED = "Batcher: run killed by SIGKILL with a batch in flight, run again: no line bought twice"
DIRECT = f"Batcher: plan, direct, collect of {ARTISTS} artists"

CHECKS = (
    Check("AIBrix, its batch server", AIBRIX, JOB, partial(run_job, opened=aibrix)),
    Check("AIBrix, its batch server", AIBRIX, KILLED, partial(run_killed_job, opened=aibrix)),
    Check("OGX", OGX, JOB, partial(run_job, opened=ogx)),
    Check("OGX", OGX, KILLED, partial(run_killed_job, opened=ogx)),
    Check("OGX", OGX, DIRECT, partial(run_direct_job, opened=ogx)),
    Check("LiteLLM, its proxy", LITELLM, JOB, partial(run_job, opened=litellm)),
    Check("LiteLLM, its proxy", LITELLM, KILLED, partial(run_killed_job, opened=litellm)),
    Check("LiteLLM, its proxy", LITELLM, DIRECT, partial(run_direct_job, opened=litellm)),
    Check("batchwizard", BATCHWIZARD, f"the sandbox: process {LINES} lines to their end", run_batchwizard),
    Check("LiteLLM, its client", LITELLM, "the sandbox: a batch from its file to its results", run_litellm_client),
    Check("openai-node", NODE, "the sandbox: files, batches, direct endpoints, errors", run_openai_node),
)
"""In the order in which they are made; the servers answer with what a sandbox behind them says."""
