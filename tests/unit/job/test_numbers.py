"""Jobs whose answers are numbers: how they are loaded, and what becomes of an answer."""

from pathlib import Path

import pytest

from batcher.core.endpoints.embeddings import VectorLength
from batcher.core.endpoints.table import AnswerKind
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, Failure
from batcher.errors import JobError
from batcher.job.job import Job
from batcher.job.loading import load_job
from batcher.job.schema import output_column_types
from tests.support.job_kit import JOB, MESSAGES_JOB, TEXT_JOB, WriteJob, artist

E, M = Endpoint.EMBEDDINGS, Endpoint.MODERATIONS
NUMBERS = "\n\ndef accept(artist, numbers):\n    return None if numbers else 'nothing'\n"
FLAGS = '{"flagged":false,"hate":false,"hate_score":0.25}'


def load(folder: Path, endpoint: Endpoint) -> Job:
    return load_job(folder, endpoint)


def test_it_needs_no_system_prompt_and_no_check(write_job: WriteJob) -> None:
    folder = write_job(job=TEXT_JOB, system=None)
    vectors, flags = load(folder, E), load(folder, M)
    assert (vectors.answers, flags.answers) == (AnswerKind.VECTOR, AnswerKind.FLAGS)
    assert output_column_types(vectors) == {"embedding": "FLOAT[]"}
    assert list(output_column_types(flags))[:3] == ["flagged", "harassment", "harassment_threatening"]
    version = vectors.build_version("text-embedding-3-small", E, 0)
    assert (version.system, version.schema, version.max_output_tokens) == ("", {}, 0)
    with pytest.raises(JobError, match=r"system\.md is missing"):
        load_job(folder)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"job": TEXT_JOB}, "system.md has no use at /v1/embeddings, which takes one text: that of user.md; remove it"),
        (
            {"job": JOB, "system": None},
            "Bio of job.py has no use at /v1/embeddings, whose answers are numbers; remove it",
        ),
        (
            {"job": MESSAGES_JOB, "system": None},
            "messages(row) of job.py has no use at /v1/embeddings, which takes one text: write it into user.md",
        ),
        ({"job": TEXT_JOB, "system": None, "user": None}, "is no job: user.md is missing; `batcher init` writes an"),
        (
            {"job": TEXT_JOB + "\n\ndef accept(artist):\n    return None\n", "system": None},
            "accept(artist) does not take an artist and a vector; write accept(artist, vector), and return None to",
        ),
    ],
)
def test_what_has_no_use_is_refused(write_job: WriteJob, files: dict[str, str | None], sentence: str) -> None:
    with pytest.raises(JobError) as raised:
        load(write_job(**files), E)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("endpoint", "column"), [(E, "embedding"), (M, "flagged"), (M, "hate"), (M, "self_harm_intent_score")]
)
def test_a_column_of_the_answer_names_no_row(tmp_path: Path, endpoint: Endpoint, column: str) -> None:
    (tmp_path / "job.py").write_text(
        f"from pydantic import BaseModel\n\nID = '{column}'\n\n\nclass Row(BaseModel):\n    {column}: str\n"
    )
    (tmp_path / "user.md").write_text(f"{{{column}}}")
    with pytest.raises(JobError, match=f"ID names {column}, and `collect` writes a column of that name itself"):
        load(tmp_path, endpoint)


@pytest.mark.parametrize(
    ("endpoint", "text", "found"),
    [
        (E, "[0.5,-1]", '{"embedding":[0.5,-1]}'),
        (E, "[]", "nothing"),
        (E, "A bio.", "the answer is no vector: A bio."),
        (E, FLAGS, f"the answer is no vector: {FLAGS}"),
        (M, FLAGS, FLAGS),
        (M, "[0.5]", "the answer is no judgement: [0.5]"),
        (M, '{"text":"x"}', 'the answer is no judgement: {"text":"x"}'),
    ],
)
def test_an_answer_is_kept_as_columns_or_says_why_not(
    write_job: WriteJob, endpoint: Endpoint, text: str, found: str
) -> None:
    job = load(write_job(job=TEXT_JOB + NUMBERS, system=None), endpoint)
    data, failure = job.validate_answer(artist(job), text)
    assert found == (data or (failure and failure.message))
    assert failure is None or failure.failure is FailureClass.UNUSABLE


def test_a_vector_of_another_length_is_refused(write_job: WriteJob) -> None:
    job = load(write_job(job=TEXT_JOB, system=None), E)
    length = VectorLength()
    assert job.validate_answer(artist(job), "[1,2]", length) == ('{"embedding":[1,2]}', None)
    reason = "the vector has 1 numbers, where 2 are expected"
    assert job.validate_answer(artist(job), "[1]", length) == (
        None, Failure(FailureClass.UNUSABLE, "invalid_output", reason),
    )  # fmt: skip
