"""Kept answers judged again with today's job: what is accepted becomes a bio at no cost, a bio that is not is revoked.

Answers are judged while nothing is open: the user's code runs, and files are read. What was found goes to the disk, as
memory does not grow with the job; then short transactions change the lines that are still as they were judged, so that
a lane may work meanwhile. Where the user's code fails nothing is changed.
"""

import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import IO, NamedTuple, TypeVar

import orjson

from batcher.core.cutting import split_chunks
from batcher.core.model import Endpoint, Failure, LineResult
from batcher.core.result_line import parse_json_object, parse_response_body, parse_result_line
from batcher.disk.direct_answers import CallAnswer, read_direct_answers
from batcher.disk.result_archive import read_kept_lines
from batcher.job.job import Job, job_output_to_stderr
from batcher.nouns import current_nouns
from batcher.state.bios import load_vector_length
from batcher.state.db.store import Store
from batcher.state.following.settling import FollowerBio, load_follower_bios, settle_followers
from batcher.state.review import judging
from batcher.state.review.judging import AcceptedAnswer, AnswerToJudge, BatchToJudge, JudgementCounts, RefusedBio
from batcher.state.submissions import load_run_id
from batcher.state.versions import load_versions

GROUP_ANSWERS = 25_000
"""Answers of batches that are loaded together, one batch at least: each time reads all artists."""
CALLS = 5_000
"""Answers of the direct lane that are loaded together."""
MOST_NAMED = 20
"""Reasons, and artists, that are named of the bios that are refused now."""

Progress = Callable[[int], None]
"""Is called with the number of answers that are judged."""
Key = TypeVar("Key", bound=Hashable)
"""What names an answer in its file: a custom_id, or a call with it."""


class Judgement(NamedTuple):
    """What judging again has found, and what it has changed."""

    judged: int
    not_kept: int
    """Answers that could not be judged: none was kept, or its file is gone or damaged."""
    damaged: Sequence[str]
    """The files that cannot be read, each with the reason."""
    counts: JudgementCounts
    accepted: int
    """Lines that have a bio by this; 0 after a dry run."""
    revoked: int
    """Bios that were taken from their lines."""
    put_back: int
    """Lines that have their bio of an earlier run again, as the one that had replaced it was revoked."""


class LineChanges(NamedTuple):
    """Lines that a judgement has changed: as in `Judgement`."""

    accepted: int = 0
    revoked: int = 0
    put_back: int = 0


