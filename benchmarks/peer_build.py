"""Runs in gpt-batch-api's environment: commits the requests of a folder of batch files, and batches them.

`python peer_build.py SHARDS FOLDER`; prints the seconds without start-up and reading.
"""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gpt_batch_api import gpt_requester


def main(shards: Path, folder: Path) -> None:
    """Builds once."""
    logging.disable(logging.CRITICAL)
    requests = []
    for path in sorted(shards.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            requests += [gpt_requester.GPTRequest(payload=_titled(json.loads(line)["body"])) for line in file]
    with tempfile.TemporaryDirectory(dir=folder) as work:
        requester = gpt_requester.GPTRequester(
            work, "bench", openai_api_key="none", wandb=False, max_unpushed_batches=1_000, auto_parse=False,
            endpoint="/v1/chat/completions",
        )  # fmt: skip
        with requester:
            began = time.perf_counter()
            with requester.commit_requests(requests):
                pass
            requester.batch_requests(force=True)
            took = time.perf_counter() - began
    print(json.dumps({"build_s": took, "requests": len(requests)}))


def _titled(body: dict[str, Any]) -> dict[str, Any]:
    """Its counting fails for a property without a title."""
    for name, field in body["response_format"]["json_schema"]["schema"]["properties"].items():
        field["title"] = name
    return body


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
