"""`batcher doctor`: check everything that a run needs, and report of each what was found and what to do about it.

It changes nothing, here or at OpenAI, and one thing that is wrong does not keep it from checking the others. A service
that nobody has described is tried out with a file of one line, which is deleted again.
"""

import difflib
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from batcher.catalog.prices import resolve_prices
from batcher.commands.base.answer import CommandAnswer
from batcher.commands.base.notices import check_notifier
from batcher.commands.base.session import Session, read_service_address
from batcher.commands.tools.findings import BAD, NOTE, OK, Finding, check_job_state, check_table
from batcher.commands.tools.project_findings import check_project
from batcher.config.derived import enqueued_token_limit
from batcher.config.sections import Config
from batcher.config.services import find_service_profile
from batcher.errors import BatcherError, ExitCode
from batcher.job.loading import load_job
from batcher.service.address import DEFAULT_ADDRESS, is_unencrypted
from batcher.service.connecting import connect_service
from batcher.service.openai_service import OpenAIService
from batcher.service.service import CallError, CallRefused
from batcher.state import facts, shards
from batcher.state.db.store import Store
from batcher.state.snapshot import load_room
from batcher.views.sheet import format_count

if TYPE_CHECKING:
    from batcher.contracts.tools import DoctorAnswer
    from batcher.service.probing import ProbedAbility

SOON_DAYS = 30
"""A model that is shut down within this many days is noted."""
MOST_MODELS = 20
"""Models that are named where the one that is set is not known."""
CLOSE_MODELS = 5
"""Of these the ones that are named most like it, which come first."""
LEAST_FREE = 200_000_000
"""Bytes that must be free on the disk of the state: 42,888 lines take 100 MB of shards, and 100 MB of results while
they are read."""
ENOUGH_FREE = 2_000_000_000
"""Bytes from which on the free space is not worth a note."""


def run_health_checks(config: Config, store: Store, now: Callable[[], float] = time.time) -> list[Finding]:
    """Check everything, in the order in which a run needs it. now: returns epoch seconds."""
    return [
        *_check_job_folder(config),
        *_check_service(config, now()),
        *_check_enqueued_limit(config, store),
        *check_project(config, store),
        *_check_state_folder(config, store),
        *_check_notifier(config),
        _check_disk_space(store.folder),
    ]


def _check_job_folder(config: Config) -> Iterator[Finding]:
    try:
        job = load_job(config.job.path, config.model.endpoint)
    except BatcherError as error:
        yield Finding("job", BAD, str(error), "fix the job folder, or set [job] path")
        return
    yield Finding("job", OK, job.name)
    yield from check_table(config, job)


def _check_notifier(config: Config) -> Iterator[Finding]:
    """Yield who gets the notices of the job, where any are sent."""
    try:
        check_notifier(config)
    except BatcherError as error:
        yield Finding("notify", BAD, str(error), "install it, or remove the urls")
        return
    urls = len(config.notify.urls)
    ways = ["a command"] * bool(config.notify.command) + [format_count(urls, "url")] * bool(urls)
    if ways:
        yield Finding("notify", OK, f"the end, stops and pauses go to {' and '.join(ways)}")


def _check_service(config: Config, now: float) -> Iterator[Finding]:
    profile = find_service_profile(config)
    key, where = profile.find_key_variable(os.environ), profile.address_variable or "OPENAI_BASE_URL"
    if not key:
        wanted = profile.key_variables[0]
        yield Finding("key", BAD, f"{wanted} is not set", f"export your key ({profile.key_source})")
        return
    yield Finding("key", OK, f"{key} is set")
    try:
        service = connect_service(
            config.api.timeout_s, config.retry.to_rules(), time.sleep, random.random, profile=profile
        )
    except BatcherError as error:
        yield Finding("endpoint", BAD, str(error), f"set {key} and {where} anew")
        return
    origin = read_service_address(config)
    if is_unencrypted(origin):
        yield Finding("way", NOTE, f"key and prompts go to {origin} unencrypted", f"set {where} to https://")
    with closing(service):
        endpoint = _check_endpoint(service, origin, key, where)
        yield endpoint
        if endpoint.level == OK:
            yield _check_model(service, config.model.name, origin, now)
            yield _check_model_price(config)


