"""An example of a job: what to ask of whom, and which answers are good enough.

Batcher loads this file alone: it may use the standard library and pydantic, and nothing of batcher. It must define
`Artist` (with `prompt_values`), `Bio` and `accept`. Run `batcher plan --dry-run` after a change.
"""

from pydantic import BaseModel, ConfigDict, Field


class Artist(BaseModel):
    """One row of the table. Each field is a column; columns without a field are ignored."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # ids are numbers in many a table, and texts here

    artist_id: str = Field(min_length=1)
    artist_name: str = Field(min_length=1)
    priority: int = Field(default=3, ge=1)  # 1 is the most urgent
    born: int | None = None
    known_for: str | None = None

    def prompt_values(self) -> dict[str, str]:
        """What stands for {artist_name} and {facts} in user.md."""
        facts = [
            f"- born: {self.born}" if self.born else "",
            f"- known for: {self.known_for}" if self.known_for else "",
        ]
        return {
            "artist_name": self.artist_name,
            "facts": "\n".join(fact for fact in facts if fact) or "- nothing is known but the name",
        }


class Bio(BaseModel):
    """What the model gives back: strict structured output, so every field is needed and none has a default."""

    bio: str = Field(description="Two or three sentences.")


def accept(artist: Artist, bio: Bio) -> str | None:
    """None for a good answer; else why not, and the line is asked for again."""
    if len(bio.bio) < 40:
        return "the bio is shorter than a sentence"
    if artist.artist_name.casefold() not in bio.bio.casefold():
        return "the bio does not name the artist"
    return None
