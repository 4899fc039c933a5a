"""`batcher sandbox`: serve the local Batch API until Ctrl-C."""

import secrets
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from batcher.config.loading import load_config
from batcher.errors import ConfigError, SetupError, StateError
from batcher.state.db.store import Store
from batcher.views.progress import CleanConsole

TRIAL_STATE = ".batcher-sandbox"
"""The state folder that the banner proposes."""


def run_sandbox(port: int, speed: float, tier: int, seed: int, folder: Path | None) -> None:
    """Serve until Ctrl-C. Raises SetupError when the sandbox's libraries are not installed or the port is taken."""
    require_sandbox()
    from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
    from batcher.sandbox.web.server import serve_sandbox

    state = find_real_state(Path("batcher.toml"))
    with tempfile.TemporaryDirectory(prefix="batcher-sandbox-") as scratch:
        settings = SandboxSettings(seed=seed, id_salt=secrets.token_hex(8), speed=speed, tier=tier)
        console = CleanConsole(stderr=True)

        def print_start(url: str) -> None:
            console.print(describe_start(url, state), highlight=False, markup=False, soft_wrap=True)

        sandbox = Sandbox(settings, folder or Path(scratch), scaled_clock(speed))
        try:
            serve_sandbox(sandbox, port=port, on_ready=print_start)
        except OSError as error:
            raise SetupError(f"port {port} cannot be used: {error.strerror}; choose another with --port") from error


def require_sandbox() -> None:
    """Raise SetupError where the sandbox's libraries, an optional part of Batcher, are not installed."""
    try:
        import_module("batcher.sandbox.web.server")
    except ModuleNotFoundError as error:
        raise SetupError(
            f"the sandbox needs {error.name}; install it: pip install '.[sandbox]' in Batcher's folder"
        ) from error


def find_real_state(config: Path) -> Path | None:
    """Return the state folder that a command started here would use, if a job's state is in it."""
    try:
        folder = load_config(config).state.dir
    except ConfigError:  # the sandbox itself needs none
        folder = config.parent / ".batcher"
    with suppress(StateError):  # a folder that cannot be read is reported by other commands
        return folder if folder.name != TRIAL_STATE and Store(folder, time.time, time.sleep).exists() else None
    return None


def describe_start(url: str, state: Path | None) -> str:
    """Return what to do next. state: the folder of a job's state that must not be used with the sandbox."""
    warning = "" if state is None else (
        f"Careful: {state} holds the state of a job. What the sandbox answers there becomes that job's result, so keep "
        "to the state folder below.\n"
    )  # fmt: skip
    return (
        f"The sandbox listens at {url}.\n{warning}"
        "In another terminal, with a state folder of its own:\n"
        f"  export OPENAI_BASE_URL={url} OPENAI_API_KEY=sandbox BATCHER_STATE__DIR={TRIAL_STATE}\n"
        "  batcher plan && batcher submit && batcher poll && batcher collect --out sandbox.parquet\n"
        "Ctrl-C ends it."
    )
