"""Runs in LiteLLM's environment: a batch by its own functions. `python litellm_client.py BASE_URL KEY LINES`."""

import json
import sys
import time
from pathlib import Path

import litellm


def main(base: str, key: str, path: Path) -> None:
    """Upload, create, wait, read, list, cancel; print ok."""
    where = {"custom_llm_provider": "openai", "api_base": base, "api_key": key}
    wanted = {json.loads(line)["custom_id"] for line in path.read_text(encoding="utf-8").splitlines()}
    with path.open("rb") as file:
        stored = litellm.create_file(file=file, purpose="batch", **where)
    shape = {"completion_window": "24h", "endpoint": "/v1/chat/completions", "input_file_id": stored.id}
    batch = litellm.create_batch(**shape, metadata={"from": "litellm"}, **where)
    until = time.monotonic() + 60
    while batch.status not in ("completed", "failed", "expired") and time.monotonic() < until:
        time.sleep(0.2)
        batch = litellm.retrieve_batch(batch_id=batch.id, **where)
    assert batch.status == "completed" and batch.metadata == {"from": "litellm"}, batch
    told = litellm.file_content(file_id=batch.output_file_id, **where).content
    rows = [json.loads(line) for line in told.splitlines()]
    assert {row["custom_id"] for row in rows if row["response"]["status_code"] == 200} == wanted
    assert batch.id in [each.id for each in litellm.list_batches(**where).data]
    second = litellm.create_batch(**shape, **where)
    assert litellm.cancel_batch(batch_id=second.id, **where).status in ("cancelling", "cancelled")
    litellm.file_delete(file_id=stored.id, **where)
    print("ok")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