def _check_endpoint(service: OpenAIService, address: str, key: str, where: str) -> Finding:
    """Check that the service answers. key, where: the variables that have the key and the address."""
    try:
        service.check_access()
    except CallError as error:
        if isinstance(error, CallRefused) and error.refuses_key:
            return Finding("endpoint", BAD, f"{address} refuses the key: {error}", f"check {key}")
        todo = f"check the network and {where}; status.openai.com tells of outages"
        return Finding("endpoint", BAD, f"{address} does not answer as it should: {error}", todo)
    return Finding("endpoint", OK, f"{address} answers")


def _check_model(service: OpenAIService, name: str, origin: str, now: float) -> Finding:
    """Check that the service knows the model. Only OpenAI's own list is known to name every model that it serves."""
    try:
        ends = service.fetch_shutdown_date(name)
    except CallError as error:
        return Finding("model", NOTE, f"{name} could not be looked up: {error}", "check it at platform.openai.com")
    if ends is None and origin != DEFAULT_ADDRESS:
        todo = "try it with a few lines: `batcher plan --limit 1`"
        return Finding("model", NOTE, f"{origin} does not list {name}, and may serve it all the same", todo)
    if ends is None:
        todo = f"set [model] name to one that it can use, then `batcher plan --replan`: {_list_models(service, name)}"
        return Finding("model", BAD, f"{name} is not known to the service, or not open to this key", todo)
    return _check_shutdown_date(name, ends, now)


def _list_models(service: OpenAIService, name: str) -> str:
    """Return the models that the key can use, those first that are named like the one that is not known."""
    try:
        names = service.list_models()
    except CallError as error:
        return f"the list could not be read ({error}); platform.openai.com has it"
    close = difflib.get_close_matches(name, names, n=CLOSE_MODELS, cutoff=0.4)
    listed = [*close, *(each for each in sorted(names) if each not in close)]
    rest = len(listed) - MOST_MODELS
    return f"{', '.join(listed[:MOST_MODELS])}{f' and {rest} more' if rest > 0 else ''}" or "it lists none"


def _check_shutdown_date(name: str, ends: str, now: float) -> Finding:
    try:
        day = date.fromisoformat(ends) if ends else None
    except ValueError:
        day = None
    if day is None:
        return Finding("model", OK, f"{name} is known, and no day is set for its end")
    left = (day - datetime.fromtimestamp(now, UTC).date()).days
    if left < 0:
        return Finding("model", BAD, f"{name} was shut down on {ends}", "set [model] name to its successor")
    if left <= SOON_DAYS:
        return Finding("model", NOTE, f"{name} is shut down on {ends}, in {left} days", "finish before, or change it")
    return Finding("model", OK, f"{name} is known until {ends}")


def _check_model_price(config: Config) -> Finding:
    name = config.model.name
    if resolve_prices(name) is not None:
        return Finding("price", OK, "batch prices are known")
    level = BAD if config.budget.max_usd > 0 else NOTE
    return Finding("price", level, f"the price of {name} is not known", "costs are not counted; leave [budget] at 0")


def _check_enqueued_limit(config: Config, store: Store) -> Iterator[Finding]:
    try:
        hint = _read_limit_hint(config, store)
        limit, source = enqueued_token_limit(config, hint), f"the table of tiers, tier {config.limits.tier}"
    except BatcherError as error:
        yield Finding("limit", BAD, str(error), "set [limits] enqueued_tokens")
        return
    if config.limits.enqueued_tokens is not None:
        source = "[limits] enqueued_tokens"
    elif hint:
        source = "what OpenAI named for the project at the last plan"
    try:
        with store.read_transaction() as tx:
            learned = load_room(tx, config).limit
    except BatcherError:
        learned = limit
    if learned != limit:
        found = f"{learned:,} enqueued tokens, as the service said within a day; {source} says {limit:,}"
        yield Finding("limit", NOTE, found, "set [limits] enqueued_tokens, or tier, to what Settings > Limits shows")
        return
    yield Finding("limit", OK, f"{limit:,} enqueued tokens ({source})")


def _read_limit_hint(config: Config, store: Store) -> int:
    """Return the batch tokens that OpenAI named to an admin key at the last plan; 0: none."""
    with suppress(BatcherError), store.read_transaction() as tx:
        return facts.read_limit_hint(tx, config.model.name)
    return 0


