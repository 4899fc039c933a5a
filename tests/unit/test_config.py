"""batcher.toml: what is taken, and the one sentence for each way in which it can be wrong."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batcher.catalog.limits import lookup_tier_limit
from batcher.config.derived import enqueued_token_limit, output_token_limit, shard_limits
from batcher.config.loading import load_config
from batcher.config.sections import Config, LimitsSection, RetrySection
from batcher.core.cutting import MAX_BYTES, MAX_LINES
from batcher.core.failures import FailureClass
from batcher.core.retry import DEFAULT_POLICIES
from batcher.errors import ConfigError
from tests.support.world import ROOT, config_with

SECTIONS = f"the sections are {', '.join(Config.model_fields)}"
LIMITS = f"[limits] has {', '.join(LimitsSection.model_fields)}"
RETRY = f"[retry] has {', '.join(RetrySection.model_fields)}"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BATCHER_")]:
        monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    path = folder / "batcher.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(path)
    return str(raised.value).replace(f"{path.parent}/", "")


def test_an_empty_file_gives_the_defaults_with_paths_from_its_folder(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, ""))
    assert config.job.path == tmp_path / "jobs/bios"
    assert config.job.input == tmp_path / "jobs/bios/artists.csv"
    assert config.job.done == ""
    assert config.state.dir == tmp_path / ".batcher"
    assert config.limits.tier == 3
    assert config.retry.to_rules().policies == DEFAULT_POLICIES


def test_an_absolute_path_stays(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, '[state]\ndir = "/elsewhere"')).state.dir == Path("/elsewhere")


def test_a_byte_order_mark_is_taken_for_what_it_is(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "\ufeff[limits]\ntier = 4")).limits.tier == 4


def test_a_row_of_the_failure_table_may_name_some_of_its_keys(tmp_path: Path) -> None:
    rules = load_config(written(tmp_path, "[retry.rate_limit]\ntries = 9")).retry.to_rules()
    policy = rules.policies[FailureClass.RATE_LIMIT]
    assert (policy.base_s, policy.cap_s, policy.tries) == (60, 300, 9)


EMBEDDINGS = "name = 'text-embedding-3-small'\nendpoint = '/v1/embeddings'"
MODERATIONS = "name = 'omni-moderation-latest'\nendpoint = '/v1/moderations'"
NUMBERS_REFUSED = [
    (
        "endpoint = '/v1/embeddings'",
        "",
        "model.endpoint = '/v1/embeddings' is not valid: gpt-6-luna answers in words; set name too, such as "
        "text-embedding-3-small",
    ),
    (
        "endpoint = '/v1/moderations'",
        "",
        "model.endpoint = '/v1/moderations' is not valid: gpt-6-luna answers in words; set name too, such as "
        "omni-moderation-latest",
    ),
    (
        EMBEDDINGS,
        "max_output_tokens = 600",
        "model.max_output_tokens = 600 is not valid: it has no meaning for /v1/embeddings, where no model writes; "
        "remove it",
    ),
    (
        MODERATIONS,
        "cache = 'auto'",
        "model.cache = 'auto' is not valid: it has no meaning for /v1/moderations, where no model writes; remove it",
    ),
    (
        EMBEDDINGS,
        "parameters = {temperature = 1}",
        "model.parameters = {'temperature': 1} is not valid: /v1/embeddings takes no temperature, its parameters are "
        "dimensions, encoding_format, user; remove it",
    ),
    (
        EMBEDDINGS,
        "parameters = {dimension = 256}",
        "model.parameters = {'dimension': 256} is not valid: /v1/embeddings takes no dimension; the nearest is "
        "dimensions",
    ),
    (
        EMBEDDINGS,
        "parameters = {input = 'x'}",
        "model.parameters = {'input': 'x'} is not valid: input is no parameter, as user.md is the text; remove it",
    ),
    (
        EMBEDDINGS,
        "parameters = {dimensions = 0}",
        "model.parameters = {'dimensions': 0} is not valid: dimensions is a whole number from 1 to 100,000",
    ),
    (
        EMBEDDINGS,
        "parameters = {encoding_format = 'hex'}",
        "model.parameters = {'encoding_format': 'hex'} is not valid: encoding_format is base64 or float",
    ),
    (
        MODERATIONS,
        "parameters = {user = 'me'}",
        "model.parameters = {'user': 'me'} is not valid: /v1/moderations takes no user, nor any other parameter; "
        "remove it",
    ),
    (
        EMBEDDINGS,
        "[direct]\nservice_tier = 'flex'",
        '/v1/embeddings has no flex processing; set service_tier = "auto" in [direct]',
    ),
]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[jobs]\n", f"batcher.toml: unknown key jobs; {SECTIONS}"),
        ("tier = 3\n", f"batcher.toml: unknown key tier; {SECTIONS}"),
        ('_env_file = "x"\n', f"batcher.toml: unknown key _env_file; {SECTIONS}"),
        ("self = 1\n", f"batcher.toml: unknown key self; {SECTIONS}"),
        ("[limits]\nteir = 3\n", f"batcher.toml: unknown key limits.teir; {LIMITS}"),
        ("[retry]\nsetup = 3\n", f"batcher.toml: unknown key retry.setup; {RETRY}"),
        ("[retry.typo]\ntries = 3\n", f"batcher.toml: unknown key retry.typo; {RETRY}"),
        (
            "[retry.server]\ntires = 3\n",
            "batcher.toml: unknown key retry.server.tires; [retry.server] has base_s, cap_s, tries",
        ),
        ("limits = 3\n", f"batcher.toml: limits must be a table; {LIMITS}"),
        (
            "[retry]\nserver = 3\n",
            "batcher.toml: retry.server must be a table; [retry.server] has base_s, cap_s, tries",
        ),
        (
            '[limits]\ntier = "x"\n',
            "batcher.toml: limits.tier = 'x' is not valid: input should be a valid integer, unable to parse string "
            "as an integer",
        ),
        (
            "[limits]\ntier = 0\n",
            "batcher.toml: limits.tier = 0 is not valid: input should be greater than or equal to 1",
        ),
        (
            "[limits]\nthreshold = 1.5\n",
            "batcher.toml: limits.threshold = 1.5 is not valid: input should be less than or equal to 1",
        ),
        (
            "[limits]\nthreshold = 0\n",
            "batcher.toml: limits.threshold = 0 is not valid: input should be greater than 0",
        ),
        (
            "[limits]\nthreshold = true\n",
            "batcher.toml: limits.threshold = True is not valid: true and false are no value of this key",
        ),
        (
            "[limits]\nlines_per_shard = 0\n",
            "batcher.toml: limits.lines_per_shard = 0 is not valid: input should be greater than or equal to 1",
        ),
        (
            "[limits]\nlines_per_shard = 50_001\n",
            "batcher.toml: limits.lines_per_shard = 50001 is not valid: input should be less than or equal to 50000",
        ),
        (
            "[limits]\nenqueued_tokens = 0\n",
            "batcher.toml: limits.enqueued_tokens = 0 is not valid: input should be greater than or equal to 1",
        ),
        (
            "[budget]\nmax_usd = nan\n",
            "batcher.toml: budget.max_usd = nan is not valid: input should be a finite number",
        ),
        (
            "[deadline]\nhours = inf\n",
            "batcher.toml: deadline.hours = inf is not valid: input should be a finite number",
        ),
        (
            '[model]\nendpoint = "/v1/completions"\n',
            "batcher.toml: model.endpoint = '/v1/completions' is not valid: input should be '/v1/chat/completions', "
            "'/v1/responses', '/v1/embeddings' or '/v1/moderations'",
        ),
        *((f"[model]\n{setting}\n{more}", f"batcher.toml: {sentence}") for setting, more, sentence in NUMBERS_REFUSED),
        (
            '[model]\nname = ""\n',
            "batcher.toml: model.name = '' is not valid: string should have at least 1 character",
        ),
        (
            "[model.parameters]\neffort = 'low'\n",
            "batcher.toml: model.parameters = {'effort': 'low'} is not valid: /v1/chat/completions takes no effort; "
            "the nearest is reasoning_effort",
        ),
        (
            "[model.parameters]\nmax_tokens = 7\n",
            "batcher.toml: model.parameters = {'max_tokens': 7} is not valid: max_tokens is no parameter, as [model] "
            "max_output_tokens sets it; remove it",
        ),
        (
            "[model.parameters]\nxyzzy = 7\n",
            "batcher.toml: model.parameters = {'xyzzy': 7} is not valid: /v1/chat/completions takes no xyzzy; "
            "remove it",
        ),
        (
            "[model.parameters]\nmetadata = { day = 2026-11-27 }\n",
            "batcher.toml: model.parameters = {'metadata': {'day': datetime.date(2026, 11, 27)}} is not valid: "
            "2026-11-27 is no value of JSON; write it as a text or a number",
        ),
        (
            "[model]\nendpoint = '/v1/responses'\n"
            "[model.parameters]\nreasoning_effort = 'low'\nreasoning.effort = 'high'\n",
            "batcher.toml: model.parameters = {'reasoning_effort': 'low', 'reasoning': {'effort': 'high'}} is not "
            "valid: reasoning_effort and reasoning.effort are the same; remove one of them",
        ),
        (
            "[model.parameters]\nreasoning_effort = 'lots'\n",
            "batcher.toml: model.parameters.reasoning_effort = 'lots' is not valid: input should be 'none', 'minimal', "
            "'low', 'medium', 'high', 'xhigh' or 'max'",
        ),
        (
            "[model.parameters]\nverbosity = 1\n",
            "batcher.toml: model.parameters.verbosity = 1 is not valid: input should be 'low', 'medium' or 'high'",
        ),
        (
            "[model.parameters]\ntemperature = 2.5\n",
            "batcher.toml: model.parameters.temperature = 2.5 is not valid: input should be less than or equal to 2",
        ),
        (
            "[model.parameters]\ntop_p = -0.1\n",
            "batcher.toml: model.parameters.top_p = -0.1 is not valid: input should be greater than or equal to 0",
        ),
        (
            "[model.parameters]\nseed = true\n",
            "batcher.toml: model.parameters.seed = True is not valid: true and false are no value of this key",
        ),
        (
            '[model]\nendpoint = "/v1/responses"\nparameters = { seed = 7 }\n',
            "batcher.toml: model.parameters = {'seed': 7} is not valid: /v1/responses takes no seed; remove it, or set "
            'endpoint = "/v1/chat/completions"',
        ),
        (
            "[model]\nmax_output_tokens = 0\n",
            "batcher.toml: model.max_output_tokens = 0 is not valid: input should be greater than or equal to 1",
        ),
        (
            f"[limits]\ntier = '{'x' * 500}'\n",
            f"batcher.toml: limits.tier = '{'x' * 56}... is not valid: input should be a valid integer, unable to "
            "parse string as an integer",
        ),
        (
            "[direct]\nservice_tier = 'flex'\n[model.parameters]\nservice_tier = 'auto'\n",
            "batcher.toml: [direct] and [model.parameters] both set service_tier; remove one of them",
        ),
        (
            "[model]\ncache = 'auto'\n[model.parameters]\nprompt_cache_options = {mode = 'explicit'}\n",
            "batcher.toml: model.cache = 'auto' is not valid: [model.parameters] sets prompt_cache_options, which "
            "cache sets too; remove one of them",
        ),
        (
            "[model]\ncache = 'on'\n",
            "batcher.toml: model.cache = 'on' is not valid: input should be 'auto' or 'off'",
        ),
        (
            "[limits]\ntier 3\n",
            "batcher.toml is not valid TOML: Expected '=' after a key in a key/value pair (at line 2, column 6); "
            "fix the line",
        ),
    ],
)
def test_refusals(tmp_path: Path, text: str, sentence: str) -> None:
    assert refusal(written(tmp_path, text)) == sentence


def test_a_file_that_is_missing_a_folder_or_not_text(tmp_path: Path) -> None:
    path = tmp_path / "batcher.toml"
    assert refusal(path) == "batcher.toml does not exist; `batcher init` writes one, --config names another"
    path.write_bytes(b"# one\n# caf\xe9\n")
    assert refusal(path) == "batcher.toml, line 2 is not UTF-8; save it as UTF-8"
    path.unlink()
    path.mkdir()
    assert refusal(path) == "batcher.toml is a folder; name a file with --config"
    monster = tmp_path / ("x" * 5_000)
    assert refusal(monster) == f"{'x' * 5_000} cannot be read: File name too long"


def test_the_environment_overrides_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHER_LIMITS__TIER", "5")
    monkeypatch.setenv("BATCHER_RETRY__SERVER__TRIES", "7")
    monkeypatch.setenv("batcher_api__delete_remote_files", "false")
    monkeypatch.setenv("BATCHER_STATE__DIR", "/else/where")
    config = load_config(written(tmp_path, "[limits]\ntier = 1\nmargin = 0.2"))
    assert (config.limits.tier, config.limits.margin) == (5, 0.2)
    assert (config.retry.server.tries, config.retry.server.cap_s) == (7, 4)
    assert (config.api.delete_remote_files, config.state.dir) == (False, Path("/else/where"))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "BATCHER_LIMITS__TIER",
            "many",
            "BATCHER_LIMITS__TIER in the environment: limits.tier = 'many' is not valid: input should be a valid "
            "integer, unable to parse string as an integer",
        ),
        (
            "BATCHER_LIMITS__TEIR",
            "3",
            f"BATCHER_LIMITS__TEIR in the environment: unknown key limits.teir; {LIMITS}",
        ),
        ("BATCHER_LIMTS__TIER", "3", f"BATCHER_LIMTS__TIER in the environment: unknown section limts; {SECTIONS}"),
        ("BATCHER_LIMITS", "3", "BATCHER_LIMITS in the environment sets nothing; keys are set as BATCHER_SECTION__KEY"),
        (
            "BATCHER_RETRY__SERVER",
            "3",
            "BATCHER_RETRY__SERVER in the environment: retry.server must be a table; [retry.server] has base_s, cap_s, "
            "tries",
        ),
    ],
)
def test_a_wrong_override_is_named_and_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    assert refusal(written(tmp_path, "")) == sentence


def test_secrets_are_no_settings(tmp_path: Path) -> None:
    sentence = refusal(written(tmp_path, '[api]\nkey = "sk-secret"'))
    assert "unknown key api.key" in sentence
    assert "sk-secret" not in sentence


@pytest.mark.parametrize(
    ("model", "tier", "limit"),
    [
        ("gpt-6-luna", 3, 40_000_000),
        ("gpt-4.1", 1, 90_000),
        ("gpt-4o-mini-2024-07-18", 2, 20_000_000),
        ("gpt-4o-mini-preview-x", 2, None),
        ("unheard-of", 3, None),
        ("gpt-6-luna", 6, None),
        ("gpt-5", 1, 900_000),
        ("gpt-5-2025-08-07", 1, 900_000),
        ("gpt-5", 2, None),
    ],
)
def test_the_table_of_tiers(model: str, tier: int, limit: int | None) -> None:
    assert lookup_tier_limit(model, tier) == limit


def test_every_tier_of_every_model_has_a_limit_that_grows() -> None:
    text = (ROOT / "batcher/data/limits.toml").read_text(encoding="utf-8")
    for group in tomllib.loads(text)["group"]:
        assert len(group["tiers"]) == (1 if group["models"] == ["gpt-5"] else 5)
        assert group["tiers"] == sorted(group["tiers"])


def test_an_unknown_model_asks_for_its_limit() -> None:
    config = config_with(model={"name": "unheard-of"}, limits={"tier": 2})
    with pytest.raises(ConfigError) as raised:
        enqueued_token_limit(config)
    assert str(raised.value) == (
        "the enqueued-token limit of unheard-of at tier 2 is not known; set enqueued_tokens under [limits] "
        "(Settings > Limits at OpenAI shows it)"
    )
    known = config_with(model={"name": "unheard-of"}, limits={"enqueued_tokens": 500_000})
    assert enqueued_token_limit(known) == 500_000


def test_a_tier_that_the_table_does_not_have_asks_for_the_limit_and_goes_with_one() -> None:
    with pytest.raises(ConfigError, match=r"at tier 9 is not known; set enqueued_tokens under \[limits\]"):
        enqueued_token_limit(config_with(limits={"tier": 9}))
    assert enqueued_token_limit(config_with(limits={"tier": 9, "enqueued_tokens": 5_000_000})) == 5_000_000


def test_shards_are_sized_so_that_24_fit_or_as_the_settings_say() -> None:
    derived = shard_limits(config_with(limits={"enqueued_tokens": 1_000_000, "threshold": 0.8, "margin": 0}))
    assert (derived.lines, derived.bytes, derived.tokens) == (MAX_LINES, MAX_BYTES, 33_333)
    given = {"lines_per_shard": 7, "bytes_per_shard": 8_000, "tokens_per_shard": 9_000}
    limits = shard_limits(config_with(limits=given))
    assert (limits.lines, limits.bytes, limits.tokens) == (7, 8_000, 9_000)


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    text = "[limits]\ntier = 0\nthreshold = 2\n[budget]\nmax_usd = -1\n[poll]\nevery = 3\n"
    text += "[direct]\nrpm = -1\nx = 1\ny = 1\n"
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    faults = str(caught.value).removeprefix(f"{tmp_path}/").split("; and ")
    assert [fault.partition(" = ")[0].partition(";")[0] for fault in faults] == [
        "batcher.toml: limits.tier", "limits.threshold", "budget.max_usd", "unknown key poll.every",
        "direct.rpm", "2 more",
    ]  # fmt: skip


def test_a_request_may_have_any_key_of_its_endpoint(tmp_path: Path) -> None:
    text = """
