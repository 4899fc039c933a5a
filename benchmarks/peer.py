"""Runs in gpt-batch-api's environment: the requests of a folder of batch files, built and batched, and their answers.

`python -m benchmarks.peer SHARDS FOLDER build|parse`; prints the seconds without start-up, reading and what the
other of the two needs. Its client is replaced by one that answers at once, from this process.
"""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from gpt_batch_api import gpt_requester
from openai.types import Batch, FileObject

from benchmarks.shape import NOW, write_answers


def main(shards: Path, folder: Path, what: str) -> None:
    """Build the requests once, and parse the answers where that is measured."""
    logging.disable(logging.CRITICAL)
    requests = []
    for path in sorted(shards.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            requests += [gpt_requester.GPTRequest(payload=_titled(json.loads(line)["body"])) for line in file]
    with tempfile.TemporaryDirectory(dir=folder) as work:
        requester = gpt_requester.GPTRequester(
            work, "bench", openai_api_key="none", wandb=False, max_unpushed_batches=1_000, auto_parse=False,
            endpoint="/v1/chat/completions", client=Client(Path(work)),
        )  # fmt: skip
        with requester:
            began = time.perf_counter()
            with requester.commit_requests(requests):
                pass
            requester.batch_requests(force=True)
            took = time.perf_counter() - began
            count = len(requests)
            if what == "parse":
                requests.clear()
                requester.push_batches()
                began, count = time.perf_counter(), 0
                for _, result in requester.process_batches():
                    count += sum(info.err_info is None for info in result.info.values())
                took = time.perf_counter() - began
    print(json.dumps({"seconds": took, "lines": count}))


class Client:
    """A client whose batches are completed as soon as they are created."""

    base_url = SimpleNamespace(host="localhost")

    def __init__(self, folder: Path) -> None:
        self.files, self.batches = Files(folder), Batches(folder)


class Files:
    """The files of the client: it keeps them, and writes the answers to those that hold requests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, file: IO[bytes], **_: object) -> FileObject:
        name = f"file-{len(list(self._folder.glob('*.answers')))}"
        write_answers(Path(file.name), self._folder / f"{name}.answers")
        size = Path(file.name).stat().st_size
        file.close()
        return FileObject(
            id=name, object="file", bytes=size, created_at=int(NOW), filename=name, purpose="batch", status="processed"
        )

    def content(self, file_id: str) -> "Content":
        return Content((self._folder / file_id).read_text(encoding="utf-8"))

    def delete(self, file_id: str) -> Any:
        return SimpleNamespace(deleted=True, id=file_id)


class Content:
    """The content of a file, with the client's interface."""

    def __init__(self, text: str) -> None:
        self.text = text


class Batches:
    """The batches of the client, completed at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, input_file_id: str, endpoint: str, **_: object) -> Batch:
        return Batch(
            id=f"batch-{input_file_id}", object="batch", endpoint=endpoint, input_file_id=input_file_id,
            completion_window="24h", status="completed", created_at=int(NOW), output_file_id=f"{input_file_id}.answers",
        )  # fmt: skip


def _titled(body: dict[str, Any]) -> dict[str, Any]:
    """Add the titles without which the peer's token counting fails."""
    for name, field in body["response_format"]["json_schema"]["schema"]["properties"].items():
        field["title"] = name
    return body


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
