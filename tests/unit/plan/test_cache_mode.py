"""Which lines get a cache breakpoint: by the settings, the model, and the length of what all have in common."""

from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batcher.catalog.limits import lookup_cache_minimum
from batcher.catalog.tokens import TokenCounter, count_fewest_tokens, count_tokens
from batcher.config.caching import find_cache_problem, takes_cache_breakpoints
from batcher.config.sections import Config
from batcher.core.model import CacheMode, Endpoint, JobVersion
from batcher.plan.cache_mode import choose_cache_mode
from tests.support.examples import examples
from tests.support.world import config_with, counter

LONG, SHORT = "Be short. " * 600, "Be short."
UNSET, EXPLICIT, BREAKPOINT = CacheMode


def version_of(system: str, model: str = "gpt-6-luna", **more: Any) -> JobVersion:
    made = JobVersion("bios", model, Endpoint.CHAT, 600, system, "{name}", {}, "")
    return made._replace(**more)


@pytest.mark.parametrize(
    ("cache", "version", "mode"),
    [
        (None, version_of(LONG), UNSET),
        ("auto", version_of(LONG), BREAKPOINT),
        ("auto", version_of(SHORT), EXPLICIT),
        ("off", version_of(LONG), EXPLICIT),
        ("auto", version_of(SHORT, schema={"description": LONG}), BREAKPOINT),  # the schema stands before it
        ("auto", version_of(SHORT, parameters={"tools": [{"description": LONG}]}), BREAKPOINT),
        ("auto", version_of("", schema={"description": LONG}), EXPLICIT),  # no message at whose end it could stand
        ("auto", version_of(LONG, "gpt-5.6-terra-2026-07-01"), BREAKPOINT),
        ("auto", version_of(LONG, "gpt-5.5"), UNSET),  # refuses the parameters
        ("off", version_of(LONG, "gpt-5-mini"), UNSET),
        ("auto", version_of(LONG, "llama-6"), UNSET),
    ],
)
def test_the_mode_follows_from_settings_model_and_length(
    cache: Literal["auto", "off"] | None, version: JobVersion, mode: CacheMode
) -> None:
    assert choose_cache_mode(cache, version, counter()) is mode


def test_the_shortest_prefix_has_1024_tokens_its_message_counted_in() -> None:
    enough = " ".join(["-"] * 1_020)
    (tokens,) = count_tokens([enough])
    assert (tokens, count_fewest_tokens(enough)) == (1_020, 0)  # only counting tells
    assert choose_cache_mode("auto", version_of(enough), counter()) is BREAKPOINT
    assert choose_cache_mode("auto", version_of(enough[:-2]), counter()) is EXPLICIT


def test_a_command_without_a_counter_starts_one_only_where_counting_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[TokenCounter] = []

    def start_counter() -> TokenCounter:
        started.append(TokenCounter())
        return started[-1]

    monkeypatch.setattr("batcher.plan.cache_mode.TokenCounter", start_counter)
    assert choose_cache_mode("auto", version_of(LONG), None) is BREAKPOINT
    assert choose_cache_mode("auto", version_of(SHORT), None) is EXPLICIT
    assert started == []
    assert choose_cache_mode("auto", version_of(" ".join(["-"] * 1_020)), None) is BREAKPOINT
    assert len(started) == 1


@examples(300)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("a b\n/c !\n/ d")
@example("1 22 333 4444 55555")
@example("don't I'LL we've")
@example("日本語 テキスト 한국어")
def test_the_words_are_no_more_than_the_tokens(text: str) -> None:
    assert count_fewest_tokens(text) <= count_tokens([text])[0]


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("gpt-6-luna", 1_024),
        ("gpt-5.6", 1_024),
        ("gpt-6.2-sol", 1_024),
        ("gpt-5.5", None),
        ("gpt-60", None),
        ("o3", None),
    ],
)
def test_models_from_gpt_5_6_on_take_breakpoints(model: str, least: int | None) -> None:
    assert lookup_cache_minimum(model) == least


@pytest.mark.parametrize(
    ("sections", "takes"),
    [
        ({}, True),
        ({"service": {"profile": "openai"}}, True),
        ({"service": {"profile": "compatible"}}, False),
        ({"service": {"profile": "azure"}}, False),
        ({"model": {"name": "text-embedding-3-small", "endpoint": "/v1/embeddings"}}, False),
    ],
)
def test_only_openai_is_known_to_take_breakpoints_of_prompts(sections: dict[str, Any], takes: bool) -> None:
    assert takes_cache_breakpoints(Config(**sections)) is takes


def test_a_setting_that_cannot_be_kept_is_one_sentence() -> None:
    elsewhere = config_with(model={"cache": "auto"}, service={"profile": "compatible"})
    assert find_cache_problem(elsewhere).startswith(
        '[model] cache = "auto" is not sent: [service] profile = "compatible" is not known to take cache breakpoints'
    )
    assert find_cache_problem(config_with(model={"name": "gpt-5-mini"})) == ""
    assert find_cache_problem(config_with(model={"name": "gpt-6-luna", "cache": "auto"})) == ""
    told = find_cache_problem(config_with(model={"name": "gpt-5-mini", "cache": "off"}))
    assert told.startswith('[model] cache = "off" is not sent: gpt-5-mini is not known to take cache breakpoints')
