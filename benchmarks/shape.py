"""Result files of real shape and size: one answer for each line of a batch input file. Needs orjson alone."""

import random
from pathlib import Path

import orjson

NOW = 1_795_000_000.0
WORDS = (
    "a painter whose quiet interiors and long light made a name beyond the town where the work began and where it is "
    "still kept, in rooms that visitors remember for their calm, beside drawings, prints and letters to friends"
)
BIO_WORDS = 245
"""A length that makes a line of results 2.3 KB long, as measured."""


def write_answers(lines: Path, target: Path) -> int:
    """Write the results of a batch input file, and return how many."""
    count = 0
    with lines.open("rb") as source, target.open("wb") as results:
        for raw in source:
            line = orjson.loads(raw)
            results.write(answer(line["custom_id"], line["body"]["messages"][1]["content"]))
            count += 1
    return count


def answer(line_id: str, prompt: str) -> bytes:
    """Return one line of a result file in the API's shape."""
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
