"""Which support tickets are labelled, and what a label is. Loaded alone: standard library and pydantic only."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

NOUNS = ("ticket", "label")  # what messages call a row, and what comes back for it
ID = "ticket_id"  # the field that differs in each row
NAME = "subject"  # the field that a row is called by; the id stands in where it is empty
PRIORITY = "priority"  # 1 is sent first


class Row(BaseModel):
    """A row of tickets.csv: a field for each column, and each field a value of user.md."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # ids are texts here, also where they are numbers

    ticket_id: str
    opened: date
    plan: Literal["free", "team", "enterprise"]
    priority: int = Field(default=3, ge=1)
    subject: str | None = None
    body: str


class Answer(BaseModel):  # the model fills in every field, and each becomes a column
    category: Literal["billing", "bug", "account", "security", "question", "wish", "other"]
    urgency: int = Field(ge=1, le=4)
    needs_person: bool
    summary: str = Field(description="One sentence.")


def accept(row: Row, answer: Answer) -> str | None:
    """Return None for a good answer, else why it is not good: then it is asked for, and paid for, again."""
    if len(answer.summary) < 15:
        return "the summary is no sentence"
    if answer.summary == row.subject:
        return "the summary only repeats the subject"
    if answer.category == "security" and not answer.needs_person:
        return "security is left to no person"
    return None
