"""What the tests of a job folder share: the source of a small job, and how its folder is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from batcher.job.job import Job

JOB = """\
from pydantic import BaseModel


class Artist(BaseModel):
    artist_id: str
    artist_name: str
    priority: int = 3
    born: int | None = None

    def prompt_values(self):
        return {"artist_name": self.artist_name}


class Bio(BaseModel):
    bio: str


def accept(artist, bio):
    return None if artist.artist_name in bio.bio else "does not name the artist"
"""

TEXT_JOB = JOB.partition("class Bio")[0].rstrip() + "\n"
"""The small job without an output model: answers are plain text."""

MESSAGES_JOB = (
    TEXT_JOB.partition("    def prompt_values")[0].rstrip()
    + """


def messages(row):
    return [
        {"role": "user", "content": "Artist: Bea"},
        {"role": "assistant", "content": "Bea painted."},
        {"role": "user", "content": [{"type": "text", "text": f"Artist: {row.artist_name}"}]},
    ]
"""
)
"""The small job of plain text whose requests have three messages of their own."""

WriteJob = Callable[..., Path]
"""The fixture `write_job`: what `write_small_job` takes after the folder."""


def write_small_job(
    folder: Path, job: str | bytes | None = JOB, system: Any = "Be brief.", user: Any = "Artist: {artist_name}"
) -> Path:
    """Write the job `painters` into a folder and return its own folder; a None leaves the file out."""
    painters = folder / "painters"
    painters.mkdir()
    for name, content in (("job.py", job), ("system.md", system), ("user.md", user)):
        if content is not None:
            (painters / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return painters


def artist(job: Job, **more: object) -> Any:
    """Return the artist that the job makes of a row; more: other columns of it."""
    return job.parse_artist_row({"artist_id": "a", "artist_name": "Ana", **more}, "t.csv, row 2")


ROW_JOB = """\
from pydantic import BaseModel, Field

ID = "ticket_id"


class Row(BaseModel):
    ticket_id: str
    subject: str | None = None
    body: str = Field(alias="Body text")
    urgency: int | None = None


class Answer(BaseModel):
    label: str


def accept(row, answer):
    return None if answer.label else "no label"
"""
"""A job with names of its own: a row without name and priority, whose fields are what user.md says."""


def write_ticket_job(folder: Path, job: str = ROW_JOB, user: str = "Subject: {subject}\n\n{body}") -> Path:
    """Write the job with names of its own into a folder, and return its own folder."""
    tickets = folder / "tickets"
    tickets.mkdir()
    for name, content in (("job.py", job), ("system.md", "Label the ticket."), ("user.md", user)):
        (tickets / name).write_text(content, encoding="utf-8")
    return tickets
