"""`batcher sandbox`: serve the local Batch API until Ctrl-C."""

import tempfile
from importlib import import_module
from pathlib import Path

from batcher.errors import SetupError
from batcher.views.progress import CleanConsole


def run_sandbox(port: int, speed: float, tier: int, seed: int, folder: Path | None) -> None:
    """Serve until Ctrl-C. Raises SetupError when the sandbox's libraries are not installed or the port is taken."""
    require_sandbox()
    from batcher.sandbox import Sandbox, SandboxSettings, scaled_clock
    from batcher.sandbox.web.server import serve_sandbox

    with tempfile.TemporaryDirectory(prefix="batcher-sandbox-") as scratch:
        settings = SandboxSettings(seed=seed, speed=speed, tier=tier)
        sandbox = Sandbox(settings, folder or Path(scratch), scaled_clock(speed))
        try:
            serve_sandbox(sandbox, port=port, on_ready=_print_sandbox_address)
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


def _print_sandbox_address(url: str) -> None:
    CleanConsole(stderr=True).print(
        f"The sandbox listens at {url}. In another terminal:\n"
        f"  export OPENAI_BASE_URL={url} OPENAI_API_KEY=sandbox\n"
        "  batcher plan && batcher submit && batcher poll && batcher collect --out bios.parquet\n"
        "Ctrl-C ends it.",
        highlight=False,
        soft_wrap=True,
    )
