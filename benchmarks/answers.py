"""A service in this process that answers at once.

It serves to measure the cost of ingesting answers, without a network or a server on the same processors.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from batcher.core.remote import BatchListing, RemoteBatch, RemoteFile
from batcher.service.service import CompletionResponse
from benchmarks.shape import NOW, write_answers


def _nothing(_bytes: int) -> None:
    """Ignore the progress."""


class LocalService:
    """A service that keeps its batches in a folder. `ended`: whether they have ended."""

    def __init__(self, folder: Path, ended: bool) -> None:
        self._folder, self._ended = folder, ended
        self._known = folder / "batches.json"
        self._uploads: dict[str, Path] = {}
        self._batches: list[dict[str, Any]] = json.loads(self._known.read_text()) if self._known.exists() else []
        folder.mkdir(exist_ok=True)

    def check_access(self) -> None:
        """Do nothing: the service can always be reached."""

    def check_key(self) -> None:
        """Do nothing: it is always there."""

    def fetch_shutdown_date(self, _model: str) -> str | None:
        """Return "": no date is set."""
        return ""

    def upload_file(self, path: Path, name: str, _sent: Callable[[int], None] = _nothing) -> RemoteFile:
        """Record where the file is."""
        self._uploads[f"file-{name}"] = path
        return RemoteFile(f"file-{name}", name, NOW)

    def create_batch(self, file_id: str, _endpoint: str, metadata: Mapping[str, str]) -> RemoteBatch:
        """Create a batch, and write its results at once."""
        batch_id = f"batch_{len(self._batches):05d}"
        lines = write_answers(self._uploads[file_id], self._folder / f"{batch_id}.jsonl")
        batch = {"id": batch_id, "file": file_id, "metadata": dict(metadata), "lines": lines}
        self._batches.append(batch)
        return self._told(batch)

    def keep(self) -> None:
        """Write the batches to disk for the next process."""
        self._known.write_text(json.dumps(self._batches))

    def list_batches(self, _back_to: float) -> BatchListing:
        """Return all batches."""
        return BatchListing(tuple(self._told(batch) for batch in reversed(self._batches)), NOW)

    def retrieve_batch(self, batch_id: str) -> RemoteBatch | None:
        """Return one batch."""
        return next((self._told(batch) for batch in self._batches if batch["id"] == batch_id), None)

    def cancel_batch(self, batch_id: str) -> RemoteBatch | None:
        """Do nothing."""
        return self.retrieve_batch(batch_id)

    def download_file(self, file_id: str, path: Path, _most_bytes: int = 0) -> None:
        """Put the results into place without copying them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(self._folder / file_id, path)

    def delete_file(self, file_id: str) -> None:
        """Do nothing."""

    def can_see_file(self, _file_id: str) -> bool:
        """Return True for every file."""
        return True

    def find_files(self, _name: str) -> list[RemoteFile]:
        """Return no files: no upload is ever lost."""
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

    def request_completion(self, _endpoint: str, _body: Mapping[str, object]) -> CompletionResponse:
        """Raise NotImplementedError: only batches are answered."""
        raise NotImplementedError

    def find_stored_completion(self, _model: str, _metadata: Mapping[str, str]) -> bytes | None:
        """Return None: nothing is stored."""
        return None
