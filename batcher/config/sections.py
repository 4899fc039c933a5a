"""The sections of batcher.toml with their keys, their defaults and their checks; all are frozen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo
from pydantic.functional_validators import AfterValidator, field_validator, model_validator

from batcher.catalog.request_keys import find_parameter_fault
from batcher.core.cutting import MAX_BYTES, MAX_LINES
from batcher.core.direct.workers import parse_workers
from batcher.core.failures import FailureClass
from batcher.core.model import Endpoint, Parameters
from batcher.core.retry import DEFAULT_POLICIES, RetryPolicy, RetryRules

EXAMPLE_MODELS: Mapping[Endpoint, str] = {
    Endpoint.EMBEDDINGS: "text-embedding-3-small",
    Endpoint.MODERATIONS: "omni-moderation-latest",
}
"""A model of each endpoint that answers in numbers: that of the default answers in words."""


class ConfigSection(BaseModel):
    """A table of batcher.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _reject_bool_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("true and false are no value of this key")
        return value


class JobSection(ConfigSection):
    """The job folder and its tables. done: a table of bios that exist; "": none. dedupe: whether rows that ask the same
    are asked once."""

    path: Path = Path("jobs/bios")
    input: Path = Path("jobs/bios/artists.csv")
    done: str = ""
    dedupe: bool = False


class ParametersSection(ConfigSection):
    """What a request asks of the model beside the prompt. It may have other keys of the endpoint. None: not sent."""

    model_config = ConfigDict(extra="allow")

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)

    def to_parameters(self) -> Parameters:
        """Return those that are set, in the same order for every file."""
        names = (*type(self).model_fields, *sorted(self.model_extra or {}))
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class ModelSection(ConfigSection):
    """The model and the endpoint that answer."""

    name: str = Field(default="gpt-6-luna", min_length=1)
    endpoint: Endpoint = Endpoint.CHAT
    max_output_tokens: int | None = Field(default=None, ge=1)
    """Of an answer, with what is thought before it. None: enough for both, by model and effort."""
    parameters: ParametersSection = ParametersSection()

    cache: Literal["auto", "off"] | None = None
    """auto: what all lines have in common is cached, where that is long enough. off: nothing is written to the cache.
    None: nothing is sent about it."""

    @field_validator("endpoint")
    @classmethod
    def _require_its_model(cls, value: Endpoint, info: ValidationInfo) -> Endpoint:
        if not value.takes_prompt and info.data.get("name") == cls.model_fields["name"].default:
            raise ValueError(f"{info.data['name']} answers in words; set name too, such as {EXAMPLE_MODELS[value]}")
        return value

    @field_validator("max_output_tokens", "cache")
    @classmethod
    def _reject_settings_of_prompts(cls, value: object, info: ValidationInfo) -> object:
        endpoint = info.data.get("endpoint", Endpoint.CHAT)
        if value is not None and not endpoint.takes_prompt:
            raise ValueError(f"it has no meaning for {endpoint}, where no model writes; remove it")
        return value

    @field_validator("parameters")
    @classmethod
    def _reject_unfit_keys(cls, value: ParametersSection, info: ValidationInfo) -> ParametersSection:
        if "endpoint" in info.data and (fault := find_parameter_fault(info.data["endpoint"], value.to_parameters())):
            raise ValueError(fault)
        return value

    @field_validator("cache")
    @classmethod
    def _reject_second_source(cls, value: str | None, info: ValidationInfo) -> str | None:
        parameters = info.data["parameters"].to_parameters() if "parameters" in info.data else {}
        twice = [key for key in ("prompt_cache_key", "prompt_cache_options") if key in parameters]
        if value is not None and twice:
            raise ValueError(f"[model.parameters] sets {twice[0]}, which cache sets too; remove one of them")
        return value


class LimitsSection(ConfigSection):
    """The room of the account, and the size of shards. None: from the table of tiers, or derived from it."""

    tier: int = Field(default=3, ge=1)
    threshold: float = Field(default=0.8, gt=0, le=1)
    margin: float = Field(default=0.10, ge=0, le=10)
    enqueued_tokens: int | None = Field(default=None, ge=1)
    lines_per_shard: int | None = Field(default=None, ge=1, le=MAX_LINES)
    bytes_per_shard: int | None = Field(default=None, ge=1, le=MAX_BYTES)
    tokens_per_shard: int | None = Field(default=None, ge=1)


