"""Files of 200 MB over loopback, compared with the bare protocol: `python -m benchmarks.transfer KIND WAY URL PATH`.

KIND is `batcher` (its client, as it uploads and downloads) or `floor` (http.client, a megabyte at a time); WAY is `up`
or `down`. The server that answers receives and sends bytes, and does nothing else.
"""

import http.client
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from batcher.core.cutting import MAX_BYTES
from batcher.core.retry import DEFAULT_POLICIES, RetryRules
from batcher.service.connecting import connect_service

CHUNK = 1 << 20
FILE = '{"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "f", "purpose": "batch"}'


def main(kind: str, way: str, url: str, path: Path) -> None:
    """Make one transfer."""
    os.environ.update(OPENAI_BASE_URL=f"{url}/v1", OPENAI_API_KEY="none")
    if kind == "batcher":
        service = connect_service(60.0, RetryRules(DEFAULT_POLICIES), time.sleep, random.random)
        if way == "up":
            service.upload_file(path, "shard.jsonl")
        else:
            service.download_file("file-1", path)
        return
    connection = http.client.HTTPConnection(url.removeprefix("http://"))
    if way == "up":
        with path.open("rb") as file:
            connection.request("POST", "/v1/files", file, {"Content-Length": str(path.stat().st_size)})
        connection.getresponse().read()
        return
    connection.request("GET", "/v1/files/file-1/content")
    answer = connection.getresponse()
    with path.open("wb") as target:
        while chunk := answer.read(CHUNK):
            target.write(chunk)


@contextmanager
def serving(source: Path) -> Iterator[str]:
    """Serve on loopback: accept any upload, send this file as every download. Yield the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, CHUNK)))
            self._head(len(FILE))
            self.wfile.write(FILE.encode())

        def do_GET(self) -> None:
            self._head(source.stat().st_size)
            with source.open("rb") as file:
                self.connection.sendfile(file)

        def _head(self, length: int) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(length))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def make_file(path: Path) -> Path:
    """Write a file of the largest size that the service accepts, and return its path."""
    dice = random.Random(7)
    with path.open("wb") as file:
        for _ in range(MAX_BYTES // CHUNK):
            file.write(dice.randbytes(CHUNK))
    return path


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
