"""What can be set in the sandbox: its size and speed, the faults that it plays, and the dialect that it speaks.

All are frozen values. `apply_changes` makes a changed copy from JSON and refuses unknown names, naming the valid ones.
All times are seconds of the sandbox's clock, unless a comment says "real".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

LINE_KINDS = (
    "rate_limit",
    "insufficient_quota",
    "server",
    "request_timeout",
    "refusal",
    "length",
    "invalid_json",
    "empty",
    "content_policy",
    "context_length",
    "status_0",
    "resource_unavailable",  # only of requests for flex processing
)
CUTS = ("in_last_line", "in_line", "at_line")  # where a download that looks whole ends: 7 bytes early, or at half
OPERATIONS = ("upload", "create", "cancel", "delete", "list", "retrieve", "content", "direct")

# Of a dialect, the usual value first.
PAGING = ("after", "cursor", "unsaid", "one_page")
COUNTS = ("true", "zero", "stale", "all_failed", "completed_counts_failed", "none", "gone")
ERRORS = ("list", "array", "text")
STATUSES = ("usual", "synonyms", "upper")
TIMES = ("seconds", "iso")
ODD_OBJECTS = ("no_id", "no_time", "surrogates", "huge_numbers")

Rates = Mapping[str, float]
Span = tuple[float, float]


class SettingError(ValueError):
    """A setting or fault that does not exist, or a value that cannot be one."""


@dataclass(frozen=True)
class Faults:
    """Faults that the sandbox plays; all off by default."""

    line_failures: Rates = field(default_factory=dict)  # kind of LINE_KINDS -> share of the lines, 0..1
    poison: tuple[str, ...] = ()  # custom_ids that always answer 500
    transient_failures: bool = True  # a failing line fails at its first execution only (a 400 always)
    lose_answer: Rates = field(
        default_factory=dict
    )  # operation -> share of the calls that act, and whose answer is lost
    refuse_before: Rates = field(default_factory=dict)  # operation -> share answered 503 without effect
    reset_before: Rates = field(default_factory=dict)  # operation -> share whose connection closes without effect
    slow_s: float = 0.0  # real seconds before an answer is sent
    truncate_download: float = 0.0  # share of downloads cut off at half
    list_lag_s: float = 0.0  # seconds after its creation before a batch appears in lists
    late_create_s: float = 0.0  # with a lost answer: the batch is only created these seconds later
    file_not_ready_s: float = 0.0  # seconds for which a new file, an output file too, is "not found"
    drop_metadata: bool = False  # batches come back without their metadata
    corrupt_output: float = 0.0  # share of output lines that are followed by a malformed extra line
    expire_batches: tuple[int, ...] = ()  # ordinals (the first batch is 1) that stall at half and expire
    fail_batches: Mapping[int, str] = field(default_factory=dict)  # ordinal -> code of the batch error
    quota_gone_between: Span | None = None  # lines executed then answer 429 insufficient_quota
    outage_between: Span | None = None  # calls answer 503
    stuck_finalizing_s: float = 0.0  # added to the time in `finalizing`
    input_not_ready_s: float = 0.0  # seconds for which `create` cannot find a new file that every other call knows
    late_files_s: float = 0.0  # seconds after its end until an expired batch shows its result files
    cut_output: Rates = field(default_factory=dict)  # kind of CUTS -> share of the downloads of result files
    lone_surrogates: float = 0.0  # share of the JSON answers with half a surrogate pair, escaped, in their longest text
    nul_texts: float = 0.0  # share of the JSON answers with an escaped NUL in their longest text
    quoted_text: str = ""  # what the errors of batches and lines quote: the caller's key, or an escape sequence
    redirect_posts: str = ""  # an origin ("http://other:1") to which every POST is redirected by 307

    def __post_init__(self) -> None:
        _check_fault_rates("line_failures", self.line_failures, LINE_KINDS)
        _check_fault_rates("cut_output", self.cut_output, CUTS)
        for name in ("lose_answer", "refuse_before", "reset_before"):
            _check_fault_rates(name, getattr(self, name), OPERATIONS)
        for name in ("truncate_download", "corrupt_output", "lone_surrogates", "nul_texts"):
            _check_fault_rate(name, getattr(self, name))


@dataclass(frozen=True)
class Dialect:
    """How servers speak that are not OpenAI's; by default as OpenAI's does."""

    body_as_text: bool = False  # the body of a result line is JSON text in a string
    status_in_words: bool = False  # a failed line has no response, and its status only in the error's message
    paging: str = "after"  # cursor: `paging.next_cursor`, neither limit nor after; unsaid, one_page: no has_more
    page_size: int = 20  # of pages by cursor
    largest_limit: Mapping[str, int] = field(default_factory=dict)  # "batches", "files" -> a larger `limit` is a 422
    frozen_listing: bool = False  # a list shows each batch as it was when it was last retrieved by itself
    odd_objects: tuple[str, ...] = ()  # kinds of ODD_OBJECTS, somebody else's, that lead each list
    counts: str = "true"  # what the counts of an ended batch say; none: never any; gone: none once it has ended
    errors: str = "list"  # the form of a batch's `errors`: {"data": [...]}, a bare array, a text
    statuses: str = "usual"  # synonyms: scheduling, succeeded, canceled; upper: in capitals
    times: str = "seconds"  # iso: ISO 8601 texts
    omitted: tuple[str, ...] = ()  # fields that no Batch object has
    create_fields: tuple[str, ...] = ()  # the only fields of the answer to create; none: all of them

    def __post_init__(self) -> None:
        for name, valid in _CHOICES.items():
            _check_choice(name, getattr(self, name), valid)
        for kind in self.odd_objects:
            _check_choice("odd_objects", kind, ODD_OBJECTS)
        for key in self.largest_limit:
            _check_choice("largest_limit", key, ("batches", "files"))


_CHOICES = {"paging": PAGING, "counts": COUNTS, "errors": ERRORS, "statuses": STATUSES, "times": TIMES}


@dataclass(frozen=True)
class SandboxSettings:
    """The size and the speed of the sandbox."""

    seed: int = 0  # of answers, faults and durations; with the salt, of ids
    id_salt: str = ""  # ids are drawn from the seed and this: two starts with other salts share none
    speed: float = 1.0  # sandbox seconds for one real second; for `scaled_clock`
    tier: int = 3
    enqueued_tokens: int | None = None  # queue limit of every model; None: by model and tier
    limits: Mapping[str, int] = field(default_factory=dict)  # model -> queue limit, above the table
    phantom_tokens: int = 0  # of each queue, used by others
    cache_writes: float = 0.0  # share of the prompts whose input is billed as written to the cache, if not read from it
    reasoning_tokens: int = 0  # of each answer, about: thought before it and billed with it, within its maximum
    refuse_at_create: bool = False  # over the limit: HTTP 400 at create, as Azure does, not a failed batch
    accept_missing_input: bool = False  # no input file: the batch is made, and fails, as OpenAI's did in August 2025
    validating_s: Span = (5.0, 30.0)
    service_s: Span = (600.0, 5400.0)
    finalizing_s: Span = (5.0, 60.0)
    cancelling_s: Span = (5.0, 120.0)
    rpm: int = 5000  # direct requests a minute, per model
    tpm: int = 4_000_000  # direct tokens a minute, per model
    rpd: int | None = None  # direct requests a day, per model
    batches_per_hour: int = 2000
    uploads_per_minute: int = 1000
    max_lines: int = 50_000
    max_batch_bytes: int = 209_715_200
    max_upload_bytes: int = 512 * 1024 * 1024
    api_key: str | None = None  # None: any bearer that is not empty
    admin_key: str | None = None  # of the organization's endpoints; None: any bearer that begins with "sk-admin"
    spend_limit_usd: float | None = None  # a month's hard limit of the project; None: it has none
    enabled_tiers: tuple[str, ...] = ("flex", "fast", "ultrafast")  # service tiers of the project beside the standard
    organization: str = "org-sandbox"
    project: str = "proj_sandbox"
    faults: Faults = field(default_factory=Faults)
    dialect: Dialect = field(default_factory=Dialect)

    def __post_init__(self) -> None:
        _check_fault_rate("cache_writes", self.cache_writes)
        if self.reasoning_tokens < 0:
            raise SettingError(f"reasoning_tokens must be 0 or more, not {self.reasoning_tokens!r}")

    @property
    def id_seed(self) -> str:
        """What ids are drawn from."""
        return f"{self.seed}{self.id_salt}"


def _check_choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise SettingError(f"{name} must be one of {', '.join(valid)}, not {value!r}")


def _check_fault_rate(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingError(f"{name} must be a share between 0 and 1, not {value!r}")


def _check_fault_rates(name: str, rates: Rates, valid: tuple[str, ...]) -> None:
    for key, value in rates.items():
        if key not in valid:
            raise SettingError(f"unknown name {key!r} in {name}; valid: {', '.join(valid)}")
        _check_fault_rate(f"{name}.{key}", value)


DEFAULT_SETTINGS = SandboxSettings()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _to_span(name: str, value: object) -> Span:
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value)):
        return (float(value[0]), float(value[1]))
    raise SettingError(f"{name} must be two numbers, not {value!r}")


def _to_optional_span(name: str, value: object) -> Span | None:
    return None if value is None else _to_span(name, value)


def _to_number(name: str, value: object) -> float:
    if isinstance(value, int | float) and _is_number(value):
        return value
    raise SettingError(f"{name} must be a number, not {value!r}")


def _to_optional_number(name: str, value: object) -> float | None:
    return None if value is None else _to_number(name, value)


def _to_int(name: str, value: object) -> int:
    if isinstance(value, int) and _is_number(value):
        return value
    raise SettingError(f"{name} must be a whole number, not {value!r}")


def _to_optional_int(name: str, value: object) -> int | None:
    return None if value is None else _to_int(name, value)


def _to_bool(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise SettingError(f"{name} must be true or false, not {value!r}")


def _to_text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise SettingError(f"{name} must be text, not {value!r}")


def _to_optional_text(name: str, value: object) -> str | None:
    return None if value is None else _to_text(name, value)


def _mapping_items(name: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items()]
    raise SettingError(f"{name} must be an object, not {value!r}")


def _list_elements(name: str, value: object) -> list[object]:
    if isinstance(value, list | tuple):
        return list(value)
    raise SettingError(f"{name} must be a list, not {value!r}")


def _to_rates(name: str, value: object) -> Rates:
    return MappingProxyType({key: _to_number(f"{name}.{key}", item) for key, item in _mapping_items(name, value)})


def _to_queue_limits(name: str, value: object) -> Mapping[str, int]:
    return MappingProxyType({key: _to_int(f"{name}.{key}", item) for key, item in _mapping_items(name, value)})


def _to_fail_batches(name: str, value: object) -> Mapping[int, str]:
    items = _mapping_items(name, value)
    if not all(key.isdigit() for key, _ in items):
        raise SettingError(f"{name} maps ordinals of batches (the first is 1) to error codes, not {value!r}")
    return MappingProxyType({int(key): _to_text(f"{name}.{key}", item) for key, item in items})


def _to_texts(name: str, value: object) -> tuple[str, ...]:
    return tuple(_to_text(name, item) for item in _list_elements(name, value))


def _to_ints(name: str, value: object) -> tuple[int, ...]:
    return tuple(_to_int(name, item) for item in _list_elements(name, value))


def _to_faults(_name: str, value: object) -> Faults:
    return value if isinstance(value, Faults) else apply_changes(Faults(), dict(_mapping_items("faults", value)))


def _to_dialect(_name: str, value: object) -> Dialect:
    return value if isinstance(value, Dialect) else apply_changes(Dialect(), dict(_mapping_items("dialect", value)))


# By the annotation of a field, as written above: how JSON becomes its value.
_READERS: Mapping[object, Callable[[str, object], object]] = {
    Rates: _to_rates,
    Mapping[str, int]: _to_queue_limits,
    Mapping[int, str]: _to_fail_batches,
    tuple[str, ...]: _to_texts,
    tuple[int, ...]: _to_ints,
    Span: _to_span,
    Span | None: _to_optional_span,
    bool: _to_bool,
    int: _to_int,
    int | None: _to_optional_int,
    float: _to_number,
    float | None: _to_optional_number,
    str: _to_text,
    str | None: _to_optional_text,
    Faults: _to_faults,
    Dialect: _to_dialect,
}

_Value = TypeVar("_Value", Faults, Dialect, SandboxSettings)


def apply_changes(value: _Value, changes: Mapping[str, object]) -> _Value:
    """Return a copy with the named fields replaced by what the JSON values say; raise SettingError for a bad one."""
    readers = {each.name: _READERS[each.type] for each in fields(value)}
    unknown = sorted(set(changes) - set(readers))
    if unknown:
        raise SettingError(f"unknown name {', '.join(unknown)}; valid: {', '.join(sorted(readers))}")
    read: dict[str, Any] = {name: readers[name](name, item) for name, item in changes.items()}
    return replace(value, **read)


def settings_to_json(value: Faults | Dialect | SandboxSettings) -> dict[str, object]:
    """Return the fields as JSON values; what is or may be a key is masked."""
    found = {each.name: _to_json_value(getattr(value, each.name)) for each in fields(value)}
    return found | {name: "***" for name in ("api_key", "admin_key", "quoted_text") if found.get(name)}


def _to_json_value(value: object) -> object:
    if isinstance(value, Faults | Dialect):
        return settings_to_json(value)
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