class BudgetSection(ConfigSection):
    """The most dollars that are spent; 0: no bound."""

    max_usd: float = Field(default=0, ge=0)


class PolicySection(ConfigSection):
    """One row of the failure table: delays in seconds, and tries after the first (None: no limit)."""

    base_s: float = Field(ge=0)
    cap_s: float = Field(ge=0)
    tries: int | None = Field(default=None, ge=0)


def _retry_policy_field(failure: FailureClass) -> Any:
    policy = DEFAULT_POLICIES[failure]
    return Field(default=PolicySection(base_s=policy.base_s, cap_s=policy.cap_s, tries=policy.tries))


class RetrySection(ConfigSection):
    """The failure table, and its limits for all classes."""

    max_attempts: int = Field(default=8, ge=1)
    jitter_share: float = Field(default=0.10, ge=0, lt=1)
    storm_share: float = Field(default=0.05, ge=0, le=1)
    setup_share: float = Field(default=0.05, ge=0, le=1)
    setup_lines: int = Field(default=20, ge=1)
    more_room: int = Field(default=0, ge=0)
    """max_output_tokens of the next tries of a line whose answer was cut off; 0: unchanged."""
    rate_limit: PolicySection = _retry_policy_field(FailureClass.RATE_LIMIT)
    call: PolicySection = _retry_policy_field(FailureClass.CALL)
    outage: PolicySection = _retry_policy_field(FailureClass.OUTAGE)
    enqueued_limit: PolicySection = _retry_policy_field(FailureClass.ENQUEUED_LIMIT)
    shard_refused: PolicySection = _retry_policy_field(FailureClass.SHARD_REFUSED)
    quota: PolicySection = _retry_policy_field(FailureClass.QUOTA)
    server: PolicySection = _retry_policy_field(FailureClass.SERVER)
    expired: PolicySection = _retry_policy_field(FailureClass.EXPIRED)
    unusable: PolicySection = _retry_policy_field(FailureClass.UNUSABLE)
    resource_unavailable: PolicySection = _retry_policy_field(FailureClass.RESOURCE_UNAVAILABLE)

    @model_validator(mode="before")
    @classmethod
    def _fill_missing_keys(cls, data: Any) -> Any:
        """Fill the keys that a row of the table does not name with their defaults."""
        if not isinstance(data, dict):
            return data
        known = {f.value: {"base_s": p.base_s, "cap_s": p.cap_s, "tries": p.tries} for f, p in DEFAULT_POLICIES.items()}
        return {key: {**known.get(key, {}), **row} if isinstance(row, dict) else row for key, row in data.items()}

    def to_rules(self) -> RetryRules:
        """Return the table as the core reads it."""
        policies = dict(DEFAULT_POLICIES)
        for failure in FailureClass:
            if (section := getattr(self, failure.value, None)) is not None:
                policies[failure] = RetryPolicy(section.base_s, section.cap_s, section.tries)
        return RetryRules(
            policies, self.max_attempts, self.jitter_share, self.storm_share, self.setup_share, self.setup_lines
        )


class PauseSection(ConfigSection):
    """When sending pauses without a command of the user, and for how long."""

    threshold: float = Field(default=0.8, gt=0, le=1)
    """The share of the requests of a day that the direct lane uses before it pauses."""
    duration_hours: float = Field(default=24, gt=0)


class PilotSection(ConfigSection):
    """The sample that is sent before the rest. lines: its size; 0: none is sent."""

    lines: int = Field(default=200, ge=0)
    min_accepted: float = Field(default=0.9, ge=0, le=1)
    """The share of its answers that has to be accepted for the rest to be sent without a question."""


