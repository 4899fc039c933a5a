"""Headless Chromium, driven over the pipe of its DevTools protocol: no other library, no port, no network.

Debian's package is `chromium`. Where it is missing, `find_chromium` returns None and the tests say so.
"""

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
UNTIL_DRAWN = """
new Promise((done) => {
  const look = () => {
    const { drawnAfter, failed } = document.documentElement.dataset;
    if (drawnAfter !== undefined || failed !== undefined) done(); else setTimeout(look, 10);
  };
  look();
})
"""
"""A promise that the page of a report keeps when its charts are drawn, or cannot be."""
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str | None:
    """Return the path of Chromium; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a browser. What it says on its console is kept, and each request."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out, self._in = to_browser, os.fdopen(from_browser, "rb", buffering=0)
        self._read = b""
        self._number = 0
        self._session = ""
        self.said: list[str] = []
        """Warnings and errors of the page that was opened last."""
        self.requested: list[str] = []
        """The addresses that this page has asked for."""
        self._seen: set[str] = set()

    def attach(self) -> None:
        """Take the first page of the browser."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> Any:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message: dict[str, object] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next_message()).get("id") != self._number:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next_message(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            chunk = self._in.read(1 << 20)
            assert chunk, "the browser has ended"
            self._read += chunk
        raw, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note_event(message.get("method", ""), message.get("params", {}))
        return message

    def _note_event(self, method: str, params: dict[str, Any]) -> None:
        self._seen.add(method)
        if method == "Runtime.exceptionThrown":
            self.said.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.said.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            self.said.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    def close(self) -> None:
        """Ask the browser to end, and let go of it."""
        with suppress(AssertionError, OSError):
            self.call("Browser.close")
        os.close(self._out)
        self._in.close()

    def open_page(self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Open a file and wait until its charts are drawn. scheme: light or dark."""
        self.set_size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._seen.discard("Page.loadEventFired")
        self.said.clear()
        self.requested.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while "Page.loadEventFired" not in self._seen:
            self._next_message()
        self.evaluate(UNTIL_DRAWN)

    def set_size(self, width: int, height: int) -> None:
        """Give the page a size in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def save_screenshot(self, path: Path, width: int, height: int) -> None:
        """Save the upper part of the page, of this width and height in pixels, as a PNG."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Yield a browser with a profile of its own, which ends with the block."""
    program = find_chromium()
    assert program is not None
    to_browser, ours_out = os.pipe()
    ours_in, from_browser = os.pipe()

    with tempfile.TemporaryDirectory(prefix="batcher-browser-", ignore_cleanup_errors=True) as profile:
        # The browser's ends must be its descriptors 3 and 4; those here are never lower ones.
        places = [
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, to_browser, 3),
            (os.POSIX_SPAWN_DUP2, from_browser, 4),
        ]
        command = [program, *OPTIONS, f"--user-data-dir={profile}"]
        process = os.posix_spawn(program, command, os.environ, file_actions=places)
        os.close(to_browser)
        os.close(from_browser)
        browser = Browser(ours_out, ours_in)
        try:
            browser.attach()
            yield browser
        finally:
            browser.close()
            os.waitpid(process, 0)
