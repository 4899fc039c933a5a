"""A service in this process that answers at once, and the answers: one of real shape and size for each line.

What it costs to take answers in is measured with it, without a network or a server that uses the same processors.
"""

import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from batcher.api import Answer
from batcher.model import Listing, RemoteBatch, RemoteFile

NOW = 1_795_000_000.0
WORDS = (
    "a painter whose quiet interiors and long light made a name beyond the town where the work began and where it is "
    "still kept, in rooms that visitors remember for their calm, beside drawings, prints and letters to friends"
)
BIO_WORDS = 245
"""So that a line of results has 2.3 KB, as measured."""


def _nothing(_bytes: int) -> None:
    """Tells nobody."""


class LocalService:
    """Keeps its batches in a folder. `ended`: whether they have ended."""

    def __init__(self, folder: Path, ended: bool) -> None:
        self._folder, self._ended = folder, ended
        self._known = folder / "batches.json"
        self._uploads: dict[str, Path] = {}
        self._batches: list[dict[str, Any]] = json.loads(self._known.read_text()) if self._known.exists() else []
        folder.mkdir(exist_ok=True)

    def check(self) -> None:
        """Always there."""

    def shutdown_date(self, _model: str) -> str | None:
        """None is set."""
        return ""

    def upload(self, path: Path, name: str, _sent: Callable[[int], None] = _nothing) -> RemoteFile:
        """Remembers where the file is."""
        self._uploads[f"file-{name}"] = path
        return RemoteFile(f"file-{name}", name, NOW)

    def create(self, file_id: str, _endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """A batch, whose results are written at once."""
        batch_id = f"batch_{len(self._batches):05d}"
        lines = write_answers(self._uploads[file_id], self._folder / f"{batch_id}.jsonl")
        batch = {"id": batch_id, "file": file_id, "metadata": dict(metadata), "lines": lines}
        self._batches.append(batch)
        return self._told(batch)

    def keep(self) -> None:
        """Keeps the batches for the next process."""
        self._known.write_text(json.dumps(self._batches))

    def list_batches(self, _back_to: float) -> Listing:
        """All."""
        return Listing(tuple(self._told(batch) for batch in reversed(self._batches)), NOW)

    def retrieve(self, batch_id: str) -> RemoteBatch | None:
        """One."""
        return next((self._told(batch) for batch in self._batches if batch["id"] == batch_id), None)

    def cancel(self, batch_id: str) -> RemoteBatch | None:
        """Does nothing."""
        return self.retrieve(batch_id)

    def download(self, file_id: str, path: Path) -> None:
        """The results, put into place without copying them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(self._folder / file_id, path)

    def delete(self, file_id: str) -> None:
        """Does nothing."""

    def knows_file(self, _file_id: str) -> bool:
        """Every file."""
        return True

    def find_files(self, _name: str) -> list[RemoteFile]:
        """None is left over."""
        return []

    def _told(self, batch: Mapping[str, Any]) -> RemoteBatch:
        common = RemoteBatch(
            batch["id"], "in_progress", NOW, batch["file"], total=batch["lines"], metadata=batch["metadata"]
        )
        if not self._ended:
            return common
        return RemoteBatch(
            batch["id"], "completed", NOW, batch["file"], f"{batch['id']}.jsonl", finished_at=NOW + 3600,
            total=batch["lines"], completed=batch["lines"], metadata=batch["metadata"],
        )  # fmt: skip

    def complete(self, _endpoint: str, _body: Mapping[str, object]) -> Answer:
        """It answers batches only."""
        raise NotImplementedError

    def find_stored(self, _model: str, _metadata: Mapping[str, str]) -> bytes | None:
        """It stores nothing."""
        return None


def write_answers(lines: Path, target: Path) -> int:
    """Writes the results of a batch input file; how many."""
    count = 0
    with lines.open("rb") as source, target.open("wb") as results:
        for raw in source:
            line = orjson.loads(raw)
            results.write(answer(line["custom_id"], line["body"]["messages"][1]["content"]))
            count += 1
    return count


def answer(line_id: str, prompt: str) -> bytes:
    """One line of a result file, as the API has it."""
    name = prompt.partition("\n")[0].removeprefix("Artist: ")
    dice = random.Random(line_id)
    words = " ".join(dice.choices(WORDS.split(), k=BIO_WORDS))
    bio = {"bio": f"{name} is {words}.", "summary": f"{name} is {words[:120]}.", "sparse": False}
    message: dict[str, object] = {
        "role": "assistant",
        "content": orjson.dumps(bio).decode(),
        "refusal": None,
        "annotations": [],
    }
    tokens_in, tokens_out = 640 + dice.randrange(60), 220 + dice.randrange(60)
    usage = {
        "prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out,
        "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip
    token = f"{dice.getrandbits(96):024x}"
    body = {
        "id": f"chatcmpl-{token}", "object": "chat.completion", "created": int(NOW) + 1_800, "model": "gpt-6-luna",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}], "usage": usage,
        "service_tier": "default", "system_fingerprint": "fp_0123456789",
    }  # fmt: skip
    response = {"status_code": 200, "request_id": token, "body": body}
    return orjson.dumps({"id": f"batch_req_{token}", "custom_id": line_id, "response": response, "error": None}) + b"\n"