[model.parameters]
tools = [{ type = "function", function = { name = "look", parameters = { type = "object" } } }]
stop = ["END"]
store = false
temperature = 1
metadata = { team = "a" }
"""
    parameters = load_config(written(tmp_path, text)).model.parameters.to_parameters()
    assert list(parameters) == ["temperature", "metadata", "stop", "store", "tools"]
    assert (parameters["stop"], parameters["store"], parameters["metadata"]) == (["END"], False, {"team": "a"})


@pytest.mark.parametrize(
    ("endpoint", "reasoning"), [("/v1/chat/completions", "reasoning_effort"), ("/v1/responses", "reasoning.effort")]
)
def test_an_answer_has_room_for_what_is_thought_at_either_endpoint(
    tmp_path: Path, endpoint: str, reasoning: str
) -> None:
    def room(effort: str) -> int:
        text = f"[model]\nendpoint = '{endpoint}'\n[model.parameters]\n{reasoning} = '{effort}'\n"
        return output_token_limit(load_config(written(tmp_path, text)))

    assert room("none") < room("high")


def test_parameters_of_the_model_are_named_in_the_file_and_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_config(written(tmp_path, "")).model.parameters.to_parameters() == {}
    text = "[model.parameters]\nreasoning_effort = 'low'\ntemperature = 1\n"
    assert load_config(written(tmp_path, text)).model.parameters.to_parameters() == {
        "reasoning_effort": "low", "temperature": 1.0,
    }  # fmt: skip
    monkeypatch.setenv("BATCHER_MODEL__PARAMETERS__REASONING_EFFORT", "none")
    monkeypatch.setenv("BATCHER_MODEL__PARAMETERS__SEED", "7")
    assert load_config(written(tmp_path, text)).model.parameters.to_parameters() == {
        "reasoning_effort": "none", "temperature": 1.0, "seed": 7,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "effort", "room"),
    [
        ("gpt-4.1-mini", None, 600),
        ("gpt-4.1-mini", "high", 600),
        ("unheard-of", None, 600),
        ("gpt-6-luna", None, 4_000),
        ("gpt-6-luna-2026-07-01", None, 4_000),
        ("gpt-6-luna", "none", 600),
        ("gpt-6-luna", "low", 2_000),
        ("gpt-6-luna", "max", 32_000),
        ("gpt-5-mini", None, 4_000),
        ("gpt-5.1", None, 600),
        ("gpt-5.4-mini", "high", 10_000),
        ("gpt-5.4-pro", None, 10_000),
        ("gpt-5.1-codex-mini", None, 4_000),
        ("o3-mini", None, 4_000),
    ],
)
def test_an_answer_has_room_for_what_the_model_thinks_before_it(model: str, effort: str | None, room: int) -> None:
    parameters = {"reasoning_effort": effort} if effort else {}
    named = {"name": model, "parameters": parameters}
    assert output_token_limit(Config(model=named)) == room
    assert output_token_limit(config_with(model={**named, "max_output_tokens": 700})) == 700


def every_key(model: type[BaseModel], place: tuple[str, ...] = ()) -> dict[str, Any]:
    """Each key of the configuration and its default."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and len(place) < 1:
            found |= every_key(kind, (*place, name))
        else:
            found[".".join((*place, name))] = None if name == "parameters" else field.default  # its keys have none
    return found


def uncommented(path: Path) -> dict[str, dict[str, Any]]:
    """Return the file with every commented key switched on."""
    return tomllib.loads(re.sub(r"(?m)^#(?=\w+ = )", "", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["batcher.toml", "batcher/data/example/batcher.toml"])
def test_the_commented_files_hold_every_key_with_its_default(name: str) -> None:
    data = uncommented(ROOT / name)
    shown = {f"{section}.{key}" for section, keys in data.items() for key in keys}
    defaults = every_key(Config)
    assert shown == set(defaults)
    config = Config(**data)
    differing = {
        key
        for key, default in defaults.items()
        if default is not None and getattr(getattr(config, key.split(".")[0]), key.split(".")[1]) != default
    }
    assert differing == ({"job.path", "job.input"} if "example" in name else set())


@pytest.mark.parametrize("name", ["batcher.toml", "batcher/data/example/batcher.toml"])
def test_the_commented_files_set_nothing_but_the_job(name: str) -> None:
    data = tomllib.loads((ROOT / name).read_text(encoding="utf-8"))
    job = {"path", "input"}
    assert {key for keys in data.values() for key in keys} == (job | {"cache"} if "example" in name else job)