class BrakeSection(ConfigSection):
    """When too many answers of a prompt are of no use, nothing more is sent."""

    max_unusable: float = Field(default=0.2, gt=0, le=1)
    """The share of the newest judged answers of a prompt that may be of no use; 1: any."""
    window: int = Field(default=500, ge=20)
    """How many of the newest judged answers are looked at."""
    first_wave: float = Field(default=0.1, gt=0, le=1)
    """The share of the lines that is in flight at most until an answer of their prompt was judged; 1: all."""


class PollSection(ConfigSection):
    """The seconds between two listings of the batches."""

    interval_s: float = Field(default=30, gt=0)


class ApiSection(ConfigSection):
    """Calls of the service: time-out and grace in seconds."""

    timeout_s: float = Field(default=600, gt=0)
    reconcile_grace_s: float = Field(default=60, ge=0)
    delete_remote_files: bool = True


class ServiceSection(ConfigSection):
    """Which service answers, and in what it differs. None: as the profile has it."""

    profile: Literal["openai", "azure", "compatible"] | None = None
    """None: as OpenAI."""
    lacks: tuple[Literal["metadata", "list_batches", "list_files", "file_expiry", "delete_files"], ...] = ()
    """What the service does not have, besides what its profile lacks."""
    window: str | None = Field(default=None, min_length=1)
    """completion_window of a batch."""
    purpose: str | None = Field(default=None, min_length=1)
    """Of an input file."""

    @model_validator(mode="after")
    def _reject_lacks_of_openai(self) -> "ServiceSection":
        if self.lacks and self.profile in {None, "openai"}:
            raise ValueError('lacks describes a service other than OpenAI; set profile = "compatible" as well')
        return self


class DirectSection(ConfigSection):
    """The direct lane. rpm, tpm, daily_requests: upper bounds; 0: none but those in the headers of the service."""

    workers: Annotated[str | int, AfterValidator(parse_workers)] = "conservative"
    rpm: int = Field(default=5_000, ge=0)
    tpm: int = Field(default=4_000_000, ge=0)
    daily_requests: int = Field(default=0, ge=0)
    store: bool = False
    """Whether OpenAI stores the answers, so that those of a process that died are found and not paid for twice."""
    tail_lines: int = Field(default=100, ge=1)
    """`run --tail direct` hands over to the direct lane when fewer lines than this are left to send."""
    service_tier: Literal["auto", "flex"] = "auto"
    """auto: requests do not name a tier. flex: half price, and a refusal that costs nothing where it has no room."""
    flex_fallback: bool = False
    """Whether lines that flex refuses for too long are asked for without it, at the standard price."""


class LoggingSection(ConfigSection):
    """What the direct lane reports about the rate limits."""

    rate_limit_warnings: bool = True
    quota_every: int = Field(default=100, ge=0)
    """Answers between two reports of the rate-limit headers; 0: none is made."""


class NotifySection(ConfigSection):
    """Who is told of the end, stops, pauses and the like. command: gets one JSON object on its stdin; "": none."""

    command: str = ""
    urls: tuple[str, ...] = ()
    """As apprise reads them; needs `batcher[notify]`."""


class ResultsSection(ConfigSection):
    """Whether answers are kept as they came, of the batch lane as archives of its result files."""

    keep_raw: bool = True


class DeadlineSection(ConfigSection):
    """When the job should have ended, in hours after the first plan."""

    hours: float = Field(default=168, gt=0)


class StateSection(ConfigSection):
    """The folder of the state, the shard files and the results."""

    dir: Path = Path(".batcher")


class Config(ConfigSection):
    """All settings."""

    job: JobSection = JobSection()
    model: ModelSection = ModelSection()
    limits: LimitsSection = LimitsSection()
    budget: BudgetSection = BudgetSection()
    retry: RetrySection = RetrySection()
    pilot: PilotSection = PilotSection()
    brake: BrakeSection = BrakeSection()
    pause: PauseSection = PauseSection()
    poll: PollSection = PollSection()
    api: ApiSection = ApiSection()
    service: ServiceSection = ServiceSection()
    direct: DirectSection = DirectSection()
    logging: LoggingSection = LoggingSection()
    notify: NotifySection = NotifySection()
    results: ResultsSection = ResultsSection()
    deadline: DeadlineSection = DeadlineSection()
    state: StateSection = StateSection()