class VerdictSpool:
    """Verdicts on their way to the transaction, in a file that its owner closes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def append_row(self, row: AcceptedAnswer | RefusedBio) -> None:
        """Append a verdict."""
        self._file.write(orjson.dumps(tuple(row)) + b"\n")

    def read_rows(self) -> Iterator[list[object]]:
        """Yield the verdicts, from the first one, each with its values in order."""
        self._file.seek(0)
        return map(orjson.loads, self._file)


def judge_again(store: Store, job: Job, revoke: bool, dry_run: bool, progress: Progress) -> Judgement:
    """Judge the answers that are kept with today's job, and change the lines whose answers it judges otherwise.

    revoke: take the bios that are refused now from their lines. dry_run: change nothing. Raises JobError where the
    job's code fails, and StateError without a plan; then nothing was changed.
    """
    store.require_plan()
    with tempfile.TemporaryFile(dir=store.folder) as first, tempfile.TemporaryFile(dir=store.folder) as second:
        accepted, refused = VerdictSpool(first), VerdictSpool(second)
        judge = AnswerJudge(store, job, accepted, refused, progress)
        with job_output_to_stderr():
            judge.judge_batches()
            judge.judge_calls()
            judge.judge_followers()
            counts, changes = _change_lines(store, job, accepted, refused, revoke, dry_run)
    return Judgement(judge.judged, judge.count_missing(), judge.damaged, counts, *changes)


def _change_lines(
    store: Store, job: Job, accepted: VerdictSpool, refused: VerdictSpool, revoke: bool, dry_run: bool
) -> tuple[JudgementCounts, LineChanges]:
    """Return what the verdicts change, and how many lines they have changed."""
    if dry_run:
        with store.read_transaction() as tx:
            judging.stage_judgements(tx, accepted.read_rows(), refused.read_rows())
            return judging.count_judgements(tx, MOST_NAMED), LineChanges()
    revoked = 0
    lost: JudgementCounts | None = None
    if revoke:  # first, so that a line whose bio is revoked takes another answer that is accepted
        with store.transaction("revoke") as tx:
            judging.stage_judgements(tx, (), refused.read_rows())
            lost = judging.count_judgements(tx, MOST_NAMED)
            revoked = judging.revoke_refused_bios(tx)
            tx.record_event("judge", f"{current_nouns().answers} revoked: {revoked:,}")
    with store.transaction("judge") as tx:
        judging.stage_judgements(tx, accepted.read_rows(), () if revoke else refused.read_rows())
        counts = judging.count_judgements(tx, MOST_NAMED)
        bios = judging.accept_judged_answers(tx)
        bios += settle_followers(tx, job.accepts_kept_bio).given
        put_back = judging.put_back_earlier_bios(tx)
        earlier = f"{current_nouns().answers} of earlier runs put back: {put_back:,}"
        tx.record_event("judge", f"kept answers accepted: {bios:,}, {earlier}")
    return counts if lost is None else lost.with_accepted(counts), LineChanges(bios, revoked, put_back)


class AnswerJudge:
    """Reads the answers that are kept, each file once, and puts the verdicts that change something into two spools."""

    def __init__(
        self, store: Store, job: Job, accepted: VerdictSpool, refused: VerdictSpool, progress: Progress
    ) -> None:
        self._store, self._job, self._progress = store, job, progress
        self._accepted, self._refused = accepted, refused
        with store.read_transaction() as tx:
            versions = load_versions(tx)
            self._run_id = load_run_id(tx)
            self._lengths = {number: load_vector_length(tx, number, version) for number, version in versions.items()}
        self._endpoints: Mapping[int, Endpoint] = {number: version.endpoint for number, version in versions.items()}
        self._expected = 0
        self.judged = 0
        self.damaged: list[str] = []

    def count_missing(self) -> int:
        """Return how many answers were to be judged and are not kept."""
        return max(0, self._expected - self.judged)  # a lane may have recorded some meanwhile

    def judge_batches(self) -> None:
        """Judge the answers in the files of batches. Raises JobError where the job's code fails."""
        with self._store.read_transaction() as tx:
            batches = judging.load_batches_to_judge(tx)
        self._expected += sum(batch.answers for batch in batches)
        for group in _group_batches(batches):
            with self._store.read_transaction() as tx:
                answers = judging.load_batch_answers(tx, [batch.batch_id for batch in group])
            of_batch: dict[str | None, dict[str, AnswerToJudge]] = {batch.batch_id: {} for batch in group}
            for answer in answers:
                of_batch[answer.batch_id][answer.custom_id] = answer
            for batch in group:
                self._judge_batch(batch, of_batch[batch.batch_id])
                self._progress(self.judged)

    def _judge_batch(self, batch: BatchToJudge, answers: Mapping[str, AnswerToJudge]) -> None:
        endpoint = self._endpoints[batch.version]
        try:
            parsed = (parse_result_line(raw, endpoint) for raw in read_kept_lines(self._store.folder, batch.batch_id))
            found = ((result.custom_id, batch.version, result) for result in parsed if result is not None)
            self._judge_results(answers, found)
        except FileNotFoundError:
            return
        except OSError as error:
            self.damaged.append(f"{error.filename}: {error.strerror}")

    def judge_calls(self) -> None:
        """Judge the answers of the direct lane. Raises JobError where the job's code fails."""
        with self._store.read_transaction() as tx:
            self._expected += judging.count_call_answers(tx)
        try:
            for kept in split_chunks(read_direct_answers(self._store.folder, self._run_id), CALLS):
                with self._store.read_transaction() as tx:
                    answers = judging.load_call_answers(tx, [each.call for each in kept])
                of_call = {(answer.call, answer.custom_id): answer for answer in answers}
                self._judge_results(of_call, self._parse_calls(kept))
                self._progress(self.judged)
        except FileNotFoundError:
            return
        except OSError as error:
            self.damaged.append(f"{error.filename}: {error.strerror}")

    def judge_followers(self) -> None:
        """Judge the answers that rows have taken from others which ask the same. Raises JobError where the job's code
        fails."""
        rows = self._load_follower_bios(0)
        while rows:
            for row in rows:
                fault = self._job.judge_kept_bio(row.data, row.bio)
                if fault is not None:
                    self._refused.append_row(
                        RefusedBio(row.artist_id, row.batch_id, row.call, fault.code, fault.message)
                    )
            rows = self._load_follower_bios(rows[-1].seq)

    def _load_follower_bios(self, after: int) -> Sequence[FollowerBio]:
        with self._store.read_transaction() as tx:
            return load_follower_bios(tx, after)

    def _parse_calls(self, kept: Iterable[CallAnswer]) -> Iterator[tuple[tuple[int | None, str], int, LineResult]]:
        for each in kept:
            reply = parse_json_object(each.body)
            endpoint = self._endpoints.get(each.version)
            if reply is not None and endpoint is not None:
                result = parse_response_body(each.custom_id, reply, endpoint)
                yield (each.call, each.custom_id), each.version, result

    def _judge_results(
        self, answers: Mapping[Key, AnswerToJudge], results: Iterable[tuple[Key, int, LineResult]]
    ) -> None:
        """Judge the results of one file, each with the version that was asked. Of a line that stands there twice the
        first text that is accepted counts."""
        failures: dict[Key, Failure | None] = {}
        """Of each answer that was read: why it is refused, None where it is accepted."""
        for key, version, result in results:
            answer = answers.get(key)
            if answer is None or (key in failures and failures[key] is None):
                continue
            bio, failure = self._judge_result(answer, version, result)
            failures[key] = failure
            if bio is not None and answer.outcome != "bio":
                self._accepted.append_row(_accept_answer(answer, bio, result))
        self.judged += len(failures)
        for key, reason in failures.items():
            answer = answers[key]
            if reason is not None and answer.outcome == "bio":
                self._refused.append_row(
                    RefusedBio(answer.artist_id, answer.batch_id, answer.call, reason.code, reason.message)
                )

    def _judge_result(
        self, answer: AnswerToJudge, version: int, result: LineResult
    ) -> tuple[str | None, Failure | None]:
        """Return the bio as JSON, or why there is none."""
        if result.text is None:
            return None, result.failure
        artist = self._job.restore_artist(answer.data)
        return self._job.validate_answer(artist, result.text, self._lengths.get(version))


def _accept_answer(answer: AnswerToJudge, bio: str, result: LineResult) -> AcceptedAnswer:
    return AcceptedAnswer(
        answer.artist_id, answer.batch_id, answer.call, answer.state in judging.OPEN_STATES,
        bio, result.model, result.finish_reason, result.completed_at,
    )  # fmt: skip


def _group_batches(batches: Sequence[BatchToJudge]) -> Iterator[list[BatchToJudge]]:
    """Yield the batches in groups of GROUP_ANSWERS answers, or of one batch that has more."""
    group: list[BatchToJudge] = []
    answers = 0
    for batch in batches:
        if group and answers + batch.answers > GROUP_ANSWERS:
            yield group
            group, answers = [], 0
        group.append(batch)
        answers += batch.answers
    if group:
        yield group
