"""Which articles get a vector, to be searched by. Loaded alone: standard library and pydantic only."""

from pydantic import BaseModel, ConfigDict

NOUNS = ("article", "vector")  # what messages call a row, and what comes back for it
ID = "article_id"  # the field that is another in each row
NAME = "title"  # the field that a row is called by


class Row(BaseModel):
    """A row of articles.csv: a field for each column, and each field a value of user.md, which is what is embedded."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # ids are texts here, also where they are numbers

    article_id: str
    title: str
    body: str


def accept(_row: Row, vector: list[float]) -> str | None:
    """Return None for a good vector, else why it is not good. OpenAI's vectors have length 1; a job may do without."""
    norm = sum(number * number for number in vector) ** 0.5
    return None if abs(norm - 1) < 0.01 else f"the vector has length {norm:.3f}, not 1"
