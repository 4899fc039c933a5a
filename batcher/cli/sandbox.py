"""`batcher sandbox`: serve the local Batch API until Ctrl-C."""

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from batcher.errors import SetupError


def run_sandbox(port: int, speed: float, tier: int, seed: int, folder: Path | None) -> None:
    """Serves until Ctrl-C. Raises SetupError when the sandbox's libraries are not installed or the port is taken."""
    server, service = import_sandbox()
    with tempfile.TemporaryDirectory(prefix="batcher-sandbox-") as scratch:
        settings = service.SandboxSettings(seed=seed, speed=speed, tier=tier)
        sandbox = service.Sandbox(settings, folder or Path(scratch), service.scaled_clock(speed))
        try:
            server.serve_sandbox(sandbox, port=port, on_ready=_print_sandbox_address)
        except OSError as error:
            raise SetupError(f"port {port} cannot be used: {error.strerror}; choose another with --port") from error


def import_sandbox() -> tuple[Any, Any]:
    try:
        import batcher.sandbox as service  # noqa: PLC0415 - an extra that only these two commands need
        from batcher.sandbox.web import server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise SetupError(
            f"the sandbox needs {error.name}; install it: pip install '.[sandbox]' in Batcher's folder"
        ) from error
    return server, service


def _print_sandbox_address(url: str) -> None:
    Console(stderr=True).print(
        f"The sandbox listens at {url}. In another terminal:\n"
        f"  export OPENAI_BASE_URL={url} OPENAI_API_KEY=sandbox\n"
        "  batcher plan && batcher submit && batcher poll && batcher collect --out bios.parquet\n"
        "Ctrl-C ends it.",
        highlight=False,
        soft_wrap=True,
    )