def _check_state_folder(config: Config, store: Store) -> Iterator[Finding]:
    if not store.exists():
        yield Finding("state", OK, f"no plan in {store.folder} yet", "`batcher plan` makes one")
        return
    try:
        with store.read_transaction() as tx:
            count = len(shards.load_shard_states(tx))
            origin = facts.read_service_origin(tx)
    except BatcherError as error:
        yield Finding("state", BAD, str(error), "do what the sentence says; nothing was changed")
        return
    if not os.access(store.folder, os.W_OK) or not os.access(store.path, os.W_OK):
        yield Finding("state", BAD, f"{store.path} cannot be written", "fix the rights of the state folder")
        return
    yield Finding("state", OK, f"{store.path} is sound, {format_count(count, 'shard')}")
    address = read_service_address(config)
    if origin and origin != address:
        todo = "set OPENAI_BASE_URL back, or --service-moved where it is the same service"
        yield Finding("service", BAD, f"this job's work is at {origin}, not at {address}", todo)
    yield from check_job_state(config, store)


def _check_disk_space(folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / 1e9:,.1f} GB are free at {there}"
    if free < LEAST_FREE:
        return Finding("disk", BAD, found, "make room: a job of 40,000 lines needs a quarter of a gigabyte")
    if free < ENOUGH_FREE:
        return Finding("disk", NOTE, found, "keep an eye on it")
    return Finding("disk", OK, found)


def draw_findings(findings: Sequence[Finding]) -> RenderableType:
    """Return the drawing of findings: a line each, and under it what to do."""
    marks = {"ok": "[green]ok   [/]", "note": "[yellow]note [/]", "wrong": "[red]wrong[/]"}
    parts: list[RenderableType] = []
    for finding in findings:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(min_width=5)
        grid.add_column(min_width=8)
        grid.add_column()
        grid.add_row(marks[finding.level], finding.what, escape(finding.found))
        if finding.todo:
            grid.add_row("", "", escape(f"-> {finding.todo}"))
        parts.append(grid)
    return Group(*parts)


def probe_unknown_service(config: Config) -> "list[ProbedAbility]":
    """Return what the service can do, tried out; nothing for one that is known, that is silent, or refuses the key."""
    from batcher.service.probing import is_unknown_service, probe_abilities

    profile = find_service_profile(config)
    is_known = profile.is_known and config.service.profile is not None
    if is_known or read_service_address(config) == DEFAULT_ADDRESS or not profile.find_key_variable(os.environ):
        return []
    try:
        rules = config.retry.to_rules()
        service = connect_service(config.api.timeout_s, rules, time.sleep, random.random, profile=profile)
    except BatcherError:  # a finding of its own
        return []
    with closing(service):
        return probe_abilities(service, config.model.name) if is_unknown_service(service) else []


def draw_probe(probed: "list[ProbedAbility]") -> RenderableType:
    """Return the drawing of what was tried out: a table, and the lines to write."""
    from batcher.service.probing import choose_settings

    marks = {True: "[green]yes[/]", False: "[red]no[/]", None: "[yellow]?[/]"}
    table = Table(title="What the service can do", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("ability", "", "answer", "what follows"):
        table.add_column(name)
    for each in probed:
        table.add_row(each.ability, marks[each.has], escape(each.found), each.follows)
    lines = choose_settings(probed)
    said = f"Write into batcher.toml:\n\n{escape(lines)}" if lines else "Nothing is to be set for it."
    return Group("", table, "", said)


def run_doctor(session: Session) -> "CommandAnswer[DoctorAnswer]":
    """Check everything that a run needs; the exit code is 2 when something is wrong."""
    from batcher.service.probing import choose_settings

    findings = run_health_checks(session.config, session.store)
    probed = probe_unknown_service(session.config)
    is_bad = any(finding.level == BAD for finding in findings)
    rows = [{"what": f.what, "level": f.level, "found": f.found, "do": f.todo} for f in findings]
    code = ExitCode.USAGE if is_bad else ExitCode.DONE

    def describe() -> "DoctorAnswer":
        from batcher.contracts.tools import DoctorAnswer

        tried = [each._asdict() for each in probed]
        settings = choose_settings(probed)
        return DoctorAnswer.model_validate({"findings": rows, "ok": not is_bad, "probed": tried, "settings": settings})

    def draw() -> RenderableType:
        return Group(draw_findings(findings), draw_probe(probed)) if probed else draw_findings(findings)

    return CommandAnswer(draw, describe, code)
