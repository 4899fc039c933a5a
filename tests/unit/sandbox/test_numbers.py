"""The sandbox's endpoints that answer in numbers, as OpenAI's own client calls them."""

import math
from array import array
from base64 import b64decode
from pathlib import Path

import openai
import pytest

from batcher.sandbox.answers.numbers import make_vector
from batcher.sandbox.answers.requests import EMBEDDINGS
from batcher.sandbox.api.validation import MOST_INPUTS, check_input_file
from batcher.sandbox.base.settings import SandboxSettings
from tests.support.sandbox_kit import bench

SMALL = "text-embedding-3-small"


def test_a_text_has_one_vector_of_length_one() -> None:
    one, same, other = (make_vector(text, 256) for text in ("a", "a", "b"))
    assert one == same != other
    assert len(one) == 256
    assert math.sqrt(sum(x * x for x in one)) == pytest.approx(1, abs=1e-6)


def test_vectors_are_answered_in_both_forms(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        found = it.client.embeddings.create(model=SMALL, input=["one", "two"], dimensions=8)
        assert [array("f", each.embedding) for each in found.data] == [make_vector("one", 8), make_vector("two", 8)]
        raw = it.raw("POST", EMBEDDINGS, json={"model": SMALL, "input": "one", "encoding_format": "base64"}).json()
        assert array("f", b64decode(raw["data"][0]["embedding"])) == make_vector("one", 1_536)
        plain = it.raw("POST", EMBEDDINGS, json={"model": SMALL, "input": "one"}).json()
        assert len(plain["data"][0]["embedding"]) == 1_536
        assert plain["usage"] == {"prompt_tokens": 1, "total_tokens": 1} and "service_tier" not in plain
        assert it.sandbox.ledger.billed_usd == pytest.approx(4 * 0.02e-6)


def test_a_moderation_is_free(tmp_path: Path) -> None:
    with bench(tmp_path) as it:
        (harmful,) = it.client.moderations.create(model="omni-moderation-latest", input="pure hate").results
        (harmless,) = it.client.moderations.create(model="omni-moderation-latest", input="a garden").results
        assert (harmful.flagged, harmful.categories.hate, harmful.categories.sexual) == (True, True, False)
        assert harmful.category_scores.hate >= 0.8 > harmful.category_scores.sexual
        assert not harmless.flagged
        assert it.sandbox.ledger.billed_usd == 0


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"input": "a", "encoding_format": "hex"}, "Supported values are: 'float', 'base64'"),
        ({"input": "a", "dimensions": 1_537}, "dimensions"),
        ({"input": "a", "dimensions": "8"}, "dimensions"),
        ({"input": "a", "dimensions": 8, "model": "text-embedding-ada-002"}, "does not support specifying dimensions"),
        ({"input": "b" * 40_000}, "maximum context length is 8192 tokens, however you requested 9303 tokens"),
        ({"input": ["a", ""]}, "'$.input' is invalid"),
        ({"input": ["a"] * 2_049}, "'$.input' is invalid"),
        ({"input": ""}, "input"),
        ({}, "input"),
    ],
)
def test_what_the_service_refuses_is_refused(tmp_path: Path, body: dict[str, object], sentence: str) -> None:
    with bench(tmp_path) as it, pytest.raises(openai.BadRequestError, match=sentence.replace("$", r"\$")):
        it.client.post("/embeddings", cast_to=object, body={"model": SMALL, **body})


@pytest.mark.parametrize(("lines", "inputs", "is_refused"), [(25, 2_000, False), (25, 2_001, True)])
def test_a_batch_takes_so_many_texts_over_all_its_lines(
    tmp_path: Path, lines: int, inputs: int, is_refused: bool
) -> None:
    path = tmp_path / "lines.jsonl"
    texts = ",".join(['"a"'] * inputs)
    line = '{"custom_id":"%d","method":"POST","url":"/v1/embeddings","body":{"model":"%s","input":[%s]}}\n'
    path.write_text("".join(line % (n, SMALL, texts) for n in range(lines)))
    found = check_input_file(path, EMBEDDINGS, lambda _: True, SandboxSettings())
    assert [error["code"] for error in found.errors] == (["too_many_tasks"] if is_refused else [])
    assert MOST_INPUTS == 50_000
