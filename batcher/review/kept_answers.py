"""The answers as they came, beside what was recorded of them: what each said, and why it was refused.

Where `[results] keep_raw` was off, or a file is gone, the answer says so in the place of its text.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from batcher.core.endpoints.values import NO_JSON
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, JobVersion
from batcher.core.result_line import parse_body_text, parse_json_object, parse_line_text
from batcher.disk.direct_answers import read_direct_answers
from batcher.disk.result_archive import read_kept_lines
from batcher.state.db.store import Store
from batcher.state.review import answers
from batcher.state.review.answers import AnswerChoice, RecordedAnswer
from batcher.state.submissions import load_run_id
from batcher.state.versions import load_versions

REFUSED = (FailureClass.UNUSABLE, FailureClass.INVALID)
"""The classes of failures of answers that came and were refused. Of the others, no model has said anything."""
NOT_KEPT = "the text is not kept: its file is gone, or [results] keep_raw was false when it came"
NO_TEXT = "no text came"


class KeptAnswer(NamedTuple):
    """An answer as it was recorded, with its text."""

    record: RecordedAnswer
    text: str
    """All that the model has written, cut off or refused as it may be; "" where there is none."""
    lack: str
    """Why there is no text; "" where there is one."""


class FoundAnswers(NamedTuple):
    """The answers of a choice, the newest first, and how many there are in all."""

    answers: Sequence[KeptAnswer]
    total: int


def find_answers(store: Store, choice: AnswerChoice) -> FoundAnswers:
    """Return the answers of a choice with their texts. Raises StateError where there is no plan."""
    with store.read_transaction() as tx:
        records = answers.load_recorded_answers(tx, choice)
        is_cut = choice.most is not None and len(records) == choice.most
        total = answers.count_recorded_answers(tx, choice) if is_cut else len(records)
        versions, run = load_versions(tx), load_run_id(tx)
    texts = _read_texts(store.folder, run, records, versions)
    return FoundAnswers([_join_text(record, texts.get(record)) for record in records], total)


def _join_text(record: RecordedAnswer, text: str | None) -> KeptAnswer:
    """Return an answer with its text. text: None where none was found."""
    has_said = record.outcome in {"bio", "repeated", FailureClass.UNUSABLE}
    return KeptAnswer(record, text or "", "" if text else NOT_KEPT if text is None and has_said else NO_TEXT)


def _read_texts(
    folder: Path, run: str, records: Iterable[RecordedAnswer], versions: Mapping[int, JobVersion]
) -> Mapping[RecordedAnswer, str]:
    """Return the texts that are kept of these answers. Each file is read once."""
    of_batches: defaultdict[str, dict[str, RecordedAnswer]] = defaultdict(dict)
    of_calls: dict[tuple[int, str], RecordedAnswer] = {}
    for record in records:
        if record.batch_id is not None:
            of_batches[record.batch_id][record.custom_id] = record
        elif record.call is not None:
            of_calls[record.call, record.custom_id] = record
    texts: dict[RecordedAnswer, str] = {}
    for batch_id, lines in of_batches.items():
        with suppress(OSError):
            texts.update(_read_batch_texts(folder, batch_id, lines, versions))
    if of_calls:
        with suppress(OSError):
            texts.update(_read_call_texts(folder, run, of_calls, versions))
    return texts


def _read_batch_texts(
    folder: Path, batch_id: str, lines: Mapping[str, RecordedAnswer], versions: Mapping[int, JobVersion]
) -> Iterator[tuple[RecordedAnswer, str]]:
    endpoint = _endpoint_of(next(iter(lines.values())).version, versions)  # a batch asks at one
    for raw in read_kept_lines(folder, batch_id):
        custom_id, text = parse_line_text(raw, endpoint)
        if custom_id in lines:
            yield lines[custom_id], text


def _read_call_texts(
    folder: Path, run: str, calls: Mapping[tuple[int, str], RecordedAnswer], versions: Mapping[int, JobVersion]
) -> Iterator[tuple[RecordedAnswer, str]]:
    for answer in read_direct_answers(folder, run):
        record = calls.get((answer.call, answer.custom_id))
        if record is not None:
            reply = parse_json_object(answer.body) or NO_JSON
            yield record, parse_body_text(reply, _endpoint_of(answer.version, versions))


def _endpoint_of(version: int | None, versions: Mapping[int, JobVersion]) -> Endpoint:
    """Return the endpoint that a version asks at; that of most where the version is not known."""
    known = versions.get(version) if version is not None else None
    return known.endpoint if known is not None else Endpoint.CHAT
