"""Runs in AIBrix's environment: its batch server as it is, whose lines go to an address instead of being echoed.

`python aibrix_server.py PORT UPSTREAM KEY`. It has neither Kubernetes nor Redis: files and jobs are on the disk.
"""

import sys
from types import SimpleNamespace

import httpx
import uvicorn
from aibrix.batch.client.channel import HttpChannel
from aibrix.batch.client.sources.static import _SingleChannelSource
from aibrix.metadata import app as service
from aibrix.storage import StorageType


async def answer(*_: object) -> bool:
    """Stand in for Redis, which only the users' part of the server reads."""
    return True


def main(port: int, upstream: str, key: str) -> None:
    """Serve until a signal ends the process."""
    client = httpx.AsyncClient(headers={"authorization": f"Bearer {key}"})
    vars(service)["NoopEndpointSource"] = lambda: _SingleChannelSource(HttpChannel(upstream, client=client), capacity=8)
    service.settings.STORAGE_TYPE = service.settings.METASTORE_TYPE = StorageType.LOCAL
    app = service.build_app(service.build_app_args(dry_run=True))
    app.state.metadata_store = SimpleNamespace(ping=answer, close=answer)
    uvicorn.run(app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
