"""What the checks run on: environments in a temporary folder, processes that end with it, a sandbox on the loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

PARTNER = Path(__file__).parent / "partner"
KEY = "sk-interop"
INSTALL_S = 600
PATHS = {"LANG", "LC_ALL", "PATH", "TMPDIR"}
PREFIXES = ("pip_", "npm_", "node_", "ssl_")
"""What programs of others see of our environment: no key of anybody."""


class SkipError(Exception):
    """A check that cannot be made here; its text is the reason."""


class FailureError(Exception):
    """A check that did not hold; its text is what was seen."""


def ensure(held: bool, seen: str) -> None:
    """Raise FailureError with what was seen where something does not hold."""
    if not held:
        raise FailureError(seen)


class Machine:
    """One folder; what is started in it ends with `close`. Every wait has an end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        (folder / "home").mkdir()
        passed = {
            name: value for name, value in os.environ.items() if name in PATHS or name.lower().startswith(PREFIXES)
        }
        self.environment = {**passed, "HOME": str(folder / "home"), "NO_COLOR": "1"}

    def install(self, name: str, packages: Sequence[str], python: str = sys.executable) -> Path:
        """Return the folder of programs of an environment with these packages, made at its first use."""
        made = self.folder / f"env-{name}"
        if not made.exists():
            pip = [str(made / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
            try:
                self._must_run([python, "-m", "venv", str(made)])
                # As the user: the registry may be named in the user's own files.
                self._must_run([*pip, *packages], {"HOME": os.environ.get("HOME", "")})
            except SkipError:
                shutil.rmtree(made, ignore_errors=True)
                raise
        return made / "bin"

    def install_node(self, packages: Sequence[str]) -> Path:
        """Return a folder whose node_modules hold these packages."""
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise SkipError("node and npm are not here")
        made = self.folder / "env-node"
        made.mkdir()
        (made / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent", "--prefix", str(made)]
        self._must_run(["npm", "install", *quiet, *packages], {"HOME": os.environ.get("HOME", "")})
        return made

    def _must_run(self, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        """Run a step of an installation; where it fails or takes too long, the check is skipped."""
        code, told = self.run(command, self.folder, INSTALL_S, more)
        if code:
            last = " ".join(told.split("\n")[-2:]).strip()[-200:]
            raise SkipError(f"`{' '.join([Path(command[0]).name, *command[1:4]])} ...` ended with {code}: {last}")

    def run(
        self, command: Sequence[str], folder: Path, patience_s: float, more: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a program to its end; return its exit code and what it wrote, or -1 where it took too long."""
        process = self._start(command, folder, more, None)
        try:
            out, _ = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self._kill(process)
            out, _ = process.communicate()
            return -1, out.decode("utf-8", "replace") + f"\nnot ended after {patience_s:.0f} s"
        return process.returncode, out.decode("utf-8", "replace").strip()

    @contextmanager
    def serving(
        self, name: str, command: Sequence[str], ready: str, patience_s: float, more: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """Run a server for the length of the block, which begins once GET `ready` answers 200.

        Raises SkipError where it does not start.
        """
        log = self.folder / f"{name}.log"
        process = self._start(command, self.new_folder(name), more, log)
        try:
            self.wait_until(lambda: process.poll() is not None or answers(ready), patience_s)
            if not answers(ready):
                last = log.read_text(encoding="utf-8", errors="replace").split()
                raise SkipError(f"{name} does not start: {' '.join(last)[-300:]}")
            yield
        finally:
            self.kill(process)

    def wait_until(self, held: Callable[[], bool], patience_s: float) -> bool:
        """Look twice a second whether something holds; return False where it does not within this time."""
        until = time.monotonic() + patience_s
        while not held():
            if time.monotonic() > until:
                return False
            time.sleep(0.5)
        return True

    def new_folder(self, name: str) -> Path:
        """Return a folder of its own for what has this name."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def start(self, command: Sequence[str], folder: Path, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a program, and return it; its output goes nowhere."""
        return self._start(command, folder, more, Path(os.devnull))

    def _start(
        self, command: Sequence[str], folder: Path, more: Mapping[str, str] | None, log: Path | None
    ) -> subprocess.Popen[bytes]:
        out = subprocess.PIPE if log is None else log.open("wb")
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env={**self.environment, **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise SkipError(f"{command[0]} cannot be started: {error.strerror}") from error
        finally:
            if not isinstance(out, int):
                out.close()
        self._started.append(process)
        return process

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process that has not ended, and those that it has started: it leads a group of its own."""
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process by SIGKILL, and wait for its end."""
        self._kill(process)
        process.wait()

    def close(self) -> None:
        """End everything that was started."""
        for process in self._started:
            self._kill(process)
            process.wait()


def answers(url: str) -> bool:
    """Return whether GET answers 200 within two seconds."""
    try:
        return (
            httpx2.get(url, headers={"authorization": f"Bearer {KEY}"}, timeout=2, trust_env=False).status_code == 200
        )
    except httpx2.HTTPError:
        return False


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def find_python(*names: str) -> str:
    """Return the first of these interpreters that runs and can make environments; raise SkipError where none does."""
    wanted = [os.environ.get("INTEROP_PYTHON", ""), *names]
    for path in filter(None, map(shutil.which, filter(None, wanted))):
        if subprocess.run([path, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode == 0:
            return path
    raise SkipError(f"none of {', '.join(names)} is here; INTEROP_PYTHON may name one")
